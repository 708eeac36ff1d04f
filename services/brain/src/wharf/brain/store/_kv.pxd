# cython: language_level=3
"""Finding a field in a stored KeyValue or log record without decoding it."""

from libc.stdint cimport uint64_t

from wharf.brain.engine._lmdb cimport MDB_val


cdef inline const unsigned char* take_varint(
    const unsigned char* p, const unsigned char* end, uint64_t* number
) noexcept nogil:
    """Past the varint at p; NULL when there is none."""
    cdef int shift = 0
    number[0] = 0
    while p < end and shift < 64:
        number[0] |= (<uint64_t> (p[0] & 0x7F)) << shift
        if p[0] < 0x80:
            return p + 1
        p += 1
        shift += 7
    return NULL


cdef inline int find(MDB_val* message, int field, uint64_t* number, MDB_val* content) noexcept nogil:
    """A field of a message whose fields ascend: 1 found, 0 absent, -1 malformed.

    `content` NULL: a varint, into `number`; else bytes, into `content`, their length into `number`.
    """
    cdef const unsigned char* p = <const unsigned char*> message.mv_data
    cdef const unsigned char* end = p + message.mv_size
    cdef int tag
    while p < end:
        tag = p[0]
        if tag >> 3 > field:
            return 0
        p = take_varint(p + 1, end, number)
        if p == NULL:
            return -1
        if tag & 7 == 2:
            if number[0] > <uint64_t> (end - p):
                return -1
            if tag >> 3 == field:
                if content == NULL:
                    return -1
                content.mv_data, content.mv_size = <void*> p, number[0]
                return 1
            p += number[0]
        elif tag & 7 != 0:
            return -1
        elif tag >> 3 == field:
            return 1 if content == NULL else -1
    return 0
