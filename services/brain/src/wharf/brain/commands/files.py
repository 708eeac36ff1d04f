"""`wharf brain snapshot save`, `restore` and `check`: a store as a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from wharf.brain.commands.running import CommandFailed, check_login_flags, check_tls_files, load_checked, run, shown
from wharf.brain.engine import open_engine
from wharf.brain.engine.url import ENGINE_URL
from wharf.common.config import Loaded, Schema, option
from wharf.common.parsers import DURATION, FILE, PATH, STRING, Url, integer, url
from wharf.common.private_files import create_private

if TYPE_CHECKING:
    import grpc
    from wharf.brain.store.snapshot import SnapshotInfo

_CHECKSUM: Final = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    endpoint: Url = option(
        url("http", "https"), url("http", "https").parse("http://127.0.0.1:2379"), help="A brain (or etcd) to copy."
    )
    cacert: Path | None = option(FILE, None, help="CA of the server's certificate, PEM.")
    cert: Path | None = option(FILE, None, help="Client certificate, PEM.")
    key: Path | None = option(FILE, None, help="Its key, PEM.")
    user: str = option(STRING, "", help="User with the root role, where the server wants a login.")
    password_file: Path | None = option(FILE, None, help="File that holds the user's password.")
    timeout: float = option(DURATION, 600.0, help="How long the copy may take.")

    def __post_init__(self) -> None:
        check_login_flags("", self.user, self.password_file, self.cert, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    data_dir: Path = option(PATH, Path("default.wharf"), help="Directory of the new store; new or empty.")
    engine: str = option(
        ENGINE_URL, "", help="Engine of the new store instead of LMDB in --data-dir: postgresql://…; empty."
    )
    bump_revision: int = option(
        integer(0),
        0,
        help="Go on so many revisions later and compact there, so that clients who saw what is lost start over.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """`check` has none."""


_SAVE: Final = Schema(
    shape=SaveOptions,
    program="wharf brain snapshot save",
    service="brain_snapshot",
    summary="Write a consistent copy of a running store to FILE.",
    arguments=("FILE",),
)
_RESTORE: Final = Schema(
    shape=RestoreOptions,
    program="wharf brain restore",
    service="brain_restore",
    summary="Make a store out of FILE, a copy written by `snapshot save` or by etcdctl from a brain.",
    arguments=("FILE",),
)
_CHECK: Final = Schema(
    shape=CheckOptions,
    program="wharf brain check",
    service="brain_check",
    summary="Read a stopped brain's data directory, or a snapshot file, and compare its log, history and present.",
    arguments=("PATH",),
)


def save(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    return run(lambda: _save(load_checked(_SAVE, argv, environment)))


def restore(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    return run(lambda: _restore(load_checked(_RESTORE, argv, environment)))


def check(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    return run(lambda: _check(load_checked(_CHECK, argv, environment)))


def _save(loaded: Loaded[SaveOptions]) -> str:
    """Receive the copy beside its final name, check its digest, and only then give it the name."""
    import grpc  # noqa: PLC0415 only this command needs it

    options, target = loaded.config, Path(loaded.arguments[0])
    check_tls_files("", options.cacert, options.cert, options.key)
    if target.exists():
        raise CommandFailed(f"{target} exists already")
    if not target.parent.is_dir():
        raise CommandFailed(f"{target.parent} is not a directory; name a file in one that this user may write")
    part = target.with_name(target.name + ".part")
    try:
        with create_private(part, replace=True) as file:
            size = _receive(loaded.config, file)
            os.fsync(file.fileno())
        part.rename(target)
    except grpc.RpcError as error:
        raise CommandFailed(f"{loaded.config.endpoint}: {_status_text(error, loaded.config)}") from error
    finally:
        part.unlink(missing_ok=True)
    return f"{target}: {size} bytes, checked"


def _receive(options: SaveOptions, file: BinaryIO) -> int:
    """Copy the stream without its trailing digest; bytes written."""
    from wharf.brain.api.pb import rpc  # noqa: PLC0415 as above

    digest = hashlib.sha256()
    tail = b""
    size = 0
    with _dial(options) as channel:
        call = channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc.SnapshotRequest.SerializeToString,
            response_deserializer=rpc.SnapshotResponse.FromString,
        )
        token = _log_in(options, channel)
        for response in call(rpc.SnapshotRequest(), timeout=options.timeout, metadata=token):
            body, tail = (tail + response.blob)[:-_CHECKSUM], (tail + response.blob)[-_CHECKSUM:]
            digest.update(body)
            size += file.write(body)
    if digest.digest() != tail:
        raise CommandFailed("the copy arrived damaged: its checksum does not match; try again")
    return size


def _log_in(options: SaveOptions, channel: grpc.Channel) -> tuple[tuple[str, str], ...]:
    """The metadata of a login; empty without a user. grpc.RpcError."""
    from wharf.brain.api.pb import rpc  # noqa: PLC0415 as above

    if not options.user or options.password_file is None:
        return ()
    password = options.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    log_in = channel.unary_unary(
        "/etcdserverpb.Auth/Authenticate",
        request_serializer=rpc.AuthenticateRequest.SerializeToString,
        response_deserializer=rpc.AuthenticateResponse.FromString,
    )
    answer = log_in(rpc.AuthenticateRequest(name=options.user, password=password), timeout=options.timeout)
    return (("token", answer.token),)


def _dial(options: SaveOptions) -> grpc.Channel:
    import grpc  # noqa: PLC0415 as above

    limits = [("grpc.max_receive_message_length", -1)]
    if options.endpoint.scheme == "http":
        return grpc.insecure_channel(options.endpoint.authority, limits)
    ca, key, cert = (path.read_bytes() if path else None for path in (options.cacert, options.key, options.cert))
    return grpc.secure_channel(options.endpoint.authority, grpc.ssl_channel_credentials(ca, key, cert), limits)


def _status_text(error: grpc.RpcError, options: SaveOptions) -> str:
    import grpc  # noqa: PLC0415 as above

    text = error.details() or error.code().name if hasattr(error, "details") else str(error)
    if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE:
        if options.endpoint.scheme == "https":
            return f"{text}: is it running, does it speak TLS, and are --cacert, --cert and --key those it wants?"
        return f"{text}: is it running, and does it speak TLS (then --endpoint begins with https://)?"
    if "user name is empty" in text:
        return f"{text}; give --user and --password-file of a user with the root role"
    return text


def _restore(loaded: Loaded[RestoreOptions]) -> str:
    from wharf.brain.store import snapshot  # noqa: PLC0415 as above

    options, file = loaded.config, loaded.arguments[0]
    if options.engine:
        target = shown(options.engine)
        info = asyncio.run(_restore_into(file, options))
    else:
        target = str(options.data_dir)
        info = snapshot.restore(file, options.data_dir, options.bump_revision)
    return f"{target}: restored {info.keys} keys at revision {info.revision + options.bump_revision}"


async def _restore_into(file: str, options: RestoreOptions) -> SnapshotInfo:
    from wharf.brain.store import snapshot  # noqa: PLC0415 as above
    from wharf.brain.store.filling import close_target, open_target  # noqa: PLC0415

    engine = await open_target(options.engine)
    try:
        return await snapshot.restore_into(file, engine, options.bump_revision)
    finally:
        await close_target(engine)


def _check(loaded: Loaded[CheckOptions]) -> str:
    from wharf.brain.store import filling, hashing, snapshot  # noqa: PLC0415 as above

    path = Path(loaded.arguments[0])
    if not path.is_dir():
        info = snapshot.check(path)
        return f"{path}: good; {info.keys} keys, revision {info.revision}, hash {info.kv_hash.hash}"
    engine = open_engine(f"lmdb://{path.absolute()}", create=False)
    try:
        state = engine.snapshot()
        filling.refuse_unfinished(state)
        complaints = hashing.verify(state)
        if complaints:
            raise CommandFailed(f"{path} contradicts itself: {'; '.join(complaints)}")
        found = hashing.hash_kv(state)
        state.close()
    finally:
        engine.close()
    return f"{path}: good; revision {found.revision}, hash {found.hash}"
