"""Rules between brain's settings: which of them need, exclude or endanger each other. Pure.

Each rule raises ValueError with one sentence that names the flags and the remedy. A flag that promises a protection is
enforced or refused: a start without the protection is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from wharf.common.parsers import BadValue, Url, check_listen_url, integer, is_loopback, parse_duration

if TYPE_CHECKING:
    from wharf.brain.config import BrainConfig

_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history automatic compaction keeps: `seconds` or `revisions`; both zero: it is off."""

    seconds: float = 0.0
    revisions: int = 0


def check_rules(config: BrainConfig) -> None:
    """ValueError for the first rule that `config` breaks."""
    for flag, found in (
        ("listen-client-urls", config.listen_client_urls),
        ("listen-metrics-urls", config.listen_metrics_urls),
    ):
        for url in found:
            check_listen_url(flag, url)
    _check_engine(config)
    if config.replicated:  # otherwise the peer flags are what an etcd had before, and mean nothing
        _check_peers(config)
    _check_tls(config)
    for flag, seconds in (
        ("grpc-keepalive-min-time", config.grpc_keepalive_min_time),
        ("grpc-keepalive-interval", config.grpc_keepalive_interval),
        ("grpc-keepalive-timeout", config.grpc_keepalive_timeout),
        ("watch-progress-notify-interval", config.watch_progress_notify_interval),
    ):
        if seconds < 0:
            raise ValueError(f"--{flag} must not be negative")
    parse_retention(config.auto_compaction_mode, config.auto_compaction_retention)


def _check_engine(config: BrainConfig) -> None:
    if config.replicated and not config.redis:
        raise ValueError("--engine postgresql:// needs --redis: there it is decided which node leads")
    if config.redis and not config.replicated:
        raise ValueError("--redis needs an engine that nodes can share: --engine postgresql://…")
    if config.nats and not config.replicated:
        raise ValueError("--nats needs an engine that nodes can share: --engine postgresql://…")
    if config.workers and any(url.scheme == "unix" for url in config.listen_client_urls):
        raise ValueError("--workers share a TCP port, not a unix:// socket: use http or https in --listen-client-urls")
    if config.workers and not config.engine_url.startswith("lmdb:"):
        raise ValueError("--workers share an LMDB store; other engines are shared by more nodes instead")
    if (config.nats_cert_file is None) != (config.nats_key_file is None):
        raise ValueError("--nats-cert-file and --nats-key-file must be given together")


def _check_peers(config: BrainConfig) -> None:
    for url in config.listen_peer_urls:
        check_listen_url("listen-peer-urls", url)
    if config.peer_auto_tls:
        raise ValueError(
            "--peer-auto-tls is not supported with --engine postgresql://: a peer cannot verify a certificate that "
            "another node signed itself; give --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
        )
    schemes = {url.scheme for url in (*config.listen_peer_urls, *config.advertised_peer_urls)}
    if len(schemes) != 1:
        raise ValueError("--listen-peer-urls and --initial-advertise-peer-urls must all be http or all https")
    for url in config.advertised_peer_urls:
        if _names_every_address(url) or not url.port:
            flag = "initial-advertise-peer-urls" if config.initial_advertise_peer_urls else "listen-peer-urls"
            raise ValueError(
                f"--{flag}: other nodes cannot reach {url}; give --initial-advertise-peer-urls with an address or "
                "a name of this machine and the port"
            )
    if schemes == {"http"} and config.peer_client_cert_auth:
        raise ValueError(
            "--peer-client-cert-auth cannot be enforced on the plain http URLs of --listen-peer-urls: use https with "
            "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
        )
    if not config.unsafe_no_peer_tls and (open_ := exposed(config.listen_peer_urls)):
        raise ValueError(
            f"--listen-peer-urls: {', '.join(open_)} lets whoever reaches it write everything: use https with "
            "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file (or, on a network that nobody else "
            "is in, --unsafe-no-peer-tls)"
        )
    if schemes == {"https"} and (config.peer_cert_file is None or config.peer_trusted_ca_file is None):
        raise ValueError("https peer URLs need --peer-cert-file, --peer-key-file and --peer-trusted-ca-file")


