# Declarations of _http.pyx, where the classes are explained.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from wharf.wire._nghttp2 cimport Session, Stream, nghttp2_nv


cdef struct FilterName:
    const uint8_t *at
    size_t length
    int next  # index of the next name in the same bucket; -1 ends


cdef class HeaderFilter:
    cdef bytes text  # every name and prefix, normalised, one after the other
    cdef FilterName *entries  # names, then prefixes
    cdef int name_count, prefix_count
    cdef int heads[64]
    cdef uint32_t prefix_letters

    cdef bint drops(self, const uint8_t *name, size_t length, const uint8_t *value, size_t size) noexcept
    cdef bint drops_name(self, const uint8_t *name, size_t length) noexcept


cdef class HttpStream(Stream):
    cdef readonly bint done
    cdef readonly int status
    cdef readonly uint64_t bytes_out
    cdef bint end_due, end_told
    cdef size_t untaken
    cdef list inbox, trailers_in
    cdef object reader, ender
    cdef public object on_drain

    cdef int receive_body(self, const uint8_t *data, size_t length) except -1
    cdef int settle(self) except -1
    cdef int hand_body(self) except -1
    cdef int forget(self) except -1
    cdef int queue(self, bytes data) except -1
    cdef int conclude(self, trailers) except -1
    cdef int restart(self) except -1


cdef class HttpServerStream(HttpStream):
    cdef readonly bytes method, target
    cdef bytes named_authority, host
    cdef readonly bint responded, body_expected
    cdef bint handled, bodyless, head_dropped
    cdef HttpClientStream source
    cdef object last_word
    cdef tuple refused
    cdef uint64_t marked_bytes
    cdef double marked_at, patience
    cdef public object on_cancel, on_complete, context

    cdef int refuse(self) except -1
    cdef int open_response(self, int status, size_t count, bint body) except -1
    cdef int detach(self) except -1
    cpdef void abort(self, uint32_t code=*) except *


cdef class HttpClientStream(HttpStream):
    cdef int block_status
    cdef bint head_due, clean_end
    cdef list informs
    cdef object loss
    cdef HttpServerStream sink
    cdef HeaderFilter response_filter
    cdef object extra
    cdef public object on_inform, on_head, on_failure

    cdef int begin_sink(self) except -1
    cdef int move_inbox(self, HttpServerStream sink) except -1
    cdef int end_sink(self) except -1
    cdef int credit(self, size_t length) except -1
    cdef int give_up(self) except -1
    cdef int lose_sink(self) except -1
    cdef int lose(self, fault, str text, uint32_t code) except -1
    cdef int tell_head(self) except -1


cdef class HttpServerSession(Session):
    cdef object handler
    cdef readonly object connection
    cdef readonly double reader_timeout
    cdef public object refusal
    cdef bytes last_authority

    cdef int note_patience(self, double seconds) except -1


cdef class HttpClientSession(Session):
    cdef public uint32_t streams_max
    cdef readonly uint64_t shed_streams
    cdef bint leaving, broken

    cdef HttpClientStream open(self, size_t count, bint end)
    cdef int shed(self) except -1
