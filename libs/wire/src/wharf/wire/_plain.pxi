# Included by _grpc.pyx: answers to requests that are no gRPC calls.


cdef class PlainCall(IncomingCall):
    """A request that is no gRPC call, until its answer: whole at once, or in pieces. `Call` adds the answers of calls."""

    cdef int forget_callbacks(self) except -1:
        """A call that is over holds nothing of its handler's."""
        self.on_message = self.on_half_close = self.on_cancel = self.on_drain = None
        return 0

    cdef int refuse_plain(self, bytes status, str text) except -1:
        if not self.done:
            self.plain_response(int(status), [(b"content-type", b"text/plain; charset=utf-8")], text.encode() + b"\n")
        return 0

    def plain_response(self, int status, headers, bytes body):
        """Answer a request that is no gRPC call."""
        cdef NameValues block
        if self.done or self.closed:
            return
        self.done = True
        self.drop_body()
        self.forget_callbacks()
        block = NameValues([(b":status", b"%d" % status), *headers, (b"content-length", b"%d" % len(body))])
        if self.method_bytes == b"HEAD" or not body:
            self.submit_head(block.array, block.count, False)
        else:
            self.push(body)
            self.ending = True
            self.submit_head(block.array, block.count, True)
        self.session.wake()

    def plain_open(self, int status, headers):
        """Begin the answer to a request that is no gRPC call; `plain_send` and `plain_finish` follow."""
        cdef NameValues block
        if self.done or self.closed or self.head_submitted or self.is_grpc:
            return
        block = NameValues([(b":status", b"%d" % status), *headers])
        self.submit_head(block.array, block.count, True)
        self.session.wake()

    def plain_send(self, bytes data):
        """One piece of the answer that `plain_open` began."""
        if self.done or not self.head_submitted or self.is_grpc:
            return
        self.push(data)
        if self.queued > (<ServerSession>self.session).settings.high_water:
            self.above = True
        self.resume()
        self.session.wake()

    def plain_finish(self):
        """The answer that `plain_open` began is whole."""
        if self.done or not self.head_submitted or self.is_grpc:
            return
        self.done = True
        self.forget_callbacks()
        self.ending = True
        self.resume()
        self.session.wake()

    cdef int end_plain(self, bytes status, str text) except -1:
        """A plain request that is not answered ends with `status`, one whose answer is under way with RST_STREAM."""
        if not self.head_submitted:
            self.refuse_plain(status, text)
        else:
            self.done = True
            self.reset(2)
        return 0
