# The batch being filled, and headers of responses.

cdef object MISSING = object()


cdef inline bytes be64(uint64_t number):
    cdef uchar data[8]
    cdef int i
    for i in range(7, -1, -1):
        data[i] = <uchar> (number & 0xFF)
        number >>= 8
    return PyBytes_FromStringAndSize(<char*> data, 8)


cdef bytes history_key(bytes key, bytes revision):
    """`keys.hkey`, fast for what nearly every key is: short and without zero bytes."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(key)
    cdef const char* data = PyBytes_AS_STRING(key)
    cdef bytes stored
    cdef char* at
    if length > 250 or memchr(data, 0, length) != NULL:
        return hkey(key, int.from_bytes(revision, "big"))
    stored = PyBytes_FromStringAndSize(NULL, length + 10)
    at = PyBytes_AS_STRING(stored)
    memcpy(at, data, length)
    at[length], at[length + 1] = 0, 1
    memcpy(at + length + 2, PyBytes_AS_STRING(revision), 8)
    return stored


cdef class Header:
    """ResponseHeader, field 1 of every response; only its revision varies."""

    cdef bytes prefix
    cdef bytes suffix

    def __init__(self, uint64_t cluster_id, uint64_t member_id, uint64_t raft_term):
        cdef uchar data[22]
        cdef uchar* at = put_number(put_number(data, 0x08, <int64_t> cluster_id), 0x10, <int64_t> member_id)
        self.prefix = PyBytes_FromStringAndSize(<char*> data, at - data)
        self.set_term(raft_term)

    cpdef int set_term(self, uint64_t raft_term) except -1:
        cdef uchar data[11]
        cdef uchar* at = put_number(data, 0x20, <int64_t> raft_term)
        self.suffix = PyBytes_FromStringAndSize(<char*> data, at - data)
        return 0

    cpdef bytes encode(self, int64_t revision):
        cdef Py_ssize_t head = PyBytes_GET_SIZE(self.prefix)
        cdef Py_ssize_t tail = PyBytes_GET_SIZE(self.suffix)
        cdef Py_ssize_t inner = head + number_length(revision) + tail
        cdef bytes data = PyBytes_FromStringAndSize(NULL, field_length(inner))
        cdef uchar* at = <uchar*> PyBytes_AS_STRING(data)
        at[0] = 0x0A
        at = put_varint(at + 1, <uint64_t> inner)
        memcpy(at, PyBytes_AS_STRING(self.prefix), head)
        at = put_number(at + head, 0x18, revision)
        memcpy(at, PyBytes_AS_STRING(self.suffix), tail)
        return data


cdef class Pending:
    """One batch while it fills and flies: what to write, what it changes, whom to answer, how to take it back."""

    cdef readonly long long base  # revision before the batch
    cdef readonly long long revision  # after what it holds so far
    cdef readonly Py_ssize_t size  # bytes it will write, roughly
    cdef public long long compacts  # revision it compacts to, -1: none
    cdef readonly list writes  # for the engine, in order
    cdef readonly dict now  # full key → KeyValue after the batch, None when deleted
    cdef readonly list events  # (revision, kind, key, framed event, prev_kv for watchers | None)
    cdef readonly list births  # (revision, key, born rather than died), in order
    cdef readonly list entries  # (done, answer, op, fail) per request, in order
    cdef readonly list undo  # callables that take back what the batch did outside of it, in order

    def __init__(self, long long base):
        self.base = self.revision = base
        self.size, self.compacts = 0, -1
        self.writes, self.events, self.births, self.entries, self.undo = [], [], [], [], []
        self.now = {}

    def __len__(self):
        return len(self.entries)

    def write(self, int table, bytes key, value):
        self.size += PyBytes_GET_SIZE(key) + (0 if value is None else PyBytes_GET_SIZE(<bytes> value))
        self.writes.append((table, key, value))

    def answer(self, done, answer, op, fail):
        self.entries.append((done, answer, op, fail))

    def record(self, list changes):
        """One transaction: (kind, key, KeyValue, KeyValue before the transaction | None, is a create) per event."""
        cdef long long revision = self.revision + 1
        cdef bytes stamp = be64(<uint64_t> revision)
        cdef bytes event
        cdef dict last = {}
        cdef list record = []
        for kind, key, kv, before, created in changes:
            event = event_frame(kind, kv)
            record.append(event)
            self.events.append((revision, kind, key, event, None if created else before))
            if key not in last and before is not None:
                self.write(HISTORY, history_key(key, stamp), before)
            last[key] = (None if kind else kv, before)
        self.write(LOG, stamp, b"".join(record))
        for key, (kv, before) in last.items():
            self.write(NOW, skey(key), kv)
            self.now[key] = kv
            if (kv is None) != (before is None):
                self.births.append((revision, key, before is None))
        self.revision = revision

    cdef int change(self, int kind, bytes key, bytes stored, bytes kv, bytes before, bint created) except -1:
        """`record` for one event, without the detours."""
        cdef bytes stamp
        cdef bytes event = event_frame(kind, kv)
        self.revision += 1
        stamp = be64(<uint64_t> self.revision)
        self.writes.append((LOG, stamp, event))
        self.writes.append((NOW, stored, None if kind else kv))
        if before is not None:
            self.writes.append((HISTORY, history_key(key, stamp), before))
            self.size += PyBytes_GET_SIZE(before) + PyBytes_GET_SIZE(key)
        if kind == DELETE or before is None:
            self.births.append((self.revision, key, before is None))
        self.size += 2 * (PyBytes_GET_SIZE(event) + PyBytes_GET_SIZE(key))
        self.now[key] = None if kind else kv
        self.events.append((self.revision, kind, key, event, None if created else before))
        return 0
