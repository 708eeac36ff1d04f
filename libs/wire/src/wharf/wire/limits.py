"""Every bound of a connection, as data, each with its reason.

Reaching one closes or refuses with a named cause, and never grows memory.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """Bounds of one HTTP/1.1 connection of a proxy, either role; bytes and counts."""

    head_max: int = 64 * 1024  # first line and headers: tokens with many groups fit; a bomb does not
    line_max: int = 32 * 1024  # the first line alone: long selectors fit
    fields_max: int = 500  # header lines: each costs an object, however short
    trailers_max: int = 8 * 1024
    chunk_overhead_max: int = 16 * 1024  # extensions and tiny chunks beyond what the data they carry excuses
    body_held_max: int = 256 * 1024  # received, not taken: beyond, reading pauses
    discard_max: int = 256 * 1024  # rest of a request body nobody wants any more, read to keep the connection
    linger_max: int = 4 * 1024 * 1024  # read and dropped behind a last response, so that a reset does not destroy it
    informs_max: int = 32  # interim responses before the final one
    write_high: int = 256 * 1024  # bytes waiting for the transport: `writable` ends here
    write_low: int = 64 * 1024  # and comes back here


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of one connection to an upstream, which is trusted more than a client and shared by many of them."""

    streams_max: int = 16384  # beside what the peer allows
    stream_window: int = 256 * 1024  # one response on the way; all that a slow reader holds of it
    connection_window: int = (
        16 * 1024 * 1024
    )  # on the way only: given back as bytes arrive, so nobody waits for another
    held_max: int = 64 * 1024 * 1024  # arrived, not taken by readers: beyond, the slowest are cut off until it is half
    header_list_max: int = 256 * 1024  # responses carry warnings and audit annotations
    frame_size_max: int = 16 * 1024

    resets_burst: int = (
        20_000  # a server resets what it answers before the request was whole, and all of it as it stops
    )
    resets_per_second: int = 5_000
    continuations_max: int = 16
    acks_max: int = 1000
    idle_frames_burst: int = 100_000  # uploads bring a WINDOW_UPDATE or two with every frame
    idle_frames_per_second: int = 20_000

    write_high: int = 256 * 1024
    write_low: int = 64 * 1024
    stream_high: int = 256 * 1024
    stream_low: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one connection; bytes, seconds and counts."""

    concurrent_streams: int = 16384  # a control plane holds one watch stream per resource on one connection
    stream_window: int = 256 * 1024  # on the way on one stream: a local network's bandwidth by delay, and more
    connection_window: int = 4 * 1024 * 1024  # 16 streams at full speed
    held_max: int = 4 * 1024 * 1024  # received, not taken: beyond, the connection window stays shut
    assembling_max: int = 64 * 1024 * 1024  # half-received messages of all streams: beyond, refused
    header_list_max: int = 64 * 1024  # tokens and certificates in metadata fit; a bomb does not
    unsent_max: int = 64 * 1024 * 1024  # answers nobody reads yet: beyond it further calls wait before they begin
    frame_size_max: int = 16 * 1024  # the protocol's default: fair between streams

    resets_burst: int = 1000  # cancelled calls at once (a client closing all its watches)
    resets_per_second: int = 200  # and for ever: rapid reset stays cheaper than the attacker's own side
    continuations_max: int = 8  # frames of one header block after the first: 64 KiB need four
    acks_max: int = 1000  # answers a peer that does not read lets pile up
    idle_frames_burst: int = 10_000  # frames without work (empty DATA, SETTINGS, PRIORITY, WINDOW_UPDATE) at once
    idle_frames_per_second: int = 1_000  # and for ever; work done earns more
    ping_interval_min: float = 4.0  # clients may ping every 5 s, without calls too; one second is left for jitter
    ping_strikes_max: int = 2  # too early pings forgiven while nothing is being sent

    preface_timeout: float = 10.0  # from the first byte possible to HTTP/2 settings or an HTTP/1.1 request line
    handshake_timeout: float = 10.0  # TLS
    block_timeout: float = 10.0  # a header block begun must end
    idle_timeout: float = 3600.0  # without a stream; clients reconnect by themselves
    http1_idle_timeout: float = 75.0  # between requests of a kept-alive HTTP/1.1 connection
    keepalive_interval: float = 7200.0  # silence after which the peer is asked whether it lives (etcd: 2 h)
    keepalive_timeout: float = 20.0  # and the silence after which it is dead (etcd: 20 s)

    stall_timeout: float = 60.0  # TCP takes nothing: the peer's process does not read at all
    reader_timeout: float = 300.0  # one stream's window stays shut though bytes wait: its reader stands still
    # `Exchange.reader_timeout` replaces both for one exchange.
    close_timeout: float = 5.0  # for a closing connection to take the last bytes

    write_high: int = 256 * 1024  # the transport's own buffer: above, nothing more is framed for this connection
    write_low: int = 64 * 1024
    stream_high: int = 256 * 1024  # body bytes queued on one stream: its writer is asked to wait
    stream_low: int = 64 * 1024  # and to go on
    plain_body_max: int = 64 * 1024  # request body of a plain HTTP endpoint
    http1_head_max: int = 32 * 1024  # request line and headers of HTTP/1.1


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Bounds of a listener."""

    connections_max: int = 50_000  # 10 000 idle ones are ordinary; beyond this the newest is closed at once
    backlog: int = 1024
