"""HTTP/2 for proxies; see the .pyx, and web.py for what exchanges and requests promise."""

from collections.abc import Callable, Iterable
from typing import Any

from wharf.wire._nghttp2 import Session, Stream
from wharf.wire.web import Failure, Header, Headers, Refusal, ServedConnection, Tunnel

class HeaderFilter:
    def __init__(self, names: Iterable[bytes] = (), prefixes: Iterable[bytes] = ()) -> None: ...
    def keeps(self, name: bytes) -> bool: ...
    def apply(self, headers: Headers) -> list[Header]: ...

class HttpStream(Stream):
    done: bool
    bytes_in: int
    bytes_out: int
    on_data: Callable[[bytes], None] | None
    on_end: Callable[[Headers], None] | None
    on_drain: Callable[[], None] | None
    @property
    def buffered(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    def take(self, length: int) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self, trailers: Headers = ()) -> None: ...

class HttpServerStream(HttpStream):
    connection: ServedConnection
    method: bytes
    target: bytes
    authority: bytes
    content_length: int | None
    body_expected: bool
    wants_upgrade: bool
    responded: bool
    status: int
    context: Any
    on_cancel: Callable[[], None] | None
    on_complete: Callable[[], None] | None
    reader_timeout: float
    @property
    def headers(self) -> list[Header]: ...
    def header(self, name: bytes) -> bytes | None: ...
    def has_prefix(self, prefix: bytes) -> bool: ...
    def drop_head(self) -> None: ...
    def inform(self, status: int, headers: Headers) -> None: ...
    def respond(self, status: int, headers: Headers, end: bool = False) -> None: ...
    def abort(self, code: int = 2) -> None: ...
    def upgrade(self, headers: Headers) -> Tunnel: ...

class HttpClientStream(HttpStream):
    status: int
    on_inform: Callable[[int, list[Header]], None] | None
    on_head: Callable[[int, list[Header]], None] | None
    on_failure: Callable[[Failure], None] | None
    def reset(self, code: int = 8) -> None: ...
    def couple(
        self,
        exchange: HttpServerStream,
        response_filter: HeaderFilter,
        extra: Headers = (),
        clean_end: bool = False,
    ) -> None: ...

class HttpServerSession(Session):
    version: int
    def __init__(
        self,
        server: bool,
        handler: Callable[[HttpServerStream], None],
        connection: ServedConnection,
        *,
        settings: Iterable[tuple[int, int]] = ...,
        window: int = ...,
        resets_burst: int = ...,
        resets_per_second: int = ...,
        continuations_max: int = ...,
        acks_max: int = ...,
    ) -> None: ...
    @property
    def connection(self) -> ServedConnection: ...
    @property
    def open_streams(self) -> int: ...
    @property
    def reader_timeout(self) -> float: ...
    refusal: Refusal
    def stall_timeout(self, limit: float) -> float: ...
    def drop_stalled(self, now: float, reader_timeout: float) -> int: ...

class HttpClientSession(Session):
    version: int
    streams_max: int
    open_requests: int
    @property
    def shed_streams(self) -> int: ...
    @property
    def open_streams(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    def request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        headers: Headers,
        *,
        scheme: bytes = b"https",
        end: bool = True,
    ) -> HttpClientStream: ...
    def forward(
        self,
        exchange: HttpServerStream,
        request_filter: HeaderFilter,
        extra: Headers = (),
        authority: bytes | None = None,
        *,
        scheme: bytes = b"https",
    ) -> HttpClientStream: ...
