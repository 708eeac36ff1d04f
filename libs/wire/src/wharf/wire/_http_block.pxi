# Included by _http.pyx: header blocks on their way out, built in one array that is used again and again.
#
# Nothing runs between building a block and submitting it (nghttp2 copies), so one array serves the whole process.

cdef nghttp2_nv *_block = NULL
cdef size_t _block_capacity = 0
cdef HeaderFilter _not_sent = HeaderFilter([b"host"])  # the authority is a pseudo-header
cdef const char *_DIGITS = b"0123456789"


cdef inline bint _is(const uint8_t *name, const char *expected, size_t length) noexcept:
    return memcmp(name, expected, length) == 0


cdef int _reserve(size_t count) except -1:
    global _block, _block_capacity
    cdef nghttp2_nv *grown
    if count > _block_capacity:
        grown = <nghttp2_nv *>PyMem_Realloc(_block, (count + 32) * sizeof(nghttp2_nv))
        if grown is NULL:
            raise MemoryError
        _block = grown
        _block_capacity = count + 32
    return 0


cdef inline void _put(size_t at, const void *name, size_t length, const void *value, size_t size) noexcept:
    _block[at].name = <uint8_t *>name
    _block[at].namelen = length
    _block[at].value = <uint8_t *>value
    _block[at].valuelen = size
    _block[at].flags = NGHTTP2_NV_FLAG_NONE


cdef inline void _put_bytes(size_t at, const char *name, size_t length, bytes value) noexcept:
    _put(at, name, length, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef Py_ssize_t _find(Stream source, const char *name, size_t length) noexcept:
    """The place of the first received header of this name; -1: there is none."""
    cdef size_t at
    cdef nghttp2_vec found
    for at in range(source.pair_count):
        found = nghttp2_rcbuf_get_buf(source.pairs[at * 2])
        if found.len == length and _is(found.base, name, length):
            return at
    return -1


cdef size_t _put_pairs(size_t count, Stream source, HeaderFilter chosen) noexcept:
    """The received headers of `source` that pass; the number of fields then."""
    cdef size_t at
    cdef nghttp2_vec name, value
    for at in range(source.pair_count):
        name = nghttp2_rcbuf_get_buf(source.pairs[at * 2])
        value = nghttp2_rcbuf_get_buf(source.pairs[at * 2 + 1])
        if name.len == 4 and _is(name.base, b"host", 4):
            continue  # the authority is a pseudo-header
        if not chosen.drops(name.base, name.len, value.base, value.len):
            _put(count, name.base, name.len, value.base, value.len)
            if source.sensitive and source.sensitive >> (at if at < 63 else 63) & 1:
                _block[count].flags = NGHTTP2_NV_FLAG_NO_INDEX  # RFC 7541 §7.1.3: passed on as it came
            count += 1
    return count


cdef Py_ssize_t _put_list(Py_ssize_t count, list headers, bint strict) except -1:
    """Python headers; connection fields and Host are left out. What HTTP/2 does not allow is left out too, or ValueError if `strict`.

    `headers` comes from `as_pairs` and must outlive the block.
    """
    cdef bytes name, value
    cdef const uint8_t *name_at
    cdef const uint8_t *value_at
    cdef size_t length, size
    for name, value in headers:
        name_at = <const uint8_t *>PyBytes_AS_STRING(name)
        value_at = <const uint8_t *>PyBytes_AS_STRING(value)
        length = PyBytes_GET_SIZE(name)
        size = PyBytes_GET_SIZE(value)
        if length == 0 or name_at[0] == c':' or not nghttp2_check_header_name(name_at, length) or (
                not nghttp2_check_header_value(value_at, size)):
            if strict:
                raise ValueError(f"HTTP/2 does not allow the header {name!r} as given")
            continue
        if not _not_sent.drops(name_at, length, value_at, size):
            _put(count, name_at, length, value_at, size)
            count += 1
    return count


cdef int _put_request(const char *scheme, size_t scheme_length, bytes method, bytes target, bytes authority) except -1:
    """The pseudo-headers of a request, four fields; ValueError when one of them is missing or not allowed."""
    if method is None or target is None or authority is None:
        raise ValueError("a request needs a method, a target and an authority")
    if not nghttp2_check_method(<const uint8_t *>PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)):
        raise ValueError(f"HTTP/2 does not allow the method {method!r}")
    if not nghttp2_check_path(<const uint8_t *>PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target)):
        raise ValueError("HTTP/2 does not allow the request target as given")
    if not nghttp2_check_authority(<const uint8_t *>PyBytes_AS_STRING(authority), PyBytes_GET_SIZE(authority)):
        raise ValueError("HTTP/2 does not allow the authority as given")
    _put_bytes(0, b":method", 7, method)
    _put(1, b":scheme", 7, scheme, scheme_length)
    _put_bytes(2, b":authority", 10, authority)
    _put_bytes(3, b":path", 5, target)
    return 4


cdef int _put_status(int status, char *digits) except -1:
    """`:status`, one field; `digits` holds its text until the block is submitted."""
    if not 100 <= status <= 999:
        raise ValueError(f"no HTTP status: {status}")
    digits[0] = _DIGITS[status // 100]
    digits[1] = _DIGITS[status // 10 % 10]
    digits[2] = _DIGITS[status % 10]
    _put(0, b":status", 7, digits, 3)
    return 1


cdef list _as_trailers(headers):
    """Headers that may stand after a body: no pseudo-headers, no connection fields, nothing HTTP/2 does not allow."""
    cdef bytes name, value
    cdef list kept = []
    for name, value in as_pairs(headers):
        if (PyBytes_GET_SIZE(name) and not name.startswith(b":")
                and nghttp2_check_header_name(<const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
                and nghttp2_check_header_value(<const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
                and _not_sent.keeps(name)):
            kept.append((name, value))
    return kept
