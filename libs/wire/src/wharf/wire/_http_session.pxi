# Included by _http.pyx: the two connections; web_h2.py opens them.


cdef class HttpServerSession(Session):
    """A client's connection. `handler` gets each exchange once its head is whole."""

    version = 2

    def __init__(self, bint server, handler, connection, **kwargs):
        super().__init__(server, **kwargs)
        self.handler = handler
        self.connection = connection

    cdef Stream make_stream(self):
        return HttpServerStream.__new__(HttpServerStream)

    @property
    def open_streams(self):
        """Exchanges under way."""
        return len(self.by_id)

    cdef int note_patience(self, double seconds) except -1:
        self.reader_timeout = max(self.reader_timeout, seconds)
        return 0

    def stall_timeout(self, double limit):
        """Seconds that the client may take nothing of the connection: the longest of the exchanges under way.

        One without a time of its own has `limit`. Once all have ended, what may be left of them has the time of before.
        """
        cdef HttpServerStream stream
        cdef double longest = 0
        for stream in self.by_id.values():
            longest = max(longest, stream.patience or limit)
        if longest:
            self.reader_timeout = longest
        return self.reader_timeout or limit

    def drop_stalled(self, double now, double reader_timeout):
        """Reset the streams whose client has opened no window for too long though bytes wait; how many.

        `reader_timeout`: seconds, for streams that have none of their own. Called every second or so while the
        transport takes bytes; `on_cancel` of the streams is called as if the client had gone.
        """
        cdef HttpServerStream stream
        cdef Py_ssize_t dropped = 0
        if self.unsent == 0:
            return 0
        for stream in list(self.by_id.values()):
            if stream.queued == 0:
                stream.marked_at = 0
            elif stream.marked_at == 0 or stream.marked_bytes != stream.bytes_out:
                stream.marked_at = now
                stream.marked_bytes = stream.bytes_out
            elif now - stream.marked_at > (stream.patience or reader_timeout):
                Stream.reset(stream, NGHTTP2_CANCEL)
                stream.marked_at = now
                dropped += 1
        return dropped


cdef class HttpClientSession(Session):
    """A connection to an upstream.

    Its receive window is given back at once, so that one slow reader does not stall the others; what they leave lying is bounded by
    `hold_max`, past which the streams that hold most are reset.
    """

    version = 2

    def __cinit__(self, bint server, *args, **kwargs):
        self.streams_max = 1 << 30
        self.unsent_max = 1 << 62  # request bodies are bounded by whoever sends them

    cdef Stream make_stream(self):
        return HttpClientStream.__new__(HttpClientStream)

    @property
    def open_streams(self):
        """Requests under way."""
        return len(self.by_id)

    @property
    def open_requests(self):
        """Requests under way."""
        return len(self.by_id)

    @property
    def capacity(self):
        """How many more requests it takes now: 0 before the peer's SETTINGS, when full, going away or gone."""
        cdef uint32_t most
        if (self.ng is NULL or not self.settled or self.goaway_received or self.leaving or self.terminating
                or not nghttp2_session_check_request_allowed(self.ng)):
            return 0
        most = nghttp2_session_get_remote_settings(self.ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
        if most > self.streams_max:
            most = self.streams_max
        return most - len(self.by_id) if <size_t>most > <size_t>len(self.by_id) else 0

    # --- requests
    def request(self, bytes method not None, bytes target not None, bytes authority not None, headers, *,
                bytes scheme not None=b"https", bint end=True):
        """Send a request head; ValueError when HTTP/2 does not allow a part of it."""
        cdef list fields = as_pairs(headers)
        cdef size_t count
        _reserve(len(fields) + 4)
        _put_request(PyBytes_AS_STRING(scheme), PyBytes_GET_SIZE(scheme), method, target, authority)
        count = _put_list(4, fields, True)
        return self.open(count, end)

    def forward(self, HttpServerStream exchange not None, HeaderFilter request_filter not None, extra=(),
                bytes authority=None, *, bytes scheme not None=b"https"):
        """Send a served request's head on: its fields that pass the filter, then `extra`. The body is sent by the caller.

        `authority` defaults to the exchange's. ValueError when HTTP/2 does not allow a part of it: nothing was sent then.
        """
        cdef list fields = as_pairs(extra)
        cdef size_t count
        if exchange.head_dropped:
            raise RuntimeError("the request's headers were dropped")
        if authority is None:
            authority = exchange.authority
        _reserve(exchange.pair_count + len(fields) + 4)
        _put_request(PyBytes_AS_STRING(scheme), PyBytes_GET_SIZE(scheme), exchange.method, exchange.target, authority)
        count = _put_pairs(4, exchange, request_filter)
        count = _put_list(count, fields, True)
        return self.open(count, not exchange.body_expected)

    cdef HttpClientStream open(self, size_t count, bint end):
        cdef HttpClientStream stream = HttpClientStream.__new__(HttpClientStream)
        stream.low_water = self.low_water
        stream.ending = end
        stream.submit_request(self, _block, count, not end)
        self.wake()
        return stream

    # --- received bytes
    cdef int hold(self, size_t length) except -1:
        self.held += length
        return check(nghttp2_session_consume_connection(self.ng, length))

    cdef int feed(self, const uint8_t *data, size_t length) except -1:
        Session.feed(self, data, length)
        if self.held > self.hold_max:
            self.shed()
        return 0

    cdef int shed(self) except -1:
        """Too much lies here untaken: end the streams whose readers are slowest."""
        cdef HttpClientStream stream
        cdef list slowest = sorted([(stream.untaken, at) for at, stream in self.by_id.items()], reverse=True)
        for untaken, at in slowest:
            if self.held <= self.hold_max // 2 or untaken == 0:
                break
            stream = self.by_id[at]
            target = stream.sink.target.partition(b"?")[0] if stream.sink is not None else b"a response"
            log.warning("%s is cut off: its reader left %d bytes lying", target.decode("latin-1"), untaken)
            self.shed_streams += 1
            stream.clean_end = False
            stream.lose(Fault.TIMEOUT, f"the reader left {untaken} bytes lying", NGHTTP2_ENHANCE_YOUR_CALM)
            stream.settle()
        return 0

    # --- ends
    def announce_shutdown(self):
        """No new requests from now on; a client says so only when it ends."""
        self.leaving = True

    def refuse_streams(self, uint32_t error_code=0, bytes debug=b""):
        """GOAWAY: the connection terminates when its requests are over."""
        self.leaving = True
        Session.refuse_streams(self, error_code, debug)

    def close(self):
        """The transport is gone: every request fails, those not yet written out as UNSENT."""
        self.broken = self.violation is not None or (self.ng is not NULL and not nghttp2_session_want_read(self.ng))
        Session.close(self)
