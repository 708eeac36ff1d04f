# Included by _http.pyx: one request made upstream, its response given to callbacks or, coupled, straight to an exchange.

cdef tuple _NOTHING = ()


cdef class HttpClientStream(HttpStream):
    """A request made upstream; see web.Request for what its public methods promise.

    `couple` ties it to an exchange (the sink): head, body, trailers and end flow there without Python.
    """

    # --- what nghttp2 tells
    cdef bint begins_trailers(self):
        return self.status != 0

    cdef int handle_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        if name[0] == c':':
            if name_length == 7 and _is(name, b":status", 7) and length == 3:
                self.block_status = (value[0] - 48) * 100 + (value[1] - 48) * 10 + (value[2] - 48)
            return 0
        if self.in_trailers:
            if self.trailers_in is None:
                self.trailers_in = []
            self.trailers_in.append((PyBytes_FromStringAndSize(<const char *>name, name_length),
                                     PyBytes_FromStringAndSize(<const char *>value, length)))
            return 0
        return 1

    cdef int handle_head(self) except -1:
        if self.done or self.loss is not None:
            return self.drop_pairs()
        if self.oversized:
            return self.lose(Fault.PROTOCOL, "header list too large", NGHTTP2_ENHANCE_YOUR_CALM)
        if not 100 <= self.block_status <= 999:
            # nghttp2 takes three digits; below 100 it reads a final response where others read an interim one.
            return self.lose(Fault.PROTOCOL, f":status {self.block_status:03} is not an HTTP status", NGHTTP2_PROTOCOL_ERROR)
        if self.block_status < 200:
            if self.on_inform is not None:
                if self.informs is None:
                    self.informs = []
                self.informs.append((self.block_status, self.header_list()))
                self.make_ready()
            return self.drop_pairs()
        self.status = self.block_status
        if self.sink is not None:
            return self.begin_sink()
        self.head_due = True
        return self.make_ready()

    cdef int handle_trailers(self) except -1:
        if self.oversized:
            return self.lose(Fault.PROTOCOL, "header list too large", NGHTTP2_ENHANCE_YOUR_CALM)
        return 0

    cdef int handle_data(self, const uint8_t *data, size_t length) except -1:
        cdef HttpServerStream sink = self.sink
        if self.done or self.loss is not None:
            return self.session.release(self, length)
        if sink is None:
            return self.receive_body(data, length)
        self.untaken += length
        sink.push(PyBytes_FromStringAndSize(<const char *>data, length))
        sink.resume()
        sink.session.wake()
        return 0

    cdef int handle_end(self) except -1:
        if self.done or self.loss is not None:
            return 0
        self.end_due = True
        if self.sink is not None:
            self.end_sink()
        if not self.local_ended:
            # answered in full before the request was: nobody reads the rest of it
            check(nghttp2_submit_rst_stream(self.session.ng, 0, self.id, NGHTTP2_CANCEL))
        return self.make_ready()

    cdef int handle_closed(self, uint32_t error_code) except -1:
        cdef HttpClientSession session = <HttpClientSession>self.session
        if self.done or self.end_due:
            return 0
        if session.ended:
            if not self.head_submitted:
                return self.lose(Fault.UNSENT, "the connection closed before the request was sent", 0)
            if session.broken:
                return self.lose(Fault.PROTOCOL, "the peer broke HTTP/2", 0)
            return self.lose(Fault.LOST, "the connection closed", 0)
        if self.was_reset:
            fault = Fault.REFUSED if error_code == NGHTTP2_REFUSED_STREAM else Fault.RESET
            return self.lose(fault, f"reset by the peer with code {error_code}", error_code)
        if error_code == NGHTTP2_REFUSED_STREAM or not self.head_submitted:
            return self.lose(Fault.REFUSED, "the connection is going away", error_code)
        return self.lose(Fault.PROTOCOL, f"not a valid HTTP/2 response (code {error_code})", error_code)

    # --- ends
    cdef int lose(self, fault, str text, uint32_t code) except -1:
        """The response will not be whole. Before its head the exchange stays untouched; after, it is aborted or ends cleanly."""
        cdef HttpServerStream sink = self.sink
        if self.done or self.end_due or self.loss is not None:
            return 0
        self.loss = Failure(fault, text, code)
        if sink is not None:
            self.sink = sink.source = None
            self.settle()
            if sink.responded:
                if self.clean_end:
                    sink.conclude(_NOTHING)
                else:
                    sink.abort(NGHTTP2_INTERNAL_ERROR)
        if not self.closed:
            Stream.reset(self, code if code else NGHTTP2_CANCEL)
        return self.make_ready()

    cdef int give_up(self) except -1:
        """Over and silent: untied, nothing held."""
        if self.sink is not None:
            self.sink.source = None
            self.sink = None
        self.done = True
        self.settle()
        return self.forget()

    cdef int forget(self) except -1:
        HttpStream.forget(self)
        self.on_inform = self.on_head = self.on_failure = None
        self.informs = None
        self.response_filter = None
        self.extra = None
        return self.drop_pairs()

    cpdef void reset(self, uint32_t code=8):
        """Nobody wants the answer any more. A coupled exchange whose head is out is left to its owner to end."""
        if not self.done:
            self.give_up()
            Stream.reset(self, code)

    # --- the exchange it answers
    def couple(self, HttpServerStream exchange not None, HeaderFilter response_filter not None, extra=(),
               bint clean_end=False):
        """Let the response flow to `exchange`: fields that pass the filter, then `extra`, data, trailers, end.

        `on_inform`, `on_end` and `on_failure` are still called; `on_head` and `on_data` are not. It may be called as late as in
        `on_head`. A failure before the head leaves the exchange untouched; a later one aborts it, or ends it if `clean_end`
        (never one with a content-length).
        """
        if self.done or self.sink is not None:
            raise RuntimeError("coupled already, or over")
        if exchange.done or exchange.responded or exchange.closed:
            self.reset()
            return
        exchange.detach()
        self.response_filter = response_filter
        self.extra = as_pairs(extra) if extra else None
        self.clean_end = clean_end
        if self.loss is not None:
            return
        self.sink = exchange
        exchange.source = self
        if self.status:
            self.head_due = False
            self.begin_sink()
            self.move_inbox(exchange)
            if self.end_due:
                self.end_sink()

    cdef int begin_sink(self) except -1:
        """The final head is here: send it on."""
        cdef HttpServerStream sink = self.sink
        cdef char digits[3]
        cdef size_t count
        _reserve(self.pair_count + 1 + (<size_t>len(self.extra) if self.extra is not None else 0))
        _put_status(self.status, digits)
        count = _put_pairs(1, self, self.response_filter)
        if self.clean_end and _find(self, b"content-length", 14) >= 0:
            self.clean_end = False  # its reader would see that bytes are missing: tell it why
        if self.extra is not None:
            count = _put_list(count, self.extra, False)
        sink.open_response(self.status, count, not self.remote_ended or self.inbox is not None)
        return self.drop_pairs()

    cdef int move_inbox(self, HttpServerStream sink) except -1:
        cdef bytes chunk
        if self.inbox is not None:
            for chunk in self.inbox:
                sink.push(chunk)
            self.inbox = None
            sink.resume()
        return 0

    cdef int end_sink(self) except -1:
        """The response is all here. What the exchange has not sent yet is its own: nothing is held upstream any more."""
        cdef HttpServerStream sink = self.sink
        self.sink = sink.source = None
        self.settle()
        if not sink.ending:
            sink.conclude(self.response_filter.apply(self.trailers_in) if self.trailers_in is not None else _NOTHING)
        sink.settle()
        return 0

    cdef int credit(self, size_t length) except -1:
        """The exchange copied bytes out."""
        if length > self.untaken:
            length = self.untaken
        self.untaken -= length
        self.session.release(self, length)
        if self.session.ng is not NULL and nghttp2_session_want_write(self.session.ng):
            self.session.wake()
        return 0

    cdef int lose_sink(self) except -1:
        """The exchange ended by itself: nobody wants the rest."""
        self.sink = None
        self.settle()
        if not self.done and not self.end_due:
            self.give_up()
            Stream.reset(self, NGHTTP2_CANCEL)
        return 0

    # --- telling the user
    cdef int tell_head(self) except -1:
        if self.informs is not None:
            informs = self.informs
            self.informs = None
            for status, headers in informs:
                if self.on_inform is not None:
                    self.on_inform(status, headers)
        if self.head_due and not self.done:
            self.head_due = False
            if self.on_head is not None:
                self.on_head(self.status, self.header_list())
            if self.sink is None:
                self.drop_pairs()
        return 0

    cdef int deliver(self) except -1:
        try:
            self.tell_head()
            if not self.done and self.sink is None:
                if self.inbox is not None and self.reader is None:
                    self.settle()
                self.hand_body()
            if self.done:
                return 0
            if self.loss is not None:
                callback, told = self.on_failure, self.loss
            elif self.end_due:
                callback, told = self.ender, self.trailers_in or []
            else:
                return 0
            self.give_up()
            if callback is not None:
                callback(told)
        except Exception:
            log.exception("a callback of an upstream request failed")
            self.reset(NGHTTP2_INTERNAL_ERROR)
        return 0

    # --- the request's body
    def send(self, bytes data not None):
        """Body bytes."""
        if not (self.done or self.ending or self.end_due or self.closed):
            self.queue(data)

    def finish(self, trailers=()):
        """The body ends."""
        if not (self.done or self.ending or self.end_due or self.closed):
            self.conclude(trailers)
