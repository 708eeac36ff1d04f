# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Walks over many records that need only a few of their fields: start-up's keys and leases, births and deaths, compaction's victims."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from wharf.brain.engine._lmdb cimport *
from wharf.brain.store._kv cimport find, take_varint

from wharf.brain.engine._lmdb import LmdbError

cdef enum:
    LOG = 1
    NOW = 2
    MALFORMED = 1000001


def live_keys(ReadTxn snapshot, bytes start, size_t limit):
    """(keys in NOW from `start`, (lease, key) of those that have one, where to go on or None): what start-up needs, without values."""
    cdef MDB_cursor* cursor = NULL
    cdef MDB_val k, v
    cdef MDB_val content = MDB_val(0, NULL)
    cdef uint64_t number
    cdef size_t taken = 0
    keys = []
    leased = []
    snapshot.ready()
    cdef int rc = mdb_cursor_open(snapshot.txn, snapshot.table(NOW), &cursor)
    if rc != 0:
        raise LmdbError(rc, "reading")
    try:
        rc = seek(cursor, PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start), &k, &v)
        while rc == 0:
            if taken == limit:
                return keys, leased, PyBytes_FromStringAndSize(<char*> k.mv_data, k.mv_size)
            if find(&v, 1, &number, &content) != 1 or (
                k.mv_size != MAX_KEY and compare(k.mv_data, k.mv_size, content.mv_data, content.mv_size) != 0
            ):
                raise ValueError("a stored KeyValue is malformed or under another key")
            key = key_of(&content)
            keys.append(key)
            if find(&v, 6, &number, NULL) == 1:
                leased.append((<long long> number, key))
            taken += 1
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)
        if rc != MDB_NOTFOUND:
            raise LmdbError(rc, "reading")
        return keys, leased, None
    finally:
        mdb_cursor_close(cursor)


cdef int scan_event(const unsigned char* p, const unsigned char* end, int* kind, MDB_val* kv) noexcept nogil:
    """An mvccpb.Event: whether it deletes, and its KeyValue; 0 or MALFORMED."""
    cdef uint64_t number
    cdef MDB_val event
    event.mv_data, event.mv_size = <void*> p, end - p
    kind[0] = 1 if find(&event, 1, &number, NULL) == 1 and number == 1 else 0
    return 0 if find(&event, 2, &number, kv) == 1 else MALFORMED


cdef object key_of(MDB_val* key):
    return PyBytes_FromStringAndSize(<char*> key.mv_data, key.mv_size)


def log_changes(ReadTxn snapshot, uint64_t after, size_t limit):
    """(births and deaths of keys in revisions above `after`, revision read up to or None at the log's end).

    At most about `limit` log records are looked at.
    """
    cdef MDB_cursor* cursor = NULL
    cdef MDB_val k, v, kv
    cdef MDB_val content = MDB_val(0, NULL)
    cdef unsigned char low[8]
    cdef const unsigned char* p
    cdef const unsigned char* end
    cdef uint64_t length, created, revision = after
    cdef uint64_t wanted = after + 1
    cdef size_t taken = 0
    cdef int i, kind
    changes = []
    snapshot.ready()
    for i in range(8):
        low[7 - i] = wanted & 0xFF
        wanted >>= 8
    cdef int rc = mdb_cursor_open(snapshot.txn, snapshot.table(LOG), &cursor)
    if rc != 0:
        raise LmdbError(rc, "reading")
    try:
        rc = seek(cursor, <const char*> low, 8, &k, &v)
        while rc == 0:
            if taken == limit:
                return changes, revision
            p, end = <const unsigned char*> v.mv_data, <const unsigned char*> v.mv_data + v.mv_size
            revision = 0
            for i in range(8):
                revision = revision << 8 | (<const unsigned char*> k.mv_data)[i]
            while p < end:
                p = take_varint(p + 1, end, &length)
                if p == NULL or length > <uint64_t> (end - p) or scan_event(p, p + length, &kind, &kv) != 0:
                    raise ValueError(f"log record {revision} is malformed")
                if find(&kv, 1, &created, &content) != 1:
                    raise ValueError(f"log record {revision} is malformed")
                if kind or (find(&kv, 2, &created, NULL) == 1 and created == revision):
                    key = key_of(&content)
                    changes.append((revision, key, not kind))
                p += length
            taken += 1
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)
        if rc != MDB_NOTFOUND:
            raise LmdbError(rc, "reading")
        return changes, None
    finally:
        mdb_cursor_close(cursor)


cdef list ended_keys(const uint8_t* p, const uint8_t* end, uint64_t revision, Py_ssize_t skip, Py_ssize_t most, bint* whole):
    """Keys whose earlier version ended at a revision, from its log record: all its events but births.

    Leaves out the first `skip` and stops after `most`, then with `whole` unset.
    """
    cdef uint64_t length, created
    cdef MDB_val kv
    cdef MDB_val content = MDB_val(0, NULL)
    cdef int kind
    cdef list keys = []
    whole[0] = True
    while p < end:
        p = take_varint(p + 1, end, &length)
        if p == NULL or length > <uint64_t> (end - p) or scan_event(p, p + length, &kind, &kv) != 0:
            raise ValueError(f"log record {revision} is malformed")
        if find(&kv, 1, &created, &content) != 1:
            raise ValueError(f"log record {revision} is malformed")
        p += length
        if not kind and find(&kv, 2, &created, NULL) == 1 and created == revision:
            continue
        if skip > 0:
            skip -= 1
        elif len(keys) == most:
            whole[0] = False
            return keys
        else:
            keys.append(key_of(&content))
    return keys


def ended_in(bytes record, uint64_t revision, Py_ssize_t skip, Py_ssize_t most):
    """(keys whose earlier version ended at `revision`, of which `record` is the log; whether these are all from `skip` on)."""
    cdef bint whole
    cdef const uint8_t* p = <const uint8_t*> PyBytes_AS_STRING(record)
    keys = ended_keys(p, p + PyBytes_GET_SIZE(record), revision, skip, most, &whole)
    return keys, whole


def ended_since(ReadTxn snapshot, uint64_t finished, Py_ssize_t skip, uint64_t target, Py_ssize_t most):
    """`compact.ended_since`, without copying log records."""
    cdef MDB_cursor* cursor = NULL
    cdef MDB_val k, v
    cdef unsigned char low[8]
    cdef uint64_t revision, wanted = finished
    cdef Py_ssize_t total = 0
    cdef bint whole = True
    cdef const uint8_t* p
    cdef int i
    found = []
    snapshot.ready()
    for i in range(8):
        low[7 - i] = wanted & 0xFF
        wanted >>= 8
    cdef int rc = mdb_cursor_open(snapshot.txn, snapshot.table(LOG), &cursor)
    if rc != 0:
        raise LmdbError(rc, "reading")
    try:
        rc = seek(cursor, <const char*> low, 8, &k, &v)
        while rc == 0:
            revision = 0
            for i in range(8):
                revision = revision << 8 | (<const unsigned char*> k.mv_data)[i]
            if revision > target:
                return found, True
            if total >= most:
                return found, False
            keys, whole = [], True
            if revision > finished:
                p = <const uint8_t*> v.mv_data
                keys = ended_keys(p, p + v.mv_size, revision, skip, most - total, &whole)
                skip = 0
            found.append((revision, keys, whole))
            if not whole:
                return found, False
            total += len(keys) + 1
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)
        if rc != MDB_NOTFOUND:
            raise LmdbError(rc, "reading")
        return found, True
    finally:
        mdb_cursor_close(cursor)
