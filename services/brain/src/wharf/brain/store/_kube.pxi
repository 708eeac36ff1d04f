# kube-apiserver's Txn and Range requests, recognised in their bytes.

cdef enum:
    OP_NONE = 0
    OP_PUT = 1
    OP_DELETE = 2

cdef struct KubeTxn:
    const uchar* key
    Py_ssize_t key_length
    int target  # Compare.target: 0 version, 1 create, 2 mod
    int64_t expected
    int op
    const uchar* value
    Py_ssize_t value_length
    int64_t lease
    bint reads  # on failure: return the key


cdef struct Field:
    uchar tag
    const uchar* data  # of a length-delimited field
    Py_ssize_t length
    uint64_t number  # of a varint field


cdef const uchar* next_field(const uchar* at, const uchar* end, Field* field) noexcept nogil:
    """The field at `at` with a one-byte tag; NULL for anything else."""
    field.tag = at[0]
    if field.tag & 0x80:
        return NULL
    at = get_varint(at + 1, end, &field.number)
    if at == NULL:
        return NULL
    if field.tag & 7 == 0:
        return at
    if field.tag & 7 != 2 or field.number > <uint64_t> (end - at):
        return NULL
    field.data, field.length = at, <Py_ssize_t> field.number
    return at + field.length


cdef bint parse_compare(const uchar* at, const uchar* end, KubeTxn* txn) noexcept nogil:
    """EQUAL on version, create or mod revision of one key."""
    cdef Field field
    cdef int union = -1
    txn.key, txn.key_length, txn.target, txn.expected = NULL, 0, 0, 0
    while at < end:
        at = next_field(at, end, &field)
        if at == NULL:
            return False
        if field.tag == 0x08:
            if field.number:
                return False
        elif field.tag == 0x10:
            if field.number > 2:
                return False
            txn.target = <int> field.number
        elif field.tag == 0x1A and txn.key == NULL:
            txn.key, txn.key_length = field.data, field.length
        elif (field.tag == 0x20 or field.tag == 0x28 or field.tag == 0x30) and union < 0:
            union = (field.tag - 0x20) >> 3
            txn.expected = <int64_t> field.number
        else:
            return False
    return txn.key_length > 0 and union == txn.target


cdef bint same_key(const Field* field, const KubeTxn* txn) noexcept nogil:
    return field.length == txn.key_length and memcmp(field.data, txn.key, txn.key_length) == 0


cdef bint parse_op(const uchar* at, const uchar* end, KubeTxn* txn, bint success) noexcept nogil:
    """One RequestOp: put or delete of the compared key on success, its plain Range on failure."""
    cdef Field outer, field
    cdef bint keyed = False
    if at >= end or next_field(at, end, &outer) != end or outer.tag & 7 != 2:
        return False
    if success and outer.tag != 0x12 and outer.tag != 0x1A:
        return False
    if not success and outer.tag != 0x0A:
        return False
    at = outer.data
    while at < end:
        at = next_field(at, end, &field)
        if at == NULL:
            return False
        if field.tag == 0x0A and not keyed and same_key(&field, txn):
            keyed = True
        elif outer.tag == 0x12 and field.tag == 0x12:
            txn.value, txn.value_length = field.data, field.length
        elif outer.tag == 0x12 and field.tag == 0x18:
            txn.lease = <int64_t> field.number
        else:
            return False
    if outer.tag == 0x0A:
        txn.reads = True
    else:
        txn.op = OP_PUT if outer.tag == 0x12 else OP_DELETE
    return keyed


