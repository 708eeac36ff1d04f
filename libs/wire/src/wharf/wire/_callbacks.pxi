# Included by _nghttp2.pyx: what nghttp2 calls.

# Each finds the stream, calls its hook, and keeps an exception for the caller of nghttp2.

cdef int _on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE  # a hook closed it; so everywhere here
    session.frames_in += 1
    if (session.server and head.type == NGHTTP2_HEADERS and head.stream_id <= session.last_stream_id
            and head.stream_id & 1 and nghttp2_session_get_stream_user_data(ng, head.stream_id) is NULL):
        try:
            check_closed(session, head.stream_id, True)
        except BaseException as error:
            return session.fail(error)
    return 0


cdef int _on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    cdef void *known
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    try:
        session.block_open = True
        if session.server and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
            stream = session.make_stream()
            session.streams_opened += 1
            session.last_stream_id = frame.hd.stream_id
            session.attach(stream, frame.hd.stream_id)
            session.current = stream
        else:
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            session.current = <Stream>known if known is not NULL and frame.hd.type == NGHTTP2_HEADERS else None
            if session.current is not None and frame.headers.cat == NGHTTP2_HCAT_HEADERS:
                session.current.in_trailers = session.current.begins_trailers()
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _on_header(nghttp2_session *ng, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                    uint8_t flags, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream = session.current
    cdef nghttp2_vec name_at, value_at
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if stream is None or stream.malformed:
        return 0
    try:
        name_at = nghttp2_rcbuf_get_buf(name)
        value_at = nghttp2_rcbuf_get_buf(value)
        stream.header_bytes += name_at.len + value_at.len + 32
        if stream.header_bytes > session.header_list_max:
            stream.oversized = True
            if stream.header_bytes > 16 * session.header_list_max:
                session.violate("a header list beyond all measure", "header_list_too_large")
            elif session.server and not stream.in_trailers:
                # What kind of request it is may come behind the headers that are too many.
                stream.handle_header(name_at.base, name_at.len, value_at.base, value_at.len)
            return 0
        if session.server:
            if judge_header(stream, name_at.base, name_at.len, value_at.base, value_at.len) == REJECT:
                stream.malformed = True
                return 0
        if stream.handle_header(name_at.base, name_at.len, value_at.base, value_at.len):
            if flags & NGHTTP2_NV_FLAG_NO_INDEX:
                stream.sensitive |= <uint64_t>1 << (stream.pair_count if stream.pair_count < 63 else 63)
            stream.store_pair(name, value)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    cdef void *known
    cdef bint ended
    cdef int kind = frame.hd.type
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    try:
        if kind == NGHTTP2_DATA:
            if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
                known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
                if known is not NULL:
                    stream = <Stream>known
                    stream.remote_ended = True
                    session.end_body(stream)
            elif frame.hd.length == frame.data.padlen:
                spend(session, 1)  # empty, or padding alone
        elif kind == NGHTTP2_HEADERS:
            session.block_open = False
            stream = session.current
            session.current = None
            if stream is not None:
                ended = frame.hd.flags & NGHTTP2_FLAG_END_STREAM
                if ended:
                    stream.remote_ended = True
                if session.server and not (ended if stream.in_trailers else is_whole_head(stream)):
                    stream.malformed = True
                if stream.malformed:
                    session.refuse_malformed(stream)
                elif stream.in_trailers:
                    stream.handle_trailers()
                else:
                    stream.handle_head()
                if ended:
                    session.end_body(stream)
        elif kind == NGHTTP2_PING:
            if frame.hd.flags & NGHTTP2_FLAG_ACK:
                session.ping_acks += 1
                spend(session, 1)
            else:
                spend(session, 1)
                if session.ping_interval_min > 0 and session.clock is not None:
                    session.charge_ping(session.clock())
        elif kind == NGHTTP2_SETTINGS:
            session.settled = True
            spend(session, 4)
        elif kind == NGHTTP2_RST_STREAM:
            session.resets_in += 1
            charge_reset(session)
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            if known is not NULL:
                (<Stream>known).remote_ended = (<Stream>known).was_reset = True
        elif kind == NGHTTP2_GOAWAY:
            session.goaway_received = True
            spend(session, 1)
        else:
            spend(session, 1)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    try:
        session.block_open = False
        charge_reset(session)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t length,
                        void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    cdef void *known = nghttp2_session_get_stream_user_data(ng, stream_id)
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    try:
        session.hold(length)
        if session.frame_tokens < session.frame_burst:
            session.frame_tokens += 1
        if known is NULL:
            session.held -= length
            check(nghttp2_session_consume_stream(ng, stream_id, length))
            return 0
        stream = <Stream>known
        stream.arrived += length
        if session.server and not stream.malformed and not fits_length(stream, False):
            session.refuse_malformed(stream)
        if stream.malformed:
            session.release(stream, length)
        else:
            stream.handle_data(data, length)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _on_stream_close(nghttp2_session *ng, int32_t stream_id, uint32_t error_code, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    try:
        stream = <Stream>session.by_id.pop(stream_id, None)
        if stream is not None:
            if session.current is stream:
                session.current = None
            check(nghttp2_session_set_stream_user_data(ng, stream_id, NULL))
            session.closed_ids[session.closed_at] = stream_id if stream.remote_ended else -stream_id
            session.closed_at = (session.closed_at + 1) & 255
            stream.closed = True
            session.unsent -= stream.queued
            stream.queued = 0
            stream.segments.clear()
            stream.segment_at = stream.segment_offset = 0
            stream.parts = None
            stream.handle_closed(error_code)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int note_sent(Session session, Stream stream, bint ended) except -1:
    stream.head_submitted = True
    if ended:
        stream.local_ended = True
        # answered before the request ended: tell the client to stop sending it
        if session.server and not stream.remote_ended:
            check(nghttp2_submit_rst_stream(session.ng, 0, stream.id, NGHTTP2_NO_ERROR))
    return 0


cdef int _on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef void *known
    if frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS:
        session.ping_strikes = 0
        session.frame_tokens += 4
        if session.frame_tokens > session.frame_burst:
            session.frame_tokens = session.frame_burst
        if not session.server or frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            if known is not NULL:
                try:
                    note_sent(session, <Stream>known, frame.hd.flags & NGHTTP2_FLAG_END_STREAM)
                except BaseException as error:
                    return session.fail(error)
    return 0


cdef int _on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *user_data) noexcept:
    """nghttp2 does not send a header block that is too large; without a reset its stream would wait for ever."""
    cdef Session session = <Session>user_data
    cdef void *known
    if frame.hd.type != NGHTTP2_HEADERS or frame.headers.cat == NGHTTP2_HCAT_REQUEST or session.gone:
        return 0  # nghttp2 itself closes the stream of a request that it does not send
    known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
    if known is NULL or (<Stream>known).was_reset:
        return 0
    try:
        log.error("stream %d is reset: its headers cannot be sent: %s", frame.hd.stream_id, nghttp2_strerror(code).decode())
        check(nghttp2_submit_rst_stream(ng, 0, frame.hd.stream_id, NGHTTP2_INTERNAL_ERROR))
        return 0
    except BaseException as error:
        return session.fail(error)


cdef int _send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t length,
                    nghttp2_data_source *source, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream = <Stream>source.ptr
    if session.gone:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if session.out_length >= session.out_limit:
        return NGHTTP2_ERR_WOULDBLOCK
    if stream.queued < length:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    try:
        session.append(head, 9)
        stream.copy_out(length)
        return 0
    except BaseException as error:
        return session.fail(error)


cdef nghttp2_session_callbacks *_make_callbacks() except NULL:
    cdef nghttp2_session_callbacks *callbacks = NULL
    check(nghttp2_session_callbacks_new(&callbacks))
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, _on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, _on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, _on_header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, _on_frame_recv)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, _on_invalid_frame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, _on_data_chunk)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, _on_stream_close)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, _on_frame_send)
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, _on_frame_not_send)
    nghttp2_session_callbacks_set_send_data_callback(callbacks, _send_data)
    return callbacks


# one table for every session of the process, never freed
cdef nghttp2_session_callbacks *_callbacks = _make_callbacks()
