# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=True
"""HTTP/2 for proxies, both roles: exchanges a server session serves, requests a client session makes, and the short way between.

The short way: `HttpClientSession.forward` sends a served request on with its header fields copied in C, `HttpClientStream.couple`
lets the response flow back without a Python call until its end. Names and promises are web.py's; limits are limits.py's numbers.

Invariants:
- Nobody's callback is called from inside nghttp2: what happened waits on the session's ready list for the next pump.
- Every received byte counts in `untaken` of its stream and `held` of its session until it was taken, copied out or given up.
- A coupled pair knows each other both ways or not at all; the first that ends unties it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from wharf.wire._nghttp2 cimport *

cdef extern from "strings.h" nogil:
    int strncasecmp(const char *, const char *, size_t)

import logging

from wharf.wire._nghttp2 import SessionError
from wharf.wire.web import Failure, Fault

log = logging.getLogger("wharf.wire")

include "_http_filter.pxi"
include "_http_block.pxi"
include "_http_stream.pxi"
include "_http_server.pxi"
include "_http_client.pxi"
include "_http_session.pxi"
