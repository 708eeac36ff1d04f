# Included by _nghttp2.pyx: whether a received request is a well-formed message (RFC 9113 §8.1 to §8.3).
#
# A server judges by itself because nghttp2's own judgement cannot be told to let a liberal `:authority` pass: etcdctl 3.4 sends
# its endpoint's whole URL there, and every Go server takes it. All else is as strict as nghttp2; h2spec holds it to that.

cdef enum:
    TAKE = 0
    REJECT = 1


cdef inline bint _same(const uint8_t *name, size_t length, const char *expected, size_t expected_length) noexcept:
    return length == expected_length and memcmp(name, expected, length) == 0


cdef int _judge_pseudo(Stream stream, const uint8_t *name, size_t length, const uint8_t *value, size_t size) noexcept:
    cdef uint32_t flag
    if stream.seen & REGULAR_SEEN or stream.in_trailers or size == 0 or not nghttp2_check_header_value(value, size):
        return REJECT
    if _same(name, length, b":method", 7):
        flag = HAS_METHOD
        if not nghttp2_check_method(value, size):
            return REJECT
        if _same(value, size, b"CONNECT", 7):
            stream.seen |= IS_CONNECT
        elif _same(value, size, b"OPTIONS", 7):
            stream.seen |= IS_OPTIONS
    elif _same(name, length, b":path", 5):
        flag = HAS_PATH
        if not nghttp2_check_path(value, size):
            return REJECT
        if value[0] == c'/':
            stream.seen |= PATH_ABSOLUTE
        elif size == 1 and value[0] == c'*':
            stream.seen |= PATH_ASTERISK
    elif _same(name, length, b":scheme", 7):
        flag = HAS_SCHEME
        if _same(value, size, b"http", 4) or _same(value, size, b"https", 5):
            stream.seen |= HTTP_SCHEME
    elif _same(name, length, b":authority", 10):
        flag = HAS_AUTHORITY
    else:
        return REJECT
    if stream.seen & flag:
        return REJECT
    stream.seen |= flag
    return TAKE


cdef int _judge_length(Stream stream, const uint8_t *value, size_t size) noexcept:
    cdef size_t at
    if stream.seen & HAS_LENGTH or size == 0 or size > 18:
        return REJECT
    stream.seen |= HAS_LENGTH
    for at in range(size):
        if not c'0' <= value[at] <= c'9':
            return REJECT
        stream.announced = stream.announced * 10 + (value[at] - c'0')
    return TAKE


cdef int judge_header(Stream stream, const uint8_t *name, size_t length, const uint8_t *value, size_t size) noexcept:
    """TAKE, or REJECT: the message is malformed, and one field that HTTP/1.1 could read otherwise is enough for that."""
    if length == 0:
        return REJECT
    if name[0] == c':':
        return _judge_pseudo(stream, name, length, value, size)
    if not nghttp2_check_header_name(name, length):
        return REJECT
    if stream.in_trailers:
        return TAKE if nghttp2_check_header_value(value, size) else REJECT
    stream.seen |= REGULAR_SEEN
    if length == 2 and _same(name, length, b"te", 2):
        return TAKE if size == 8 and strncasecmp(<const char *>value, b"trailers", 8) == 0 else REJECT
    if length == 4 and _same(name, length, b"host", 4):
        stream.seen |= HAS_AUTHORITY
    elif length == 7 and _same(name, length, b"upgrade", 7):
        return REJECT
    elif length == 10 and (_same(name, length, b"connection", 10) or _same(name, length, b"keep-alive", 10)):
        return REJECT
    elif length == 14 and _same(name, length, b"content-length", 14):
        return _judge_length(stream, value, size)
    elif length == 14 and _same(name, length, b"content_length", 14):
        return REJECT  # servers behind gateways of old read it as the other
    elif length == 16 and _same(name, length, b"proxy-connection", 16):
        return REJECT
    elif length == 17 and (_same(name, length, b"transfer-encoding", 17) or _same(name, length, b"transfer_encoding", 17)):
        return REJECT
    return TAKE if nghttp2_check_header_value(value, size) else REJECT


cdef bint is_whole_head(Stream stream) noexcept:
    """Whether the request head has the pseudo-headers its method asks for."""
    cdef uint32_t seen = stream.seen
    if seen & IS_CONNECT:
        return seen & PSEUDO == HAS_METHOD | HAS_AUTHORITY
    if seen & (HAS_METHOD | HAS_SCHEME | HAS_PATH) != HAS_METHOD | HAS_SCHEME | HAS_PATH or not seen & HAS_AUTHORITY:
        return False
    return (not seen & HTTP_SCHEME or seen & PATH_ABSOLUTE != 0
            or (seen & IS_OPTIONS != 0 and seen & PATH_ASTERISK != 0))


cdef bint fits_length(Stream stream, bint ended) noexcept:
    """Whether the body so far agrees with content-length."""
    if not stream.seen & HAS_LENGTH:
        return True
    return stream.arrived == stream.announced if ended else stream.arrived <= stream.announced
