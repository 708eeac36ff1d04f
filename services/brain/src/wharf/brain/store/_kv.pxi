# Varints, mvccpb.KeyValue and mvccpb.Event as bytes.

ctypedef unsigned char uchar

cdef enum:
    PUT = 0
    DELETE = 1
    META = 0
    LOG = 1
    NOW = 2
    HISTORY = 3

cdef struct Kv:
    const uchar* key
    Py_ssize_t key_length
    int64_t create_revision
    int64_t mod_revision
    int64_t version
    const uchar* value
    Py_ssize_t value_length
    int64_t lease


cdef inline int varint_length(uint64_t number) noexcept nogil:
    cdef int length = 1
    while number > 0x7F:
        number >>= 7
        length += 1
    return length


cdef inline uchar* put_varint(uchar* at, uint64_t number) noexcept nogil:
    while number > 0x7F:
        at[0] = <uchar> (number & 0x7F | 0x80)
        at += 1
        number >>= 7
    at[0] = <uchar> number
    return at + 1


cdef inline const uchar* get_varint(const uchar* at, const uchar* end, uint64_t* number) noexcept nogil:
    """Position after the varint, NULL when the bytes are none."""
    cdef uint64_t value = 0
    cdef int shift = 0
    while at < end and shift < 64:
        value |= <uint64_t> (at[0] & 0x7F) << shift
        if at[0] < 0x80:
            number[0] = value
            return at + 1
        at += 1
        shift += 7
    return NULL


cdef inline uchar* put_field(uchar* at, uchar tag, const uchar* data, Py_ssize_t length) noexcept nogil:
    at[0] = tag
    at = put_varint(at + 1, <uint64_t> length)
    memcpy(at, data, length)
    return at + length


cdef inline Py_ssize_t field_length(Py_ssize_t length) noexcept nogil:
    """Bytes of a length-delimited field with a one-byte tag."""
    return 1 + varint_length(<uint64_t> length) + length


cdef inline uchar* put_number(uchar* at, uchar tag, int64_t number) noexcept nogil:
    if number == 0:
        return at
    at[0] = tag
    return put_varint(at + 1, <uint64_t> number)


cdef inline int number_length(int64_t number) noexcept nogil:
    return 1 + varint_length(<uint64_t> number) if number else 0


cdef int scan_kv(bytes data, Kv* kv) except -1:
    """The fields of a stored KeyValue; pointers live as long as `data`."""
    cdef const uchar* at = <const uchar*> PyBytes_AS_STRING(data)
    cdef const uchar* end = at + PyBytes_GET_SIZE(data)
    cdef uint64_t number
    cdef uchar tag
    kv.key = kv.value = NULL
    kv.key_length = kv.value_length = 0
    kv.create_revision = kv.mod_revision = kv.version = kv.lease = 0
    while at != NULL and at < end:
        tag = at[0]
        at = get_varint(at + 1, end, &number)
        if at == NULL:
            break
        if tag == 0x10:
            kv.create_revision = <int64_t> number
        elif tag == 0x18:
            kv.mod_revision = <int64_t> number
        elif tag == 0x20:
            kv.version = <int64_t> number
        elif tag == 0x30:
            kv.lease = <int64_t> number
        elif (tag == 0x0A or tag == 0x2A) and number <= <uint64_t> (end - at):
            if tag == 0x0A:
                kv.key, kv.key_length = at, <Py_ssize_t> number
            else:
                kv.value, kv.value_length = at, <Py_ssize_t> number
            at += number
        else:
            at = NULL
    if at != end:
        raise ValueError("stored bytes are no KeyValue")
    return 0


cdef bytes build_kv(const Kv* kv):
    cdef Py_ssize_t length = (
        (field_length(kv.key_length) if kv.key_length else 0)
        + number_length(kv.create_revision)
        + number_length(kv.mod_revision)
        + number_length(kv.version)
        + (field_length(kv.value_length) if kv.value_length else 0)
        + number_length(kv.lease)
    )
    cdef bytes data = PyBytes_FromStringAndSize(NULL, length)
    cdef uchar* at = <uchar*> PyBytes_AS_STRING(data)
    if kv.key_length:
        at = put_field(at, 0x0A, kv.key, kv.key_length)
    at = put_number(at, 0x10, kv.create_revision)
    at = put_number(at, 0x18, kv.mod_revision)
    at = put_number(at, 0x20, kv.version)
    if kv.value_length:
        at = put_field(at, 0x2A, kv.value, kv.value_length)
    put_number(at, 0x30, kv.lease)
    return data


def encode_kv(bytes key, int64_t create_revision, int64_t mod_revision, int64_t version, bytes value, int64_t lease):
    cdef Kv kv
    kv.key, kv.key_length = <const uchar*> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
    kv.value, kv.value_length = <const uchar*> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    kv.create_revision, kv.mod_revision, kv.version, kv.lease = create_revision, mod_revision, version, lease
    return build_kv(&kv)


