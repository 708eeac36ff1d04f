# Included by _grpc.pyx: what calls share: routes with their counters, settings, the session they live on.


cdef class Route:
    """One served method and its counters, shared by every connection of a server."""
    cdef readonly str path
    cdef readonly bint unary
    cdef object handler
    cdef readonly uint64_t started, messages_in, messages_out
    cdef uint64_t codes[CODES]

    def __init__(self, str path, bint unary, handler):
        self.path = path
        self.unary = unary
        self.handler = handler

    @property
    def handled(self):
        """Finished calls by status code."""
        return tuple([self.codes[code] for code in range(CODES)])


cdef class CallSettings:
    """What every call of a server shares: routes, message limits, hooks. Built once, from rpc.py's and limits.py's values."""
    cdef readonly dict routes
    cdef readonly Route unknown
    cdef readonly size_t receive_max, send_max, high_water, low_water, assembling_max, plain_body_max, mount_body_max
    cdef readonly bytes mount_prefix  # paths below it may have bodies of `mount_body_max`; None: there is no mount
    cdef public object on_start, on_end, on_plain

    def __init__(self, dict routes, limits, connection_limits, mount=None):
        for path, route in routes.items():
            if not isinstance(route, Route):
                raise TypeError(f"the route of {path!r} is not a Route")
        self.routes = routes
        self.unknown = Route("", True, None)
        self.receive_max = limits.receive_max
        self.send_max = limits.send_max
        self.high_water = limits.high_water
        self.low_water = limits.low_water
        self.assembling_max = connection_limits.assembling_max
        self.plain_body_max = connection_limits.plain_body_max
        self.mount_prefix = None if mount is None else mount.prefix.encode()
        self.mount_body_max = 0 if mount is None else mount.body_max


cdef class ServerSession(Session):
    """A server's connection whose streams are `Call`s."""
    cdef CallSettings settings
    cdef public object peer
    cdef size_t assembling
    cdef readonly double next_deadline
    cdef public object on_deadline  # called with loop time when a call with an earlier deadline than all others came
    cdef dict with_deadline

    def __init__(self, bint server, CallSettings shared, peer, **kwargs):
        super().__init__(server, **kwargs)
        self.settings = shared
        self.peer = peer
        self.with_deadline = {}
        self.next_deadline = 1e300

    cdef Stream make_stream(self):
        return Call.__new__(Call)

    def expire(self, double now):
        """Cancel the calls whose deadline has passed; the next deadline is known afterwards."""
        cdef Call call
        cdef double earliest = 1e300
        for call in list(self.with_deadline.values()):
            if call.due <= now:
                call.end_by_wire(DEADLINE_EXCEEDED, "context deadline exceeded")
            elif call.due < earliest:
                earliest = call.due
        self.next_deadline = earliest

    def calls(self):
        """The calls that are not over."""
        return [call for call in self.by_id.values() if not (<Call>call).done]

    def abort_calls(self, int code, str message):
        """End every call with this status."""
        cdef Call call
        for call in list(self.by_id.values()):
            if not call.done:
                call.end_by_wire(code, message)
