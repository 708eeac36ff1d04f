"""`wharf brain import` and `export`: from a live etcd to a store of brain, and back.

The first signal while a migration follows its source is the wish to cut over; at any other time it ends the command.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wharf.brain.commands.running import (
    CommandFailed,
    check_login_flags,
    check_tls_files,
    interruptible,
    load_checked,
    run,
    shown,
)
from wharf.brain.engine.url import ENGINE_URL
from wharf.common.config import Schema, option
from wharf.common.parsers import BOOLEAN, DURATION, FILE, PATH, STRING, Url, integer, urls

if TYPE_CHECKING:
    from wharf.brain.migrate.client import Access
    from wharf.brain.migrate.following import Stop
    from wharf.brain.migrate.progress import View
    from wharf.brain.migrate.shapes import Ending

_URLS: Final = urls("http", "https")
_ANSWER_SECONDS: Final = 3.0  # for a first answer: a wrong address should not take a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingOptions:
    """What both directions share."""

    source: tuple[Url, ...] = option(
        _URLS, (), help="Endpoints of the etcd (3.4 or newer) or brain to copy; required.", group="Source", flag="from"
    )
    cacert: Path | None = option(FILE, None, help="CA of the source's certificate, PEM.", group="Source")
    cert: Path | None = option(FILE, None, help="Client certificate, PEM.", group="Source")
    key: Path | None = option(FILE, None, help="Its key, PEM.", group="Source")
    user: str = option(STRING, "", help="User with the root role, where the source wants a login.", group="Source")
    password_file: Path | None = option(FILE, None, help="File that holds the user's password.", group="Source")

    follow: bool = option(
        BOOLEAN, True, help="Go on with what is written after the copy was begun, until cut-over.", group="Cut-over"
    )
    no_follow: bool = option(BOOLEAN, False, help="Copy one revision and end; as --follow=false.", group="Cut-over")
    cut_over: bool = option(
        BOOLEAN,
        False,
        help="End by itself as soon as everything is copied and the source has stood still for --quiet.",
        group="Cut-over",
    )
    quiet: float = option(DURATION, 3.0, help="How long the source must stand still for --cut-over.", group="Cut-over")
    until_revision: int = option(
        integer(0), 0, help="End at exactly this revision of the source; 0: none.", group="Cut-over"
    )

    def __post_init__(self) -> None:
        _check_endpoints("", self.source, "from")
        check_login_flags("", self.user, self.password_file, self.cert, self.key)
        if self.quiet <= 0:
            raise ValueError("--quiet must be more than 0")
        if not self.follows and (self.cut_over or self.until_revision):
            raise ValueError("--no-follow ends by itself: leave out --cut-over and --until-revision")

    @property
    def follows(self) -> bool:
        return self.follow and not self.no_follow


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions(MovingOptions):
    data_dir: Path = option(PATH, Path("default.wharf"), help="Directory of the new store.", group="Target")
    engine: str = option(
        ENGINE_URL, "", help="Engine of the new store instead of LMDB in --data-dir: postgresql://….", group="Target"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(MovingOptions):
    prefix: str = option(STRING, "", help="Only keys that begin with this.", group="Source")
    to: tuple[Url, ...] = option(_URLS, (), help="Endpoints of the etcd to write to; required.", group="Target")
    to_cacert: Path | None = option(FILE, None, help="CA of the target's certificate, PEM.", group="Target")
    to_cert: Path | None = option(FILE, None, help="Client certificate, PEM.", group="Target")
    to_key: Path | None = option(FILE, None, help="Its key, PEM.", group="Target")
    to_user: str = option(STRING, "", help="User with the root role, where the target wants a login.", group="Target")
    to_password_file: Path | None = option(FILE, None, help="File that holds the user's password.", group="Target")
    force: bool = option(
        BOOLEAN,
        False,
        help="First DELETE what the target holds under --prefix; without a prefix, everything.",
        group="Target",
    )

    def __post_init__(self) -> None:
        MovingOptions.__post_init__(self)
        _check_endpoints("to-", self.to, "to")
        check_login_flags("to-", self.to_user, self.to_password_file, self.to_cert, self.to_key)


_STEPS: Final = (
    "It copies one consistent revision, then follows every write until cut-over. When it says that it has caught up, "
    "stop the source's writers and press Ctrl-C (or send SIGTERM): it takes what was written until then, compares both "
    "sides and ends with code 0."
)
_IMPORT: Final = Schema(
    shape=ImportOptions,
    program="wharf brain import",
    service="brain_import",
    summary="Make a store of brain out of a running etcd, with the same revisions, versions and leases, so that "
    f"clients go on where they were.\n\n{_STEPS} Then start brain on the target.\n\nFor kube-apiserver: when caught "
    "up, stop every kube-apiserver, press Ctrl-C, start brain, start the kube-apiservers with its address in "
    "--etcd-servers. resourceVersions stay valid.",
    epilog="Example, from kubeadm's etcd: wharf brain import --from https://127.0.0.1:2379 --cacert "
    "/etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/apiserver-etcd-client.crt --key "
    "/etc/kubernetes/pki/apiserver-etcd-client.key --data-dir /var/lib/brain\n\nHistory from before the copied "
    "revision is not there: reads and watches below it are refused as compacted. An import that was broken off goes "
    "on where it was when the same command is given again; until one has ended well brain does not start on it.",
)
_EXPORT: Final = Schema(
    shape=ExportOptions,
    program="wharf brain export",
    service="brain_export",
    summary=f"Write every key of a running brain (or etcd) into an empty etcd, with values and leases.\n\n{_STEPS}\n\n"
    "Revisions cannot be carried over through etcd's API: clients of the target start over (restart every "
    "kube-apiserver, and whatever keeps resourceVersions).",
    epilog="Example: wharf brain export --from http://127.0.0.1:2379 --to http://127.0.0.1:12379",
)


def import_(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    def work() -> str:
        config = load_checked(_IMPORT, argv, environment).config
        check_tls_files("", config.cacert, config.cert, config.key)
        return _migrate(
            lambda view, stop: _import(config, view, stop),
            "interrupted: the import is unfinished; give the same command again, or remove the target",
        )

    return run(work)


def export(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    def work() -> str:
        config = load_checked(_EXPORT, argv, environment).config
        check_tls_files("", config.cacert, config.cert, config.key)
        check_tls_files("to-", config.to_cacert, config.to_cert, config.to_key)
        return _migrate(
            lambda view, stop: _export(config, view, stop),
            "interrupted: the target holds an unfinished copy; begin anew with --force",
        )

    return run(work)


def _migrate(work: Callable[[View, Stop], Awaitable[str]], interrupted: str) -> str:
    from wharf.brain.migrate.following import Stop  # noqa: PLC0415 only these commands need it
    from wharf.brain.migrate.progress import view_on  # noqa: PLC0415
    from wharf.brain.migrate.shapes import MigrationFailed  # noqa: PLC0415

    async def main() -> str:
        stop = Stop()
        return await interruptible(work(view, stop), stop.ask, interrupted)

    view = view_on(sys.stderr)
    try:
        return asyncio.run(main())
    except MigrationFailed as failure:
        raise CommandFailed(str(failure)) from failure
    finally:
        view.close()


async def _import(options: ImportOptions, view: View, stop: Stop) -> str:
    from wharf.brain.migrate.client import Client  # noqa: PLC0415 as above
    from wharf.brain.migrate.importing import Import  # noqa: PLC0415
    from wharf.brain.migrate.source import Source  # noqa: PLC0415
    from wharf.brain.store.filling import Filling, close_target, open_target  # noqa: PLC0415

    url = options.engine or f"lmdb://{options.data_dir.absolute()}"
    client = Client(_access(options))
    try:
        source = Source(client)
        _, origin = await source.stand(_ANSWER_SECONDS)
        engine = await open_target(url)
        try:
            done = await Import(source, Filling(engine, origin), view, stop).run(_ending(options))
        finally:
            await close_target(engine)
    finally:
        await client.aclose()
    _warn_of_writers(view, done.revision, done.source_revision)
    if options.user:
        view.line("users and roles are not copied: make them anew before clients that log in are sent to brain")
    target = shown(options.engine) or options.data_dir
    return f"{target}: imported {done.keys} keys and {done.leases} leases at revision {done.revision}"


async def _export(options: ExportOptions, view: View, stop: Stop) -> str:
    from wharf.brain.migrate.client import Access, Client  # noqa: PLC0415 as above
    from wharf.brain.migrate.exporting import Export  # noqa: PLC0415
    from wharf.brain.migrate.source import Source  # noqa: PLC0415

    source = Client(_access(options))
    target = Client(
        Access(
            endpoints=options.to,
            cacert=options.to_cacert,
            cert=options.to_cert,
            key=options.to_key,
            user=options.to_user,
            password_file=options.to_password_file,
        )
    )
    try:
        _, one = await Source(source).stand(_ANSWER_SECONDS)
        _, other = await Source(target).stand(_ANSWER_SECONDS)
        if one == other:
            raise CommandFailed("--from and --to are the same cluster")
        export = Export(source, target, options.prefix.encode(), view, stop)
        done = await export.run(_ending(options), options.force)
    finally:
        await source.aclose()
        await target.aclose()
    _warn_of_writers(view, done.revision, done.source_revision)
    where = ",".join(str(url) for url in options.to)
    return f"{where}: exported {done.keys} keys and {done.leases} leases as of revision {done.revision}"


def _access(options: MovingOptions) -> Access:
    from wharf.brain.migrate.client import Access  # noqa: PLC0415 as above

    return Access(
        endpoints=options.source,
        cacert=options.cacert,
        cert=options.cert,
        key=options.key,
        user=options.user,
        password_file=options.password_file,
    )


def _ending(options: MovingOptions) -> Ending | None:
    from wharf.brain.migrate.shapes import Ending  # noqa: PLC0415 as above

    if not options.follows:
        return None
    return Ending(until=options.until_revision, quiet=options.quiet if options.cut_over else 0.0)


def _warn_of_writers(view: View, revision: int, source: int) -> None:
    if source > revision:
        view.line(
            f"warning: the source is at revision {source} by now; what was written there after {revision} is not in the"
            " copy"
        )


def _check_endpoints(prefix: str, endpoints: tuple[Url, ...], flag: str) -> None:
    if not endpoints:
        raise ValueError(f"--{flag} is needed: http://host:2379, or https://, more of them separated by commas")
    if len({url.scheme for url in endpoints}) > 1:
        raise ValueError(f"--{flag}: all endpoints must be http, or all https")
    if any(url.port is None or url.user is not None for url in endpoints):
        raise ValueError(f"--{flag}: an endpoint is scheme://host:port; a login goes into --{prefix}user")