def parse_kv(bytes data):
    cdef Kv kv
    scan_kv(data, &kv)
    return (
        PyBytes_FromStringAndSize(<const char*> kv.key, kv.key_length),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        PyBytes_FromStringAndSize(<const char*> kv.value, kv.value_length),
        kv.lease,
    )


def kv_numbers(bytes data):
    cdef Kv kv
    scan_kv(data, &kv)
    return kv.create_revision, kv.mod_revision, kv.version, kv.lease


def without_value(bytes data):
    cdef Kv kv
    scan_kv(data, &kv)
    kv.value_length = 0
    return build_kv(&kv)


cpdef bytes frame(int tag, bytes message):
    """A length-delimited field with a one-byte tag."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(message)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, field_length(length))
    put_field(<uchar*> PyBytes_AS_STRING(data), <uchar> tag, <const uchar*> PyBytes_AS_STRING(message), length)
    return data


cpdef bytes event_frame(int kind, bytes kv):
    """An event as a LOG record and a WatchResponse hold it: field `events`, no previous KeyValue."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(kv)
    cdef Py_ssize_t inner = field_length(length) + (2 if kind else 0)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, field_length(inner))
    cdef uchar* at = <uchar*> PyBytes_AS_STRING(data)
    at[0] = 0x5A
    at = put_varint(at + 1, <uint64_t> inner)
    if kind:
        at[0], at[1] = 0x08, 0x01
        at += 2
    put_field(at, 0x12, <const uchar*> PyBytes_AS_STRING(kv), length)
    return data


cpdef bytes event_kv(bytes event):
    """The KeyValue in what `event_frame` made; ValueError for other bytes."""
    cdef const uchar* begin = <const uchar*> PyBytes_AS_STRING(event)
    cdef const uchar* end = begin + PyBytes_GET_SIZE(event)
    cdef uint64_t inner
    begin = get_varint(begin + 1, end, &inner) if begin < end else NULL
    if begin != NULL and end - begin > 2 and begin[0] == 0x08:
        begin += 2
    begin = get_varint(begin + 1, end, &inner) if begin != NULL and begin < end else NULL
    if begin == NULL or inner != <uint64_t> (end - begin):
        raise ValueError("these bytes are no event")
    return PyBytes_FromStringAndSize(<char*> begin, end - begin)


cpdef bytes with_prev(bytes event, bytes prev):
    """The framed event with `prev` as its prev_kv."""
    cdef const uchar* begin = <const uchar*> PyBytes_AS_STRING(event)
    cdef const uchar* end = begin + PyBytes_GET_SIZE(event)
    cdef uint64_t inner
    begin = get_varint(begin + 1, end, &inner)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(prev)
    cdef Py_ssize_t total = (end - begin) + field_length(length)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, field_length(total))
    cdef uchar* at = <uchar*> PyBytes_AS_STRING(data)
    at[0] = 0x5A
    at = put_varint(at + 1, <uint64_t> total)
    memcpy(at, begin, end - begin)
    put_field(at + (end - begin), 0x1A, <const uchar*> PyBytes_AS_STRING(prev), length)
    return data


def split_log(bytes record):
    """(kind, key, framed event, is a create) for each event of a LOG record."""
    cdef const uchar* at = <const uchar*> PyBytes_AS_STRING(record)
    cdef const uchar* end = at + PyBytes_GET_SIZE(record)
    cdef const uchar* begin
    cdef const uchar* stop
    cdef const uchar* key
    cdef uint64_t number, key_length, created, modified
    cdef int kind
    cdef list events = []
    while at < end:
        begin = at
        at = get_varint(at + 1, end, &number) if begin[0] == 0x5A else NULL
        if at == NULL or number > <uint64_t> (end - at):
            raise ValueError("stored bytes are no LOG record")
        stop = at + number
        kind = PUT
        if number > 2 and at[0] == 0x08 and at[1] == 0x01:
            kind = DELETE
            at += 2
        at = get_varint(at + 1, stop, &number) if at < stop and at[0] == 0x12 else NULL
        if at == NULL or number != <uint64_t> (stop - at):
            raise ValueError("stored bytes are no LOG record")
        key, key_length = at, 0
        if at < stop and at[0] == 0x0A:
            key = get_varint(at + 1, stop, &key_length)
            if key == NULL or key_length > <uint64_t> (stop - key):
                raise ValueError("stored bytes are no LOG record")
            at = key + key_length
        created = modified = 0
        if kind == PUT and at < stop and at[0] == 0x10:
            at = get_varint(at + 1, stop, &created)
            if at != NULL and at < stop and at[0] == 0x18:
                get_varint(at + 1, stop, &modified)
        events.append((
            kind,
            PyBytes_FromStringAndSize(<const char*> key, <Py_ssize_t> key_length),
            PyBytes_FromStringAndSize(<const char*> begin, stop - begin),
            created != 0 and created == modified,
        ))
        at = stop
    return events
