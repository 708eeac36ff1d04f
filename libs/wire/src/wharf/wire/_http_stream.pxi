# Included by _http.pyx: what both roles' streams share: a body that comes, with its credit, and a body that goes.


cdef class HttpStream(Stream):
    """The common part of an exchange and a request."""

    # --- receiving
    @property
    def on_data(self):
        return self.reader

    @on_data.setter
    def on_data(self, callback):
        self.reader = callback
        self.restart()

    @property
    def on_end(self):
        return self.ender

    @on_end.setter
    def on_end(self, callback):
        self.ender = callback
        self.restart()

    cdef int restart(self) except -1:
        """A callback came late: what waits for it is delivered by the next pump."""
        if not self.done and (self.inbox is not None or self.end_due):
            self.make_ready()
        return 0

    @property
    def bytes_in(self):
        """Body bytes received."""
        return self.arrived

    cdef int receive_body(self, const uint8_t *data, size_t length) except -1:
        """Keep what came for the next pump; its stream's window bounds it."""
        self.untaken += length
        if self.inbox is None:
            self.inbox = []
        self.inbox.append(PyBytes_FromStringAndSize(<const char *>data, length))
        if not self.is_ready:
            self.make_ready()
        return 0

    cdef int hand_body(self) except -1:
        """Call `on_data` for what waits; 1 when nothing of the body waits any more."""
        cdef list inbox
        cdef bytes chunk
        if self.inbox is not None:
            if self.reader is None:
                return 0
            inbox = self.inbox
            self.inbox = None
            for chunk in inbox:
                if self.done or self.reader is None:
                    break
                self.reader(chunk)
        return 1

    cdef int settle(self) except -1:
        """Nobody takes the rest: it is not held any more."""
        self.inbox = None
        if self.untaken:
            self.session.release(self, self.untaken)
            self.untaken = 0
        return 0

    def take(self, size_t length):
        """So many body bytes were taken: the peer may send as many more."""
        if length > self.untaken:
            length = self.untaken
        if length:
            self.untaken -= length
            self.session.release(self, length)
            if self.session.ng is not NULL and nghttp2_session_want_write(self.session.ng):
                self.session.wake()

    # --- sending
    @property
    def buffered(self):
        """Bytes sent that the connection has not taken."""
        return self.queued

    @property
    def writable(self):
        return not self.above

    cdef int copy_out(self, size_t length) except -1:
        Stream.copy_out(self, length)
        self.bytes_out += length
        return 0

    cdef int queue(self, bytes data) except -1:
        if PyBytes_GET_SIZE(data):
            self.push(data)
            if self.queued > self.session.high_water:
                self.above = True
            self.resume()
            self.session.wake()
        return 0

    cdef int conclude(self, trailers) except -1:
        """The body ends with what is queued."""
        cdef list fields
        if trailers:
            fields = _as_trailers(trailers)
            if fields:
                self.trailers = fields
        self.ending = True
        self.resume()
        self.session.wake()
        return 0

    cdef int handle_drained(self) except -1:
        if self.on_drain is not None and not self.done:
            try:
                self.on_drain()
            except Exception:
                log.exception("a drain callback failed")
        return 0

    cdef int forget(self) except -1:
        """A stream that is over holds nothing of its user's."""
        self.reader = self.ender = self.on_drain = None
        return 0
