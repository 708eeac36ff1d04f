# Included by _http.pyx: which header fields a proxy does not pass on.

cdef enum:
    BUCKETS = 64

# RFC 9110 §7.6.1, RFC 9113 §8.2.2; te is judged by its value
cdef tuple HOP_BY_HOP = (
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"trailer",
    b"transfer-encoding", b"upgrade",
)
cdef frozenset KEPT_THOUGH_NAMED = frozenset((b"content-length", b"host", b"te"))


cdef inline uint8_t _normal(uint8_t letter) noexcept:
    if c'A' <= letter <= c'Z':
        return letter + 32
    return c'-' if letter == c'_' else letter


cdef inline bint _equal(const uint8_t *normal, const uint8_t *name, size_t length) noexcept:
    cdef size_t at
    for at in range(length):
        if normal[at] != _normal(name[at]):
            return False
    return True


cdef inline int _bucket(const uint8_t *name, size_t length) noexcept:
    return <int>((length * 7 + _normal(name[0]) * 5 + _normal(name[length - 1])) & (BUCKETS - 1))


cdef bytes _normalised(bytes name):
    return name.lower().replace(b"_", b"-")


cdef class HeaderFilter:
    """Names and prefixes that are dropped, compared without case and with `_` read as `-`; hop-by-hop fields always are.

    `_` is read as `-` because servers behind a proxy may do so, and would take `X_Remote_User` for the real thing.
    """

    def __cinit__(self, names=(), prefixes=()):
        cdef list dropped = sorted({_normalised(name) for name in (*HOP_BY_HOP, *names)})
        cdef list starts = sorted({_normalised(prefix) for prefix in prefixes})
        cdef bytes name
        cdef int at, bucket
        cdef size_t offset = 0
        if b"" in dropped or b"" in starts:
            raise ValueError("an empty header name")
        self.text = b"".join(dropped + starts)
        self.name_count = len(dropped)
        self.prefix_count = len(starts)
        self.entries = <FilterName *>PyMem_Malloc((self.name_count + self.prefix_count) * sizeof(FilterName))
        if self.entries is NULL:
            raise MemoryError
        for at in range(BUCKETS):
            self.heads[at] = -1
        for at, name in enumerate(dropped + starts):
            self.entries[at].at = <const uint8_t *>PyBytes_AS_STRING(self.text) + offset
            self.entries[at].length = len(name)
            offset += len(name)
            if at < self.name_count:
                bucket = _bucket(self.entries[at].at, self.entries[at].length)
                self.entries[at].next = self.heads[bucket]
                self.heads[bucket] = at
            else:
                self.prefix_letters |= 1u << (self.entries[at].at[0] & 31)

    def __dealloc__(self):
        PyMem_Free(self.entries)

    cdef bint drops_name(self, const uint8_t *name, size_t length) noexcept:
        cdef int at
        if length == 0:
            return True
        at = self.heads[_bucket(name, length)]
        while at >= 0:
            if self.entries[at].length == length and _equal(self.entries[at].at, name, length):
                return True
            at = self.entries[at].next
        if self.prefix_letters & (1u << (_normal(name[0]) & 31)):
            for at in range(self.name_count, self.name_count + self.prefix_count):
                if self.entries[at].length <= length and _equal(self.entries[at].at, name, self.entries[at].length):
                    return True
        return False

    cdef bint drops(self, const uint8_t *name, size_t length, const uint8_t *value, size_t size) noexcept:
        if length == 2 and (name[0] | 32) == c't' and (name[1] | 32) == c'e':
            if size != 8 or strncasecmp(<const char *>value, b"trailers", 8) != 0:
                return True
        return self.drops_name(name, length)

    def keeps(self, bytes name not None):
        """Whether a field of this name passes whatever its value."""
        return _normalised(name) != b"te" and not self.drops_name(
            <const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))

    def apply(self, headers):
        """The headers that pass; what their Connection fields name is dropped too (but content-length, host, te: trailers)."""
        cdef bytes name, value
        cdef list pairs = as_pairs(headers), kept = []
        cdef set named = None
        for name, value in pairs:
            if PyBytes_GET_SIZE(name) == 10 and _normalised(name) == b"connection":
                if named is None:
                    named = set()
                named.update([_normalised(option.strip(b" \t")) for option in value.split(b",")])
        if named is not None:
            named -= KEPT_THOUGH_NAMED
        for pair in pairs:
            name, value = pair
            if self.drops(<const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
                          <const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
                continue
            if named is not None and _normalised(name) in named:
                continue
            kept.append(pair)
        return kept
