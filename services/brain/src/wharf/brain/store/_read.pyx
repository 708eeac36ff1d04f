# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Pages of a range as it was at a revision, straight from LMDB's pages: the compiled twin of `history.rows_at`.

Walks NOW and HISTORY side by side in key order. For each key the answer at revision R is NOW's KeyValue if that is not newer than R,
else the version in HISTORY that ended first after R, if it had begun by then; else the key was absent.

Long keys (stored under a hash) are out of order: meeting one gives up with None, and the caller takes the slow, exact way.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from wharf.brain.engine._lmdb cimport *
from wharf.brain.store._kv cimport find

from wharf.brain.engine._lmdb import LmdbError

cdef enum:
    NOW = 2
    HISTORY = 3
    MET_LONG_KEY = 1000000
    MALFORMED = 1000001
    NO_MEMORY = 1000002
    STEM_MOST = 512


cdef struct Row:
    const unsigned char* head
    size_t head_len
    const unsigned char* tail  # what follows the value when the value is left out
    size_t tail_len


cdef struct Walk:
    MDB_cursor* now
    MDB_cursor* then
    const char* end
    size_t end_len
    const char* then_end
    size_t then_end_len
    uint64_t revision
    size_t limit
    size_t max_bytes
    bint keys_only
    bint keep
    Row* rows
    size_t room
    size_t count
    size_t bytes
    MDB_val nk
    MDB_val nv
    MDB_val hk
    MDB_val hv
    bint has_now
    bint has_then
    MDB_val last  # the last KeyValue taken
    bint stopped  # by limit or max_bytes


cdef inline int varint_length(size_t number) noexcept nogil:
    cdef int n = 1
    while number > 0x7F:
        number >>= 7
        n += 1
    return n


cdef int began(MDB_val* kv, uint64_t* revision) noexcept nogil:
    """mod_revision of a stored KeyValue; 0 or MALFORMED."""
    return 0 if find(kv, 3, revision, NULL) == 1 else MALFORMED


cdef int advance_now(Walk* w, int op) noexcept nogil:
    cdef int rc = mdb_cursor_get(w.now, &w.nk, &w.nv, <MDB_cursor_op> op)
    return check_now(w, rc)


cdef int check_now(Walk* w, int rc) noexcept nogil:
    w.has_now = rc == 0 and (
        w.end == NULL or compare(w.nk.mv_data, w.nk.mv_size, w.end, w.end_len) < 0
    )
    if w.has_now and w.nk.mv_size == MAX_KEY:
        return MET_LONG_KEY
    return 0 if rc == MDB_NOTFOUND else rc


cdef int check_then(Walk* w, int rc) noexcept nogil:
    w.has_then = rc == 0 and (
        w.then_end == NULL or compare(w.hk.mv_data, w.hk.mv_size, w.then_end, w.then_end_len) < 0
    )
    if w.has_then:
        if w.hk.mv_size == MAX_KEY:
            return MET_LONG_KEY
        if w.hk.mv_size <= 10:
            return MALFORMED
    return 0 if rc == MDB_NOTFOUND else rc


cdef int order_of_heads(Walk* w) noexcept nogil:
    """Key at the NOW cursor against key at the HISTORY cursor, in escaped form."""
    cdef unsigned char escaped[STEM_MOST * 2]
    cdef const unsigned char* key = <const unsigned char*> w.nk.mv_data
    cdef size_t i, n = 0
    if memchr(key, 0, w.nk.mv_size) == NULL:
        return compare(key, w.nk.mv_size, w.hk.mv_data, w.hk.mv_size - 10)
    for i in range(w.nk.mv_size):
        escaped[n] = key[i]
        n += 1
        if key[i] == 0:
            escaped[n] = 0xFF
            n += 1
    return compare(escaped, n, w.hk.mv_data, w.hk.mv_size - 10)


