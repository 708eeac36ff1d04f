# Included by _nghttp2.pyx: streams and sessions that tell what happened as values, for the client role and for tests.

cdef class EventStream(Stream):
    """A stream that tells what happened as values of events.py; body bytes are released when `take` is called."""
    cdef size_t untaken
    cdef bint head_seen

    cdef int handle_head(self) except -1:
        cdef EventSession session = <EventSession>self.session
        session.events.append(Head(self.id, tuple(self.header_list())))
        self.drop_pairs()
        return 0

    cdef int handle_trailers(self) except -1:
        (<EventSession>self.session).events.append(Trailers(self.id, tuple(self.header_list())))
        self.drop_pairs()
        return 0

    cdef int handle_data(self, const uint8_t *data, size_t length) except -1:
        (<EventSession>self.session).events.append(Data(self.id, PyBytes_FromStringAndSize(<char *>data, length)))
        if (<EventSession>self.session).auto_take:
            self.session.release(self, length)
        else:
            self.untaken += length
        return 0

    cdef int handle_end(self) except -1:
        (<EventSession>self.session).events.append(Data(self.id, b"", True))
        return 0

    cdef int handle_closed(self, uint32_t error_code) except -1:
        (<EventSession>self.session).events.append(Reset(self.id, error_code))
        return 0


cdef class EventSession(Session):
    """A session that lists what happened in `events`: the client role, and the test peer."""
    cdef public list events
    cdef public bint auto_take

    def __cinit__(self, *args, **kwargs):
        self.events = []
        self.auto_take = True

    cdef Stream make_stream(self):
        return EventStream.__new__(EventStream)

    def request(self, headers, body=b"", bint end=True):
        """Open a stream with these headers; `end`: `body` is all of it."""
        cdef EventStream stream = EventStream.__new__(EventStream)
        cdef NameValues block = NameValues(headers)
        if self.ended:
            raise RuntimeError("the connection is closed")
        stream.session = self
        stream.ending = end
        if body:
            stream.push(body)
        stream.submit_request(self, block.array, block.count, not end or len(body) > 0)
        return stream.id

    def respond(self, int32_t stream_id, headers, bytes body=b"", bint end=True, trailers=None):
        cdef EventStream stream = self.by_id[stream_id]
        cdef NameValues block = NameValues(headers)
        if body:
            stream.push(body)
        stream.ending = end
        stream.trailers = None if trailers is None else as_pairs(trailers)
        stream.submit_head(block.array, block.count, True)

    def send(self, int32_t stream_id, bytes body=b"", bint end=False):
        cdef EventStream stream = self.by_id[stream_id]
        if body:
            stream.push(body)
        stream.ending = end
        stream.resume()

    def take(self, int32_t stream_id):
        """Give the windows of everything received on the stream back."""
        cdef EventStream stream = self.by_id[stream_id]
        self.release(stream, stream.untaken)
        stream.untaken = 0

    def reset(self, int32_t stream_id, uint32_t error_code=8):
        (<Stream>self.by_id[stream_id]).reset(error_code)

    def take_events(self):
        found = self.events
        self.events = []
        return found
