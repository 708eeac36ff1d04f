# Included by _nghttp2.pyx: token buckets for what costs a peer little and this side much.


cdef int spend(Session session, int64_t cost) except -1:
    """Pay for a frame that carries no work; tokens come back with time and with work done."""
    cdef double now
    session.frame_tokens -= cost
    if session.frame_tokens < 0:
        now = session.clock() if session.clock is not None else 0.0
        session.frame_tokens += <int64_t>min((now - session.frame_refilled) * session.frame_refill, <double>session.frame_burst)
        session.frame_refilled = now
        if session.frame_tokens < 0:
            session.violate("too many frames that carry no work", "frame_flood")
    return 0


cdef int charge_reset(Session session) except -1:
    """A stream was reset by the peer, or because of it."""
    cdef double now
    session.reset_tokens -= 1
    if session.reset_tokens < 0:
        now = session.clock() if session.clock is not None else 0.0
        session.reset_tokens = min(
            session.reset_tokens + (now - session.reset_refilled) * session.reset_refill, session.reset_burst)
        session.reset_refilled = now
        if session.reset_tokens < 0:
            session.violate("too many streams reset", "rapid_reset")
    return 0
