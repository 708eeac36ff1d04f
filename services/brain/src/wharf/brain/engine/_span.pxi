# A walk over a range of one table, part of _lmdb.pyx: collecting where values lie, then copying them framed.


cdef int seek(MDB_cursor* cursor, const char* low, size_t low_len, MDB_val* k, MDB_val* v) noexcept nogil:
    """To the first key >= low, which may be longer than any stored key."""
    if low_len == 0:
        return mdb_cursor_get(cursor, k, v, MDB_FIRST)
    k.mv_data, k.mv_size = <void*> low, (low_len if low_len <= MAX_KEY else MAX_KEY)
    cdef int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE)
    if rc == 0 and low_len > MAX_KEY and compare(k.mv_data, k.mv_size, low, low_len) < 0:
        rc = mdb_cursor_get(cursor, k, v, MDB_NEXT)
    return rc


cdef int seek_below(MDB_cursor* cursor, const char* high, size_t high_len, MDB_val* k, MDB_val* v) noexcept nogil:
    """To the last key < high; high NULL: to the very last."""
    cdef int rc
    if high == NULL:
        return mdb_cursor_get(cursor, k, v, MDB_LAST)
    rc = seek(cursor, high, high_len, k, v)
    if rc == MDB_NOTFOUND:
        return mdb_cursor_get(cursor, k, v, MDB_LAST)
    return mdb_cursor_get(cursor, k, v, MDB_PREV) if rc == 0 else rc


cdef struct Span:
    MDB_cursor* cursor
    const char* low
    size_t low_len
    const char* high
    size_t high_len
    size_t limit
    size_t max_bytes
    MDB_val* held  # values found, pointing into the map
    size_t room
    size_t count
    size_t bytes
    MDB_val next  # first key not taken; mv_data NULL: the range is exhausted
    int rc


cdef int open_span(
    Span* span, MDB_txn* txn, MDB_dbi dbi, bytes start, object end, size_t limit, size_t max_bytes
) except -1:
    span.low, span.low_len = PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start)
    span.high, span.high_len = NULL, 0
    if end is not None:
        if not isinstance(end, bytes):
            raise TypeError("end must be bytes or None")
        span.high, span.high_len = PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end)
    span.limit, span.max_bytes = limit, max_bytes
    span.held, span.room, span.count, span.bytes, span.rc = NULL, 0, 0, 0, 0
    span.next.mv_data, span.next.mv_size = NULL, 0
    return check(mdb_cursor_open(txn, dbi, &span.cursor), "reading")


cdef int span_check(Span* span) except -1:
    if span.rc == -1:
        raise MemoryError
    return check(span.rc, "reading")


cdef void close_span(Span* span) noexcept:
    mdb_cursor_close(span.cursor)
    free(span.held)


cdef void collect(Span* span, bint keep) noexcept nogil:
    """Walk the range; `keep` the values' places for copying."""
    cdef MDB_val k, v
    cdef MDB_val* more
    cdef int rc = seek(span.cursor, span.low, span.low_len, &k, &v)
    while rc == 0:
        if span.high != NULL and compare(k.mv_data, k.mv_size, span.high, span.high_len) >= 0:
            return
        if (span.limit and span.count >= span.limit) or (span.count and span.bytes >= span.max_bytes):
            span.next = k
            return
        if keep:
            if span.count == span.room:
                span.room = span.room * 2 if span.room else 512
                more = <MDB_val*> realloc(span.held, span.room * sizeof(MDB_val))
                if more == NULL:
                    span.rc = -1
                    return
                span.held = more
            span.held[span.count] = v
        span.count += 1
        span.bytes += 1 + varint_length(v.mv_size) + v.mv_size
        rc = mdb_cursor_get(span.cursor, &k, &v, MDB_NEXT)
    if rc != MDB_NOTFOUND:
        span.rc = rc


cdef void copy_framed(Span* span, unsigned char* out, int tag) noexcept nogil:
    cdef size_t i
    for i in range(span.count):
        out[0] = <unsigned char> tag
        out = put_varint(out + 1, span.held[i].mv_size)
        memcpy(out, span.held[i].mv_data, span.held[i].mv_size)
        out += span.held[i].mv_size