cdef bint parse_txn(bytes message, KubeTxn* txn) noexcept:
    cdef const uchar* at = <const uchar*> PyBytes_AS_STRING(message)
    cdef const uchar* end = at + PyBytes_GET_SIZE(message)
    cdef Field field
    cdef int seen = 0  # fields come in number order, each at most once
    txn.op, txn.reads, txn.lease = OP_NONE, False, 0
    txn.value, txn.value_length = NULL, 0
    while at < end:
        at = next_field(at, end, &field)
        if at == NULL:
            return False
        if field.tag == 0x0A and seen == 0:
            seen = 1
            if not parse_compare(field.data, field.data + field.length, txn):
                return False
        elif (field.tag == 0x12 and seen == 1) or (field.tag == 0x1A and 0 < seen < 3):
            seen = 2 if field.tag == 0x12 else 3
            if not parse_op(field.data, field.data + field.length, txn, field.tag == 0x12):
                return False
        else:
            return False
    return seen > 0


def parse_kube_txn(bytes message):
    """(key, target, expected, op, value, lease, reads on failure), None when the shape is another."""
    cdef KubeTxn txn
    if not parse_txn(message, &txn):
        return None
    return (
        PyBytes_FromStringAndSize(<const char*> txn.key, txn.key_length),
        txn.target,
        txn.expected,
        (None, "put", "delete")[txn.op],
        PyBytes_FromStringAndSize(<const char*> txn.value, txn.value_length),
        txn.lease,
        bool(txn.reads),
    )


def parse_kube_range(bytes message):
    """(key, range_end, limit, revision, keys_only, count_only), None when the request asks for more.

    Whether it asks for a serializable answer is not the store's affair: it answers from what is shown in any case.
    """
    cdef const uchar* at = <const uchar*> PyBytes_AS_STRING(message)
    cdef const uchar* end = at + PyBytes_GET_SIZE(message)
    cdef Field field
    cdef bytes key = b"", range_end = b""
    cdef int64_t limit = 0, revision = 0
    cdef bint keys_only = False, count_only = False
    cdef uchar last = 0
    while at < end:
        at = next_field(at, end, &field)
        if at == NULL or field.tag <= last:
            return None
        last = field.tag
        if field.tag == 0x0A:
            key = PyBytes_FromStringAndSize(<const char*> field.data, field.length)
        elif field.tag == 0x12:
            range_end = PyBytes_FromStringAndSize(<const char*> field.data, field.length)
        elif field.tag == 0x18:
            limit = <int64_t> field.number
        elif field.tag == 0x20:
            revision = <int64_t> field.number
        elif field.tag == 0x38:
            pass
        elif field.tag == 0x40:
            keys_only = field.number != 0
        elif field.tag == 0x48:
            count_only = field.number != 0
        else:
            return None
    if not key or limit < 0 or revision < 0:
        return None
    return key, range_end, limit, revision, keys_only, count_only


cdef bytes txn_response(Header header, int64_t revision, bint succeeded, uchar op_tag, bytes body):
    """TxnResponse with at most one inner answer (`op_tag` 0: none), whose header carries the revision alone."""
    cdef bytes head = header.encode(revision)
    cdef Py_ssize_t head_length = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t body_length = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t stamp = number_length(revision)
    cdef Py_ssize_t inner = field_length(stamp) + body_length
    cdef Py_ssize_t op_length = field_length(inner)
    cdef Py_ssize_t length = head_length + (2 if succeeded else 0) + (field_length(op_length) if op_tag else 0)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, length)
    cdef uchar* at = <uchar*> PyBytes_AS_STRING(data)
    memcpy(at, PyBytes_AS_STRING(head), head_length)
    at += head_length
    if succeeded:
        at[0], at[1] = 0x10, 0x01
        at += 2
    if op_tag:
        at[0] = 0x1A
        at = put_varint(at + 1, <uint64_t> op_length)
        at[0] = op_tag
        at = put_varint(at + 1, <uint64_t> inner)
        at[0] = 0x0A
        at = put_varint(at + 1, <uint64_t> stamp)
        at = put_number(at, 0x18, revision)
        memcpy(at, PyBytes_AS_STRING(body), body_length)
    return data


