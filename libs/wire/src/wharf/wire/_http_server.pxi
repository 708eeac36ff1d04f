# Included by _http.pyx: one served request.

cdef tuple _METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS")


cdef bytes _method_of(const uint8_t *value, size_t size):
    """The method as a shared object where it is a common one."""
    cdef bytes known
    for known in _METHODS:
        if <size_t>PyBytes_GET_SIZE(known) == size and _is(value, PyBytes_AS_STRING(known), size):
            return known
    return PyBytes_FromStringAndSize(<const char *>value, size)


cdef class HttpServerStream(HttpStream):
    """A served request and its response; see web.Exchange for what its public methods promise."""

    wants_upgrade = False  # HTTP/2 has no Upgrade

    # --- what the handler reads
    @property
    def connection(self):
        return (<HttpServerSession>self.session).connection

    @property
    def authority(self):
        if self.named_authority is not None:
            return self.named_authority
        return self.host if self.host is not None else b""

    @property
    def reader_timeout(self):
        return self.patience

    @reader_timeout.setter
    def reader_timeout(self, double seconds):
        self.patience = seconds
        (<HttpServerSession>self.session).note_patience(seconds)

    @property
    def content_length(self):
        return self.announced if self.seen & HAS_LENGTH else None

    @property
    def headers(self):
        return self.header_list()

    def header(self, bytes name not None):
        cdef nghttp2_vec found
        cdef Py_ssize_t at = _find(self, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        if at < 0:
            return None
        found = nghttp2_rcbuf_get_buf(self.pairs[at * 2 + 1])
        return PyBytes_FromStringAndSize(<const char *>found.base, found.len)

    def has_prefix(self, bytes prefix not None):
        """Whether the name of any header begins with these lower-case bytes."""
        cdef size_t at, length = PyBytes_GET_SIZE(prefix)
        cdef nghttp2_vec found
        for at in range(self.pair_count):
            found = nghttp2_rcbuf_get_buf(self.pairs[at * 2])
            if found.len >= length and memcmp(found.base, PyBytes_AS_STRING(prefix), length) == 0:
                return True
        return False

    def drop_head(self):
        """The request's headers are not wanted any more: `headers` is empty from now on, it cannot be forwarded again."""
        self.head_dropped = True
        self.drop_pairs()

    # --- what nghttp2 tells
    cdef int handle_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        cdef HttpServerSession session = <HttpServerSession>self.session
        cdef bytes text
        if name[0] == c':':
            if name_length == 5 and _is(name, b":path", 5):
                self.target = PyBytes_FromStringAndSize(<const char *>value, length)
            elif name_length == 7 and _is(name, b":method", 7):
                self.method = _method_of(value, length)
            elif name_length == 10 and _is(name, b":authority", 10):
                text = session.last_authority
                if text is None or <size_t>PyBytes_GET_SIZE(text) != length or not _is(value, PyBytes_AS_STRING(text), length):
                    text = session.last_authority = PyBytes_FromStringAndSize(<const char *>value, length)
                self.named_authority = text
            return 0
        if self.in_trailers:
            if self.trailers_in is None:
                self.trailers_in = []
            self.trailers_in.append((PyBytes_FromStringAndSize(<const char *>name, name_length),
                                     PyBytes_FromStringAndSize(<const char *>value, length)))
            return 0
        if name_length == 4 and _is(name, b"host", 4):
            text = PyBytes_FromStringAndSize(<const char *>value, length)
            if self.host is not None or (self.named_authority is not None and self.named_authority.lower() != text.lower()):
                self.malformed = True  # two answers to the question whose request it is
            self.host = text
        return 1

    cdef int handle_head(self) except -1:
        self.low_water = self.session.low_water
        if self.oversized:
            self.refused = (431, f"the request's headers are longer than {self.session.header_list_max} bytes")
        elif self.seen & IS_CONNECT:
            self.refused = (405, "CONNECT is not served")
        self.body_expected = not self.remote_ended
        return self.make_ready()

    cdef int handle_trailers(self) except -1:
        if self.oversized and not self.done:
            self.detach()
            check(nghttp2_submit_rst_stream(self.session.ng, 0, self.id, NGHTTP2_ENHANCE_YOUR_CALM))
        return 0

    cdef int handle_data(self, const uint8_t *data, size_t length) except -1:
        if self.done or self.ending:
            return self.session.release(self, length)
        return self.receive_body(data, length)

    cdef int handle_end(self) except -1:
        if not self.done:
            self.end_due = True
            self.make_ready()
        return 0

    cdef int handle_closed(self, uint32_t error_code) except -1:
        self.detach()
        self.settle()
        if self.done:
            return self.forget()
        self.done = True
        callback = self.on_complete if self.local_ended else self.on_cancel
        self.forget()
        if callback is not None and self.handled:
            self.last_word = callback
            self.make_ready()
        return 0

    cdef int forget(self) except -1:
        HttpStream.forget(self)
        self.on_cancel = self.on_complete = None
        return 0

    cdef int deliver(self) except -1:
        try:
            if self.closed:
                callback = self.last_word
                self.last_word = None
                if callback is not None:
                    callback()
                return 0
            if self.malformed:
                return 0  # its reset is on the way
            if not self.handled and not self.done:
                self.handled = True
                if self.refused is not None:
                    self.refuse()
                else:
                    (<HttpServerSession>self.session).handler(self)
            if self.done or not self.hand_body() or not self.end_due or self.end_told or self.done:
                return 0
            if self.ender is not None:
                self.end_told = True
                self.ender(self.trailers_in or [])
        except Exception:
            log.exception("handler of %s failed", self.method.decode("latin-1"))
            self.abort()
        return 0

    # --- answering
    cdef int detach(self) except -1:
        """Untie from the request that was to answer: it is cancelled, unless its response is all here."""
        cdef HttpClientStream source = self.source
        if source is not None:
            self.source = None
            source.lose_sink()
        return 0

    cdef int copy_out(self, size_t length) except -1:
        HttpStream.copy_out(self, length)
        if self.source is not None:
            self.source.credit(length)
        return 0

    cdef int open_response(self, int status, size_t count, bint body) except -1:
        """Submit the final head that lies in the block."""
        self.responded = True
        self.status = status
        self.bodyless = self.method == b"HEAD" or status == 204 or status == 304
        if not body:
            self.ending = True
        self.submit_head(_block, count, body)
        self.session.wake()
        return 0

    cdef int refuse(self) except -1:
        """Answer without asking the handler."""
        headers, body = (<HttpServerSession>self.session).refusal(*self.refused)
        self.respond(self.refused[0], headers)
        self.send(body)
        self.finish()
        return 0

    def inform(self, int status, headers):
        """An interim response: 100, 103."""
        cdef char digits[3]
        cdef list fields = as_pairs(headers)
        cdef size_t count
        if self.done or self.responded or self.closed:
            return
        _reserve(len(fields) + 1)
        _put_status(status, digits)
        count = _put_list(1, fields, False)
        check(nghttp2_submit_headers(self.session.ng, 0, self.id, NULL, _block, count, NULL))
        self.session.wake()

    def respond(self, int status, headers, bint end=False):
        """The final head; once."""
        cdef char digits[3]
        cdef list fields = as_pairs(headers)
        cdef size_t count
        if self.done or self.responded or self.closed:
            return
        self.detach()
        _reserve(len(fields) + 1)
        _put_status(status, digits)
        count = _put_list(1, fields, False)
        self.open_response(status, count, not end)
        if end:
            self.settle()

    def send(self, bytes data not None):
        """Body bytes; ignored where there may be none."""
        if not (self.done or self.ending or self.bodyless) and self.responded and self.source is None:
            self.queue(data)

    def finish(self, trailers=()):
        if not (self.done or self.ending) and self.responded:
            self.detach()
            self.conclude(trailers)
            self.settle()

    cpdef void abort(self, uint32_t code=2) except *:
        if self.done:
            return
        self.done = True
        self.detach()
        self.settle()
        self.forget()
        self.reset(code)

    def upgrade(self, headers):
        """HTTP/2 has no Upgrade; RuntimeError."""
        raise RuntimeError("an HTTP/2 exchange cannot be upgraded")
