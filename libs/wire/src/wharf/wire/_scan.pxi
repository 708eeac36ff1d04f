# Included by _nghttp2.pyx: frames of a client for streams that are over. nghttp2 forgets those and ignores the frames in silence.


cdef int scan(Session session, const uint8_t *data, size_t length) except -1:
    """Feed the session, and look at each DATA frame whose stream nghttp2 does not know any more."""
    cdef size_t at = 0, start = 0, take, edge
    cdef bint reset_seen = False
    cdef int32_t stream_id
    while at < length:
        if session.scan_skip:
            take = session.scan_skip if session.scan_skip < length - at else length - at
            session.scan_skip -= take
            at += take
            continue
        take = 9 - session.scan_have if 9 - session.scan_have < length - at else length - at
        memcpy(&session.scan_head[session.scan_have], data + at, take)
        session.scan_have += take
        at += take
        if session.scan_have < 9:
            break
        session.scan_have = 0
        session.scan_skip = (<size_t>session.scan_head[0] << 16) | (session.scan_head[1] << 8) | session.scan_head[2]
        if session.scan_head[3] == NGHTTP2_RST_STREAM:
            reset_seen = True
        elif session.scan_head[3] > 9:
            spend(session, 1)  # an unknown extension
        elif session.scan_head[3] == NGHTTP2_DATA:
            stream_id = (<int32_t>(session.scan_head[5] & 127) << 24) | (session.scan_head[6] << 16) | (
                session.scan_head[7] << 8) | session.scan_head[8]
            if not stream_id & 1 or (not reset_seen and (
                    stream_id > session.last_stream_id
                    or nghttp2_session_get_stream_user_data(session.ng, stream_id) is not NULL)):
                continue
            edge = at - 9 if at >= start + 9 else start
            session.feed(data + start, edge - start)
            start = edge
            if session.gone:
                return 0
            if (stream_id <= session.last_stream_id
                    and nghttp2_session_get_stream_user_data(session.ng, stream_id) is NULL):
                check_closed(session, stream_id, False)
                if session.violation is not None:
                    return 0
    return session.feed(data + start, length - start)


cdef int check_closed(Session session, int32_t stream_id, bint headers) except -1:
    """A frame for a stream that is over: an error, unless we ended it ourselves and the frame was already on its way."""
    cdef size_t at
    for at in range(256):
        if session.closed_ids[at] == stream_id:
            return session.violate("a frame on a closed stream", "stream closed", NGHTTP2_STREAM_CLOSED)
        if session.closed_ids[at] == -stream_id:
            return 0
    if headers:
        session.violate("a stream identifier that goes back", "stream identifier not increasing", NGHTTP2_PROTOCOL_ERROR)
    return 0