cdef class KubeLane:
    """The shortest way of a kube-apiserver transaction: request bytes in, response bytes out.

    `get`: key → published KeyValue. `keys`: the published keys, cheaper to ask whether there is anything to get. `room`: bytes of
    quota left. `leases`: who knows leases and attachments.
    """

    cdef Header header
    cdef object get
    cdef object keys
    cdef object leases
    cdef public long long room

    def __init__(self, Header header, get, keys, leases):
        self.header, self.get, self.keys, self.leases = header, get, keys, leases
        self.room = 0

    def submit(self, bytes message, Pending pending, dict flying, long long published, reply, fail):
        """None: not recognised. bytes: the answer, at once. True: queued in `pending`. An error: refused."""
        cdef KubeTxn txn
        cdef Kv kv
        cdef bytes key, before, answer
        cdef object found
        cdef bint settled = False  # nothing unpublished concerns the key
        cdef bint succeeded
        if not parse_txn(message, &txn):
            return None
        if txn.op == OP_PUT and pending.size + 256 + txn.key_length + txn.value_length >= self.room:
            return NoSpace()
        key = PyBytes_FromStringAndSize(<const char*> txn.key, txn.key_length)
        found = pending.now.get(key, MISSING)
        if found is MISSING:
            found = flying.get(key, MISSING)
            if found is MISSING:
                # A create expects nothing: the index says so without a walk down the engine's tree.
                found = None if txn.expected == 0 and key not in self.keys else self.get(key)
                settled = True
        before = found
        if before is None:
            kv.version = kv.create_revision = kv.mod_revision = kv.lease = 0
        else:
            scan_kv(before, &kv)
        succeeded = txn.expected == (
            kv.version if txn.target == 0 else kv.create_revision if txn.target == 1 else kv.mod_revision
        )
        if succeeded and txn.op == OP_PUT:
            if txn.lease and not self.leases.holds(txn.lease):
                return LeaseNotFound()
            answer = self.put(&txn, &kv, key, before, pending)
        elif succeeded and txn.op == OP_DELETE and before is not None:
            answer = self.delete(&kv, key, before, pending)
        else:
            answer = self.unchanged(&txn, before, succeeded, published if settled else pending.revision)
            if settled:
                return answer
        pending.entries.append((reply, answer, message, fail))
        return True

    cdef bytes put(self, KubeTxn* txn, Kv* kv, bytes key, bytes before, Pending pending):
        cdef int64_t revision = pending.revision + 1
        cdef int64_t old_lease = kv.lease
        cdef bint created = before is None
        kv.key, kv.key_length = txn.key, txn.key_length
        kv.value, kv.value_length = txn.value, txn.value_length
        if created:
            kv.create_revision = revision
        kv.mod_revision = revision
        kv.version += 1
        kv.lease = txn.lease
        pending.change(PUT, key, skey(key) if txn.key_length > 250 else key, build_kv(kv), before, created)
        if old_lease != txn.lease:
            self.leases.move(key, old_lease, txn.lease, pending.undo)
        return txn_response(self.header, revision, True, 0x12, b"")

    cdef bytes delete(self, Kv* kv, bytes key, bytes before, Pending pending):
        cdef int64_t revision = pending.revision + 1
        cdef int64_t old_lease = kv.lease
        kv.create_revision = kv.version = kv.lease = 0
        kv.mod_revision = revision
        kv.value_length = 0
        pending.change(DELETE, key, skey(key) if kv.key_length > 250 else key, build_kv(kv), before, False)
        if old_lease:
            self.leases.move(key, old_lease, 0, pending.undo)
        return txn_response(self.header, revision, True, 0x1A, b"\x10\x01")

    cdef bytes unchanged(self, KubeTxn* txn, bytes before, bint succeeded, int64_t revision):
        if succeeded:
            return txn_response(self.header, revision, True, 0x1A if txn.op == OP_DELETE else 0, b"")
        if not txn.reads:
            return txn_response(self.header, revision, False, 0, b"")
        return txn_response(
            self.header, revision, False, 0x0A, b"" if before is None else frame(0x12, before) + b"\x20\x01"
        )