cdef int skip_key(Walk* w, const unsigned char* stem, size_t length) noexcept nogil:
    """HISTORY cursor past every version of the key whose stem this is."""
    cdef unsigned char bound[STEM_MOST]
    cdef int rc
    if w.has_then and w.hk.mv_size == length + 8 and memcmp(w.hk.mv_data, stem, length) == 0:
        rc = mdb_cursor_get(w.then, &w.hk, &w.hv, MDB_NEXT)
        if rc == 0 and w.hk.mv_size == length + 8 and memcmp(w.hk.mv_data, stem, length) == 0:
            memcpy(bound, stem, length)
            bound[length - 1] = 2
            rc = seek(w.then, <const char*> bound, length, &w.hk, &w.hv)
        return check_then(w, rc)
    return 0


cdef int take_from_history(Walk* w) noexcept nogil:
    """The version of the key at the HISTORY cursor that was live at the revision, if any; leaves the cursor behind the key."""
    cdef unsigned char stem[STEM_MOST]
    cdef size_t length = w.hk.mv_size - 8
    cdef uint64_t ended = 0, start = 0, wanted = w.revision + 1
    cdef int i, rc = 0
    memcpy(stem, w.hk.mv_data, w.hk.mv_size)
    for i in range(8):
        ended = ended << 8 | stem[length + i]
    if ended <= w.revision:
        for i in range(8):
            stem[length + 7 - i] = wanted & 0xFF
            wanted >>= 8
        rc = check_then(w, seek(w.then, <const char*> stem, length + 8, &w.hk, &w.hv))
        if rc != 0:
            return rc
    if w.has_then and w.hk.mv_size == length + 8 and memcmp(w.hk.mv_data, stem, length) == 0:
        rc = began(&w.hv, &start)
        if rc == 0 and start <= w.revision:
            rc = take(w, &w.hv)
    return rc if rc != 0 or w.stopped else skip_key(w, stem, length)


cdef int take(Walk* w, MDB_val* kv) noexcept nogil:
    """Add a KeyValue to the page, or stop the walk."""
    cdef MDB_val content = MDB_val(0, NULL)
    cdef uint64_t number
    cdef Row row
    cdef Row* more
    if (w.limit and w.count >= w.limit) or (w.count and w.bytes >= w.max_bytes):
        w.stopped = True
        return 0
    row.head, row.head_len, row.tail, row.tail_len = <const unsigned char*> kv.mv_data, kv.mv_size, NULL, 0
    if w.keys_only and find(kv, 5, &number, &content) == 1:
        row.tail = <const unsigned char*> content.mv_data + content.mv_size
        row.tail_len = <const unsigned char*> kv.mv_data + kv.mv_size - row.tail
        row.head_len = <const unsigned char*> content.mv_data - row.head - varint_length(content.mv_size) - 1
    if w.keep:
        if w.count == w.room:
            w.room = w.room * 2 if w.room else 512
            more = <Row*> realloc(w.rows, w.room * sizeof(Row))
            if more == NULL:
                return NO_MEMORY
            w.rows = more
        w.rows[w.count] = row
    w.count += 1
    w.bytes += 1 + varint_length(row.head_len + row.tail_len) + row.head_len + row.tail_len
    w.last = kv[0]
    return 0


cdef int step(Walk* w) noexcept nogil:
    """One key of the range."""
    cdef uint64_t start
    cdef int rc, order
    order = -1 if not w.has_then else (1 if not w.has_now else order_of_heads(w))
    if order > 0:
        return take_from_history(w)
    rc = began(&w.nv, &start)
    if rc != 0:
        return rc
    if start <= w.revision:
        rc = take(w, &w.nv)
        if rc != 0 or w.stopped:
            return rc
        if order == 0:
            rc = skip_key(w, <const unsigned char*> w.hk.mv_data, w.hk.mv_size - 8)
    elif order == 0:
        rc = take_from_history(w)
    return rc if rc != 0 or w.stopped else advance_now(w, MDB_NEXT)