def _check_tls(config: BrainConfig) -> None:
    if (config.cert_file is None) != (config.key_file is None):
        raise ValueError("--cert-file and --key-file must be given together")
    if any(url.scheme == "https" for url in config.listeners) and config.cert_file is None and not config.auto_tls:
        raise ValueError("an https listen URL needs --cert-file and --key-file, or --auto-tls")
    given = [
        flag for flag, value in (("--cert-file", config.cert_file), ("--auto-tls", config.auto_tls or None)) if value
    ]
    if given and all(url.scheme != "https" for url in config.listeners):
        raise ValueError(f"{given[0]} has no effect: none of --listen-client-urls begins with https://")
    if config.client_cert_auth and config.trusted_ca_file is None:
        raise ValueError("--client-cert-auth needs --trusted-ca-file")
    if config.client_cert_allowed_hostname and config.trusted_ca_file is None:
        raise ValueError("--client-cert-allowed-hostname needs --trusted-ca-file")
    _check_client_certificates(config)
    if config.tls_max_version and config.tls_max_version < config.tls_min_version:
        raise ValueError("--tls-max-version is older than --tls-min-version")
    if config.tls_min_version == "TLS1.3" and config.cipher_suites:
        raise ValueError("--cipher-suites cannot be chosen with TLS1.3 only")


def _check_client_certificates(config: BrainConfig) -> None:
    """A plain URL asks no client for a certificate, so it would let every client past the others' protection."""
    plain = [url for url in config.listen_client_urls if url.scheme != "https"]
    asked = [
        flag
        for flag, given in (
            ("--client-cert-auth", config.client_cert_auth),
            ("--trusted-ca-file", config.trusted_ca_file is not None),
            ("--client-cert-allowed-hostname", bool(config.client_cert_allowed_hostname)),
        )
        if given
    ]
    if plain and asked:
        raise ValueError(
            f"{', '.join(asked)} cannot be enforced on --listen-client-urls {', '.join(map(str, plain))}: use https "
            "there, or leave out what asks for client certificates (health and metrics for probes without one: "
            "--listen-metrics-urls)"
        )


def exposed(found: Sequence[Url]) -> tuple[str, ...]:
    """Those of these listen URLs that are plain and can be reached from other machines."""
    return tuple(str(url) for url in found if url.scheme == "http" and not is_loopback(url))


def _names_every_address(url: Url) -> bool:
    """Whether the URL can only be listened on."""
    try:
        return ip_address(url.host).is_unspecified
    except ValueError:
        return not url.host


def address_warnings(config: BrainConfig) -> Iterator[str]:
    """One sentence for each address that others are told and that many of them cannot reach."""
    told = [str(url) for url in config.advertise_client_urls or config.listen_client_urls if _names_every_address(url)]
    if told:
        yield (
            f"clients that list members are told {', '.join(told)}, which they cannot reach: give "
            "--advertise-client-urls with an address or a name of this machine"
        )
    listens_beyond = any(not is_loopback(url) for url in config.listen_peer_urls)
    if config.replicated and listens_beyond and all(map(_names_loopback, config.advertised_peer_urls)):
        yield (
            f"nodes on other machines are told {', '.join(config.peer_urls)}, which they cannot reach: give "
            "--initial-advertise-peer-urls with an address or a name of this machine"
        )


def _names_loopback(url: Url) -> bool:
    try:
        return is_loopback(url)
    except ValueError:  # a name that only DNS knows
        return False


def parse_retention(mode: str, text: str) -> Retention:
    """Retention in `mode`: periodic "1h" or bare hours, revision a count; ValueError otherwise."""
    try:
        number = integer(0).parse(text)
    except BadValue:
        number = -1
    if mode == "revision":
        if number < 0:
            raise ValueError(f"--auto-compaction-retention: {text!r} is not a number of revisions")
        return Retention(revisions=number)
    if number >= 0:
        return Retention(seconds=number * _HOUR)
    try:
        seconds = parse_duration(text)
    except BadValue as wrong:
        raise ValueError(f"--auto-compaction-retention: {text!r} {wrong}") from None
    if seconds < 0:
        raise ValueError("--auto-compaction-retention must not be negative")
    return Retention(seconds=seconds)
