# Included by _grpc.pyx: the receiving half of a call, from header block to whole messages.


cdef class IncomingCall(Stream):
    """What a client sends: classified, deframed, unpacked, held within limits. `Call` adds the answer."""
    cdef Route route
    cdef bytes path_bytes, method_bytes, authority, encoding, message
    cdef bytearray body
    cdef readonly bint done, is_grpc
    cdef bint started, counted, cancel_due, half_due, half_told, reading_paused, unpacks, packs, has_timeout
    cdef list inbox
    cdef size_t inbox_at
    # deframer
    cdef uint8_t prefix[5]
    cdef size_t prefix_have, need, have, buffer_capacity, uncredited
    cdef bint packed
    cdef PyObject *buffer
    cdef double due
    cdef object initial, trailing
    cdef public object on_message, on_half_close, on_cancel, on_drain, context

    cdef int end_by_wire(self, int code, str message) except -1:
        """The wire itself ends the call; `Call` does it."""
        return 0

    cdef int refuse_plain(self, bytes status, str text) except -1:
        """Answer what cannot be a call by a plain HTTP error; `Call` does it."""
        return 0

    cdef str path_text(self):
        return self.path_bytes.decode("latin-1") if self.path_bytes is not None else ""

    def __dealloc__(self):
        if self.buffer is not NULL:
            Py_DecRef(self.buffer)

    cdef int handle_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        if name[0] == b":":
            if name_length == 5 and _is(name, b":path", 5):
                self.path_bytes = PyBytes_FromStringAndSize(<char *>value, length)
            elif name_length == 7 and _is(name, b":method", 7):
                if length != 4 or not _is(value, b"POST", 4):
                    self.method_bytes = PyBytes_FromStringAndSize(<char *>value, length)
            elif name_length == 10 and _is(name, b":authority", 10):
                self.authority = PyBytes_FromStringAndSize(<char *>value, length)
            return 0
        if self.in_trailers:
            return 0
        if name_length == 12:
            if _is(name, b"content-type", 12):
                self.is_grpc = length >= 16 and _is(value, b"application/grpc", 16) and (
                    length == 16 or value[16] == b"+" or value[16] == b";")
            elif _is(name, b"grpc-timeout", 12):
                self.has_timeout = True
        elif name_length == 13 and _is(name, b"grpc-encoding", 13):
            if not (length == 8 and _is(value, b"identity", 8)):
                self.encoding = PyBytes_FromStringAndSize(<char *>value, length)
        return 1

    cdef int handle_head(self) except -1:
        cdef ServerSession session = <ServerSession>self.session
        cdef CallSettings settings = session.settings
        self.low_water = settings.low_water
        if self.oversized and not self.is_grpc:
            return self.refuse_plain(b"431", "header list too large")
        if not self.is_grpc:
            if self.method_bytes is None:
                self.method_bytes = b"POST"
            return 0
        if self.method_bytes is not None:
            return self.refuse_plain(b"405", "gRPC requests are POST")
        self.route = settings.routes.get(self.path_bytes)
        if self.route is None:
            self.route = settings.unknown
            self.count_start(settings)
            return self.end_by_wire(UNIMPLEMENTED, unknown_method_text(
                self.path_text(), [route.path for route in settings.routes.values()]))
        self.count_start(settings)
        if self.done:
            return 0
        if self.oversized:
            return self.end_by_wire(
                RESOURCE_EXHAUSTED, f"the request's metadata is longer than {session.header_list_max} bytes")
        if self.has_timeout and self.take_timeout(session) != 0:
            return 0
        if self.encoding is not None:
            if self.encoding != b"gzip":
                self.trailing = ((b"grpc-accept-encoding", ENCODINGS),)
                return self.end_by_wire(
                    UNIMPLEMENTED,
                    'grpc: Decompressor is not installed for grpc-encoding "%s"' % self.encoding.decode("latin-1"))
            self.unpacks = self.packs = True
        if not self.route.unary:
            self.inbox = []
            self.make_ready()
        return 0

    cdef int count_start(self, CallSettings settings) except -1:
        self.route.started += 1
        self.counted = True
        if settings.on_start is not None:
            try:
                settings.on_start(self)
            except Exception:
                log.exception("on_start of %s failed", self.path_text())
                self.end_by_wire(INTERNAL, "internal error")
        return 0

    cdef int take_timeout(self, ServerSession session) except -1:
        cdef bytes name, value
        try:
            for name, value in self.header_list():
                if name == b"grpc-timeout":
                    self.due = session.clock() + <double>parse_timeout(value)
        except BadTimeout as error:
            self.has_timeout = False
            self.end_by_wire(INTERNAL, str(error))
            return 1
        session.with_deadline[self.id] = self
        if self.due < session.next_deadline:
            session.next_deadline = self.due
            if session.on_deadline is not None:
                try:
                    session.on_deadline(self.due)
                except Exception:
                    log.exception("on_deadline failed for %s", self.path_text())
                    self.end_by_wire(INTERNAL, "internal error")  # its deadline could not be kept
        return 1 if self.done else 0

    cdef int handle_data(self, const uint8_t *data, size_t length) except -1:
        cdef ServerSession session = <ServerSession>self.session
        if self.done or self.oversized:
            session.release(self, length)
            return 0
        if not self.is_grpc:
            session.release(self, length)
            return self.collect_plain(session, data, length)
        self.uncredited += length
        self.deframe(session, data, length)
        if not self.waiting():
            self.credit()
        return 0

    cdef bint waiting(self):
        """A whole message is here that the handler has not taken."""
        return self.message is not None or (self.inbox is not None and self.inbox_at < <size_t>len(self.inbox))

    cdef int credit(self) except -1:
        cdef size_t length = self.uncredited
        if length:
            self.uncredited = 0
            self.session.release(self, length)
        return 0

    cdef int deframe(self, ServerSession session, const uint8_t *data, size_t length) except -1:
        cdef size_t take
        while True:
            if self.prefix_have < 5:
                take = 5 - self.prefix_have
                if take > length:
                    take = length
                memcpy(&self.prefix[self.prefix_have], data, take)
                self.prefix_have += take
                data += take
                length -= take
                if self.prefix_have < 5:
                    return 0
                if self.open_message(session.settings) != 0:
                    return 0
            if self.buffer is NULL and length >= self.need:
                self.prefix_have = 0
                self.take_message(session, PyBytes_FromStringAndSize(<char *>data, self.need))
                data += self.need
                length -= self.need
            else:
                take = self.need - self.have
                if take > length:
                    take = length
                if self.collect(session, data, take) != 0:
                    return 0
                data += take
                length -= take
                if self.have == self.need:
                    self.prefix_have = 0
                    self.take_message(session, self.collected(session))
            if length == 0 or self.done:
                return 0

    cdef int open_message(self, CallSettings settings) except -1:
        """The prefix is whole: 0 to go on, 1 when it ended the call."""
        self.need = (<size_t>self.prefix[1] << 24) | (self.prefix[2] << 16) | (self.prefix[3] << 8) | self.prefix[4]
        self.have = 0
        self.packed = self.prefix[0] & 1
        if self.prefix[0] > 1:
            self.end_by_wire(INTERNAL, "grpc: received unexpected payload format %d" % self.prefix[0])
            return 1
        if self.packed and not self.unpacks:
            self.end_by_wire(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
            return 1
        if self.need > settings.receive_max:
            self.end_by_wire(RESOURCE_EXHAUSTED, "grpc: received message larger than max (%d vs. %d)"
                             % (self.need, settings.receive_max))
            return 1
        return 0

    cdef int collect(self, ServerSession session, const uint8_t *data, size_t length) except -1:
        """Part of a message; memory grows with what came, not with what was announced."""
        cdef size_t capacity
        if session.assembling + length > session.settings.assembling_max:
            self.end_by_wire(RESOURCE_EXHAUSTED, "too many request bytes in flight on this connection")
            return 1
        if self.buffer is NULL:
            capacity = self.need if self.need < FIRST_BUFFER else FIRST_BUFFER
            self.buffer = PyBytes_FromStringAndSize_(NULL, capacity)
            if self.buffer is NULL:
                raise MemoryError
            self.buffer_capacity = capacity
        if self.have + length > self.buffer_capacity:
            capacity = self.buffer_capacity * 2
            if capacity < self.have + length:
                capacity = self.have + length
            if capacity > self.need:
                capacity = self.need
            _PyBytes_Resize(&self.buffer, capacity)
            self.buffer_capacity = capacity
        memcpy(PyBytes_AS_STRING(<object>self.buffer) + self.have, data, length)
        self.have += length
        session.assembling += length
        return 0

    cdef int collect_plain(self, ServerSession session, const uint8_t *data, size_t length) except -1:
        """Part of the body of a plain request, held until it is whole."""
        cdef size_t limit = session.settings.plain_body_max
        cdef bytes prefix = session.settings.mount_prefix
        if prefix is not None and self.path_bytes is not None and self.path_bytes.startswith(prefix):
            limit = session.settings.mount_body_max
        if self.body is None:
            self.body = bytearray()
        if len(self.body) + length > limit:
            return self.refuse_plain(b"413", "request body too large")
        if session.assembling + length > session.settings.assembling_max:
            return self.refuse_plain(b"503", "too many request bytes in flight on this connection")
        session.assembling += length
        self.body += PyBytes_FromStringAndSize(<char *>data, length)
        return 0

    cdef int drop_body(self) except -1:
        if self.body is not None:
            (<ServerSession>self.session).assembling -= len(self.body)
            self.body = None
        return 0

    cdef bytes collected(self, ServerSession session):
        cdef PyObject *whole = self.buffer
        cdef bytes message
        self.buffer = NULL
        session.assembling -= self.have
        if self.buffer_capacity != self.have:
            _PyBytes_Resize(&whole, self.have)
        message = <bytes>whole
        Py_DecRef(whole)
        return message

    cdef int drop_partial(self) except -1:
        self.drop_body()
        if self.buffer is not NULL:
            (<ServerSession>self.session).assembling -= self.have
            Py_DecRef(self.buffer)
            self.buffer = NULL
        return 0

    cdef int take_message(self, ServerSession session, bytes message) except -1:
        if self.packed:
            try:
                message = decompress(message, session.settings.receive_max)
            except MessageTooLarge as error:
                return self.end_by_wire(RESOURCE_EXHAUSTED, str(error))
            except ValueError as error:
                return self.end_by_wire(INTERNAL, str(error))
        self.route.messages_in += 1
        if self.route.unary:
            if self.message is not None:
                return self.end_by_wire(INTERNAL, "more than one request message for a unary call")
            self.message = message
        else:
            self.inbox.append(message)
            self.make_ready()
        return 0

    cdef int handle_end(self) except -1:
        if self.done or self.oversized:
            return 0
        if self.is_grpc:
            if self.prefix_have:
                return self.end_by_wire(INTERNAL, "unexpected EOF")
            if self.route.unary and self.message is None:
                return self.end_by_wire(INTERNAL, "no request message for a unary call")
            self.half_due = True
        self.make_ready()
        return 0