cdef int run(Walk* w, const char* low, size_t low_len, const char* then_low, size_t then_low_len) noexcept nogil:
    cdef int rc = check_now(w, seek(w.now, low, low_len, &w.nk, &w.nv))
    if rc == 0 and w.then != NULL:
        rc = check_then(w, seek(w.then, then_low, then_low_len, &w.hk, &w.hv))
    while rc == 0 and not w.stopped and (w.has_now or w.has_then):
        rc = step(w)
    return rc


cdef void copy_rows(Walk* w, unsigned char* out, int tag) noexcept nogil:
    cdef size_t i, length
    for i in range(w.count):
        out[0] = <unsigned char> tag
        out += 1
        length = w.rows[i].head_len + w.rows[i].tail_len
        while length > 0x7F:
            out[0] = length & 0x7F | 0x80
            out += 1
            length >>= 7
        out[0] = <unsigned char> length
        out += 1
        memcpy(out, w.rows[i].head, w.rows[i].head_len)
        out += w.rows[i].head_len
        if w.rows[i].tail_len:
            memcpy(out, w.rows[i].tail, w.rows[i].tail_len)
            out += w.rows[i].tail_len


def page_at(
    ReadTxn snapshot, bytes start, end, bytes then_start, then_end, uint64_t revision, bint latest, size_t limit,
    size_t max_bytes, bint keys_only, int tag, bint keep
):
    """A page of the range [start, end) as it was at `revision`, which must not be compacted.

    (framed KeyValues, or b"" unless `keep`; how many; framed length; last key taken or None; whether limit or bytes cut it), or None when
    a long key is in the way. `latest`: HISTORY need not be looked at. `then_start`, `then_end`: the bounds in HISTORY's form.
    """
    cdef Walk w
    cdef bytes framed = b""
    cdef MDB_val content = MDB_val(0, NULL)
    cdef uint64_t number
    cdef int rc
    snapshot.ready()
    w.now = w.then = NULL
    w.end = w.then_end = NULL
    w.end_len = w.then_end_len = 0
    w.rows = NULL
    w.room = w.count = w.bytes = 0
    w.has_now = w.has_then = w.stopped = False
    w.revision, w.limit, w.max_bytes, w.keys_only, w.keep = revision, limit, max_bytes, keys_only, keep
    if end is not None:
        w.end, w.end_len = PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end)
        w.then_end, w.then_end_len = PyBytes_AS_STRING(then_end), PyBytes_GET_SIZE(then_end)
    try:
        rc = mdb_cursor_open(snapshot.txn, snapshot.table(NOW), &w.now)
        if rc == 0 and not latest:
            rc = mdb_cursor_open(snapshot.txn, snapshot.table(HISTORY), &w.then)
        if rc == 0:
            rc = run(
                &w,
                PyBytes_AS_STRING(start),
                PyBytes_GET_SIZE(start),
                PyBytes_AS_STRING(then_start),
                PyBytes_GET_SIZE(then_start),
            )
        if rc == MET_LONG_KEY:
            return None
        if rc == NO_MEMORY:
            raise MemoryError
        if rc == MALFORMED:
            raise ValueError("a stored KeyValue is malformed")
        if rc != 0:
            raise LmdbError(rc, "reading")
        if keep:
            framed = PyBytes_FromStringAndSize(NULL, w.bytes)
            copy_rows(&w, <unsigned char*> PyBytes_AS_STRING(framed), tag)
        last = None
        if w.count and find(&w.last, 1, &number, &content) == 1:
            last = PyBytes_FromStringAndSize(<char*> content.mv_data, content.mv_size)
        return framed, w.count, w.bytes, last, w.stopped
    finally:
        if w.now != NULL:
            mdb_cursor_close(w.now)
        if w.then != NULL:
            mdb_cursor_close(w.then)
        free(w.rows)
