"""What a server counts: plain integers, incremented where things happen, read by whoever exports them.

Per-method counters live in `_grpc.Route`, per-connection byte counters in `_nghttp2.Session`; `Counters` holds the
server-wide rest, `GrpcServer.totals` adds up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wharf.wire._grpc import Route, ServerSession


@dataclass(slots=True)
class Counters:
    """Counts since the server started; `open_*` are levels."""

    connections_accepted: int = 0
    connections_refused: int = 0  # beyond connections_max
    connections_open: int = 0
    handshakes_failed: int = 0
    wrong_protocol: int = 0  # TLS to a plain port or the reverse
    protocol_errors: int = 0
    abuse: int = 0  # connections ended by a limit
    plain_bytes_out: int = 0
    closed_bytes_in: int = 0  # of connections that are gone; see `bytes_in`
    closed_bytes_out: int = 0
    closed_streams: int = 0
    routes: Mapping[str, Route] = field(default_factory=dict)

    def add_closed(self, session: ServerSession) -> None:
        """Keep the counts of a connection that ends."""
        self.closed_bytes_in += session.bytes_in
        self.closed_bytes_out += session.bytes_out
        self.closed_streams += session.streams_opened


@dataclass(frozen=True, slots=True)
class Totals:
    """A server's traffic at one moment, open connections included."""

    bytes_in: int
    bytes_out: int
    streams_opened: int
    streams_open: int
