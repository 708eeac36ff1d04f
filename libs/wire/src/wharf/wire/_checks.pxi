# Included by _nghttp2.pyx: return codes of nghttp2 and arguments from Python, checked before anything relies on them.


cdef int check(int code) except -1:
    """Raise what a return code of nghttp2 says; 0 when it says nothing."""
    if code >= 0:
        return 0
    if code == NGHTTP2_ERR_NOMEM:
        raise MemoryError
    raise SessionError(code)


cdef list as_pairs(headers):
    """Header fields as a list of (name, value) tuples of bytes, which keeps alive what a header block points to.

    TypeError for anything else: a block takes addresses, so a pair must hold its two objects itself.
    """
    cdef list pairs = list(headers)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(<tuple>pair) == 2
                and isinstance((<tuple>pair)[0], bytes) and isinstance((<tuple>pair)[1], bytes)):
            raise TypeError(f"a header field is a tuple of two bytes objects, not {pair!r:.100}")
    return pairs
