# Included by _nghttp2.pyx: one stream, its received headers and its queue of outgoing bytes.

cdef class NameValues:
    """A header block as nghttp2 wants it; keeps the Python bytes alive that it points into."""

    def __cinit__(self, headers):
        cdef bytes name, value
        cdef size_t at = 0
        self.keep = as_pairs(headers)
        self.count = len(self.keep)
        self.array = <nghttp2_nv *>PyMem_Malloc((self.count + 1) * sizeof(nghttp2_nv))
        if self.array is NULL:
            raise MemoryError
        for name, value in self.keep:
            self.array[at].name = <uint8_t *>PyBytes_AS_STRING(name)
            self.array[at].namelen = PyBytes_GET_SIZE(name)
            self.array[at].value = <uint8_t *>PyBytes_AS_STRING(value)
            self.array[at].valuelen = PyBytes_GET_SIZE(value)
            self.array[at].flags = NGHTTP2_NV_FLAG_NONE
            at += 1

    def __dealloc__(self):
        PyMem_Free(self.array)


cdef class Stream:
    """One stream. Subclasses give meaning to what arrives; sending is `submit_head`, `push`, `parts`, `ending`."""

    def __cinit__(self):
        self.segments = []

    def __dealloc__(self):
        self.drop_pairs()

    # --- hooks
    cdef int handle_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        """One header of the block being received; 1: keep it for `header_list`."""
        return 1

    cdef bint begins_trailers(self):
        """Whether a header block after the first one is the trailers; an interim response's successor is not."""
        return True

    cdef int handle_head(self) except -1:
        return 0

    cdef int handle_trailers(self) except -1:
        return 0

    cdef int handle_data(self, const uint8_t *data, size_t length) except -1:
        """Body bytes. Whoever overrides this calls `session.release` for them, now or when they are taken."""
        self.session.release(self, length)
        return 0

    cdef int handle_end(self) except -1:
        return 0

    cdef int handle_closed(self, uint32_t error_code) except -1:
        return 0

    cdef int handle_drained(self) except -1:
        return 0

    cdef int deliver(self) except -1:
        """Called outside of nghttp2, after `make_ready`."""
        return 0

    cdef int submit_trailers(self) except -1:
        cdef NameValues block = NameValues(self.trailers)
        return check(nghttp2_submit_trailer(self.session.ng, self.id, block.array, block.count))

    # --- received headers
    cdef int store_pair(self, nghttp2_rcbuf *name, nghttp2_rcbuf *value) except -1:
        cdef size_t capacity
        cdef nghttp2_rcbuf **grown
        if self.pair_count == self.pair_capacity:
            capacity = self.pair_capacity * 2 if self.pair_capacity else 8
            grown = <nghttp2_rcbuf **>PyMem_Realloc(self.pairs, capacity * 2 * sizeof(nghttp2_rcbuf *))
            if grown is NULL:
                raise MemoryError
            self.pairs = grown
            self.pair_capacity = capacity
        nghttp2_rcbuf_incref(name)
        nghttp2_rcbuf_incref(value)
        self.pairs[self.pair_count * 2] = name
        self.pairs[self.pair_count * 2 + 1] = value
        self.pair_count += 1
        return 0

    cdef int drop_pairs(self) except -1:
        cdef size_t at
        for at in range(self.pair_count * 2):
            nghttp2_rcbuf_decref(self.pairs[at])
        PyMem_Free(self.pairs)
        self.pairs = NULL
        self.pair_count = self.pair_capacity = 0
        self.sensitive = 0
        return 0

    cdef list header_list(self):
        cdef size_t at
        cdef nghttp2_vec name, value
        cdef list found = []
        for at in range(self.pair_count):
            name = nghttp2_rcbuf_get_buf(self.pairs[at * 2])
            value = nghttp2_rcbuf_get_buf(self.pairs[at * 2 + 1])
            found.append((PyBytes_FromStringAndSize(<char *>name.base, name.len),
                          PyBytes_FromStringAndSize(<char *>value.base, value.len)))
        return found

    # --- sending
    cdef int submit_head(self, nghttp2_nv *headers, size_t count, bint body) except -1:
        """Response headers; with `body` the queued bytes follow, without it the stream ends here. A closed stream ignores them."""
        cdef nghttp2_data_provider provider
        if self.closed:
            return 0
        self.head_submitted = True
        if body:
            provider.source.ptr = <void *>self
            provider.read_callback = _read_body
            return check(nghttp2_submit_response(self.session.ng, self.id, headers, count, &provider))
        return check(nghttp2_submit_response(self.session.ng, self.id, headers, count, NULL))

    cdef int submit_request(self, Session session, nghttp2_nv *headers, size_t count, bint body) except -1:
        """Open this stream in the client role; with `body` the queued bytes follow. RuntimeError when the session is closed."""
        cdef nghttp2_data_provider provider
        cdef int32_t stream_id
        if session.ng is NULL or session.ended:
            raise RuntimeError("the connection is closed")
        provider.source.ptr = <void *>self
        provider.read_callback = _read_body
        stream_id = nghttp2_submit_request(session.ng, NULL, headers, count, &provider if body else NULL, <void *>self)
        check(stream_id)
        self.session = session
        self.id = stream_id
        session.by_id[stream_id] = self
        session.streams_opened += 1
        return 0

    cdef int push(self, bytes data) except -1:
        if data is None:
            raise TypeError("a body is made of bytes, not None")
        if self.closed:
            return 0
        self.segments.append(data)
        self.queued += PyBytes_GET_SIZE(data)
        self.session.unsent += PyBytes_GET_SIZE(data)
        return 0

    cdef int resume(self) except -1:
        cdef int code
        if self.deferred and not self.closed:
            self.deferred = False
            code = nghttp2_session_resume_data(self.session.ng, self.id)
            if code != NGHTTP2_ERR_INVALID_ARGUMENT:  # that is a stream whose reset is on the way
                check(code)
        return 0

    cdef int fill(self, size_t wanted) except -1:
        """Pull parts until `wanted` bytes are queued or the parts are all here; ValueError if they do not add up."""
        cdef bytes part
        while self.queued < wanted and self.parts is not None:
            if self.parts_left == 0:
                self.parts = None
                break
            part = next(self.parts, None)
            if self.closed:
                return 0
            if part is None or <size_t>PyBytes_GET_SIZE(part) > self.parts_left:
                raise ValueError("reply parts do not add up to the announced length")
            if PyBytes_GET_SIZE(part):
                self.push(part)
                self.parts_left -= PyBytes_GET_SIZE(part)
        return 0

    cdef int copy_out(self, size_t length) except -1:
        """Move `length` queued bytes into the session's output."""
        cdef bytes segment
        cdef size_t size, take
        if length > self.queued:
            raise ValueError("fewer bytes queued than promised")
        self.queued -= length
        self.session.unsent -= length
        while length:
            segment = <bytes>self.segments[self.segment_at]
            size = PyBytes_GET_SIZE(segment) - self.segment_offset
            take = size if size < length else length
            self.session.append(PyBytes_AS_STRING(segment) + self.segment_offset, take)
            length -= take
            if take == size:
                self.segments[self.segment_at] = None
                self.segment_at += 1
                self.segment_offset = 0
            else:
                self.segment_offset += take
        if self.segment_at == <size_t>len(self.segments):
            self.segments.clear()
            self.segment_at = 0
        elif self.segment_at > 64 and self.segment_at * 2 > <size_t>len(self.segments):
            del self.segments[:self.segment_at]
            self.segment_at = 0
        if self.above and self.queued <= self.low_water:
            self.above = False
            if not self.drain_due:
                self.drain_due = True
                self.session.drained.append(self)
        return 0

    cdef int make_ready(self) except -1:
        if not self.is_ready:
            self.is_ready = True
            self.session.ready.append(self)
            self.session.wake()
        return 0

    cpdef void reset(self, uint32_t code=8):
        if not self.closed and self.session.ng is not NULL:
            check(nghttp2_submit_rst_stream(self.session.ng, 0, self.id, code))
            self.session.wake()


cdef ssize_t _read_body(nghttp2_session *ng, int32_t stream_id, uint8_t *buffer, size_t length,
                        uint32_t *flags, nghttp2_data_source *source, void *user_data) noexcept:
    cdef Stream stream = <Stream>source.ptr
    cdef size_t take
    if stream.session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    try:
        if stream.parts is not None:
            stream.fill(length + 1)
    except BaseException:
        log.exception("stream %d is reset: its body could not be produced", stream_id)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    if stream.session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE  # while its parts were made
    try:
        take = stream.queued if stream.queued < length else length
        if take == 0 and not stream.ending:
            stream.deferred = True
            return NGHTTP2_ERR_DEFERRED
        if take:
            flags[0] = NGHTTP2_DATA_FLAG_NO_COPY
        if take == stream.queued and stream.ending and stream.parts is None:
            flags[0] |= NGHTTP2_DATA_FLAG_EOF
            if stream.trailers is not None:
                flags[0] |= NGHTTP2_DATA_FLAG_NO_END_STREAM
                stream.submit_trailers()
        return take
    except BaseException as error:
        return stream.session.fail(error)
