# Declarations shared by the compiled parts of wharf.wire. What the classes mean is said in _nghttp2.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "nghttp2/nghttp2.h":
    ctypedef struct nghttp2_session:
        pass
    ctypedef struct nghttp2_session_callbacks:
        pass
    ctypedef struct nghttp2_option:
        pass
    ctypedef struct nghttp2_rcbuf:
        pass
    ctypedef struct nghttp2_vec:
        uint8_t *base
        size_t len
    ctypedef struct nghttp2_nv:
        uint8_t *name
        uint8_t *value
        size_t namelen
        size_t valuelen
        uint8_t flags
    ctypedef struct nghttp2_frame_hd:
        size_t length
        int32_t stream_id
        uint8_t type
        uint8_t flags
    ctypedef struct nghttp2_headers:
        nghttp2_frame_hd hd
        int cat
    ctypedef struct nghttp2_data:
        nghttp2_frame_hd hd
        size_t padlen
    ctypedef struct nghttp2_ping:
        nghttp2_frame_hd hd
        uint8_t opaque_data[8]
    ctypedef struct nghttp2_goaway:
        nghttp2_frame_hd hd
        int32_t last_stream_id
        uint32_t error_code
        uint8_t *opaque_data
        size_t opaque_data_len
    ctypedef struct nghttp2_rst_stream:
        nghttp2_frame_hd hd
        uint32_t error_code
    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd
        nghttp2_headers headers
        nghttp2_data data
        nghttp2_ping ping
        nghttp2_goaway goaway
        nghttp2_rst_stream rst_stream
    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value
    ctypedef union nghttp2_data_source:
        void *ptr
    ctypedef ssize_t (*nghttp2_data_source_read_callback)(
        nghttp2_session *, int32_t, uint8_t *, size_t, uint32_t *, nghttp2_data_source *, void *) noexcept
    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        nghttp2_data_source_read_callback read_callback

    int NGHTTP2_FLAG_END_STREAM, NGHTTP2_FLAG_ACK
    int NGHTTP2_DATA, NGHTTP2_HEADERS, NGHTTP2_PRIORITY, NGHTTP2_RST_STREAM, NGHTTP2_SETTINGS
    int NGHTTP2_PING, NGHTTP2_GOAWAY, NGHTTP2_WINDOW_UPDATE
    int NGHTTP2_HCAT_REQUEST, NGHTTP2_HCAT_RESPONSE, NGHTTP2_HCAT_HEADERS
    int NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_END_STREAM, NGHTTP2_DATA_FLAG_NO_COPY
    int NGHTTP2_NV_FLAG_NONE, NGHTTP2_NV_FLAG_NO_INDEX, NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NO_COPY_VALUE
    int NGHTTP2_ERR_DEFERRED, NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_WOULDBLOCK
    int NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_ERR_BAD_CLIENT_MAGIC, NGHTTP2_ERR_FLOODED
    int NGHTTP2_ERR_NOMEM, NGHTTP2_ERR_INVALID_ARGUMENT
    int NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_CANCEL
    int NGHTTP2_REFUSED_STREAM, NGHTTP2_STREAM_CLOSED, NGHTTP2_PROTOCOL_ERROR
    int NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS

    int nghttp2_session_callbacks_new(nghttp2_session_callbacks **)
    void nghttp2_session_callbacks_set_on_begin_headers_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept)
    void nghttp2_session_callbacks_set_on_header_callback2(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, const nghttp2_frame *, nghttp2_rcbuf *, nghttp2_rcbuf *, uint8_t, void *) noexcept)
    void nghttp2_session_callbacks_set_on_begin_frame_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame_hd *, void *) noexcept)
    void nghttp2_session_callbacks_set_on_frame_recv_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept)
    void nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame *, int, void *) noexcept)
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, uint8_t, int32_t, const uint8_t *, size_t, void *) noexcept)
    void nghttp2_session_callbacks_set_on_stream_close_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, int32_t, uint32_t, void *) noexcept)
    void nghttp2_session_callbacks_set_on_frame_send_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept)
    void nghttp2_session_callbacks_set_on_frame_not_send_callback(
        nghttp2_session_callbacks *, int (*)(nghttp2_session *, const nghttp2_frame *, int, void *) noexcept)
    void nghttp2_session_callbacks_set_send_data_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, nghttp2_frame *, const uint8_t *, size_t, nghttp2_data_source *, void *) noexcept)

    int nghttp2_check_header_name(const uint8_t *, size_t)
    int nghttp2_check_header_value(const uint8_t *, size_t)
    int nghttp2_check_method(const uint8_t *, size_t)
    int nghttp2_check_path(const uint8_t *, size_t)
    int nghttp2_check_authority(const uint8_t *, size_t)

    int nghttp2_option_new(nghttp2_option **)
    void nghttp2_option_del(nghttp2_option *)
    void nghttp2_option_set_no_auto_window_update(nghttp2_option *, int)
    void nghttp2_option_set_no_closed_streams(nghttp2_option *, int)
    void nghttp2_option_set_no_http_messaging(nghttp2_option *, int)
    void nghttp2_option_set_max_outbound_ack(nghttp2_option *, size_t)
    void nghttp2_option_set_max_settings(nghttp2_option *, size_t)
    void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t)
    void nghttp2_option_set_max_continuations(nghttp2_option *, size_t)
    void nghttp2_option_set_max_send_header_block_length(nghttp2_option *, size_t)

    int nghttp2_session_server_new2(
        nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *)
    int nghttp2_session_client_new2(
        nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *)
    void nghttp2_session_del(nghttp2_session *)
    ssize_t nghttp2_session_mem_recv(nghttp2_session *, const uint8_t *, size_t)
    ssize_t nghttp2_session_mem_send(nghttp2_session *, const uint8_t **)
    int nghttp2_session_want_read(nghttp2_session *)
    int nghttp2_session_want_write(nghttp2_session *)
    int nghttp2_session_resume_data(nghttp2_session *, int32_t)
    int nghttp2_session_set_stream_user_data(nghttp2_session *, int32_t, void *)
    void *nghttp2_session_get_stream_user_data(nghttp2_session *, int32_t)
    int nghttp2_session_consume_connection(nghttp2_session *, size_t)
    int nghttp2_session_consume_stream(nghttp2_session *, int32_t, size_t)
    int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t, int32_t, int32_t)
    int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session *)
    uint32_t nghttp2_session_get_remote_settings(nghttp2_session *, int)
    int nghttp2_session_check_request_allowed(nghttp2_session *)
    int32_t nghttp2_session_get_stream_remote_window_size(nghttp2_session *, int32_t)
    int32_t nghttp2_session_get_remote_window_size(nghttp2_session *)
    int32_t nghttp2_session_get_stream_local_window_size(nghttp2_session *, int32_t)
    int nghttp2_session_terminate_session(nghttp2_session *, uint32_t)
    int nghttp2_submit_settings(nghttp2_session *, uint8_t, const nghttp2_settings_entry *, size_t)
    int nghttp2_submit_response(
        nghttp2_session *, int32_t, const nghttp2_nv *, size_t, const nghttp2_data_provider *)
    int32_t nghttp2_submit_request(
        nghttp2_session *, const void *, const nghttp2_nv *, size_t, const nghttp2_data_provider *, void *)
    int32_t nghttp2_submit_headers(
        nghttp2_session *, uint8_t, int32_t, const void *, const nghttp2_nv *, size_t, void *)
    int nghttp2_submit_trailer(nghttp2_session *, int32_t, const nghttp2_nv *, size_t)
    int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t, int32_t, uint32_t)
    int nghttp2_submit_ping(nghttp2_session *, uint8_t, const uint8_t *)
    int nghttp2_submit_goaway(nghttp2_session *, uint8_t, int32_t, uint32_t, const uint8_t *, size_t)
    int nghttp2_submit_shutdown_notice(nghttp2_session *)
    const char *nghttp2_strerror(int)
    void nghttp2_rcbuf_incref(nghttp2_rcbuf *)
    void nghttp2_rcbuf_decref(nghttp2_rcbuf *)
    nghttp2_vec nghttp2_rcbuf_get_buf(nghttp2_rcbuf *)


cdef enum:  # Stream.seen: what the request has shown so far
    HAS_METHOD = 1
    HAS_SCHEME = 2
    HAS_PATH = 4
    HAS_AUTHORITY = 8  # or host
    PSEUDO = 15
    IS_CONNECT = 16
    IS_OPTIONS = 32
    PATH_ABSOLUTE = 64
    PATH_ASTERISK = 128
    REGULAR_SEEN = 256
    HAS_LENGTH = 512
    HTTP_SCHEME = 1024


cdef class Session:
    cdef nghttp2_session *ng
    cdef readonly bint server
    cdef dict by_id  # the open streams; nghttp2 points to exactly these
    cdef Stream current
    # output under construction: a bytes object filled in place, cut to size when it is handed out
    cdef PyObject *out
    cdef size_t out_length, out_capacity, out_limit
    # limits and their counters (plain numbers; set once from limits.py)
    cdef public size_t header_list_max, hold_max, unsent_max, high_water, low_water
    cdef readonly size_t unsent
    cdef public int64_t frame_burst, frame_refill, ping_strikes_max
    cdef public double ping_interval_min
    cdef int64_t frame_tokens, ping_strikes
    cdef double reset_tokens, reset_burst, reset_refill, reset_refilled
    cdef double frame_refilled, pinged_at
    cdef size_t held, owed
    cdef int32_t last_stream_id
    cdef int32_t closed_ids[256]  # streams closed lately; negative: by us
    cdef size_t closed_at
    cdef uint8_t scan_head[9]
    cdef size_t scan_have, scan_skip
    # what the shell reads
    cdef public object clock
    cdef readonly object failure
    cdef readonly str violation
    cdef readonly bint settled, block_open, goaway_received, ended, eof_received
    cdef readonly uint64_t bytes_in, bytes_out, frames_in, ping_acks, resets_in, streams_opened
    # pump
    cdef public object write, call_soon, on_pumped
    cdef public bint paused
    cdef public size_t chunk
    cdef bint pumping, scheduled
    cdef list ready, drained
    # how far it may be taken down
    cdef bint running  # nghttp2 is at work: it may not be entered again
    cdef bint gone  # closed
    cdef int entered  # callers on the stack that go on to use `ng`
    cdef list orphans  # streams that nghttp2 may still point to

    cdef int create(self, list settings, int window, int continuations_max, int acks_max) except -1
    cdef int fail(self, error) noexcept
    cdef int refuse_nesting(self) except -1
    cdef int leave(self) except -1
    cdef Stream make_stream(self)
    cdef int append(self, const void *data, size_t length) except -1
    cdef bytes take_out(self)
    cdef int violate(self, str reason, str debug, uint32_t code=*) except -1
    cdef int refuse_malformed(self, Stream stream) except -1
    cdef int end_body(self, Stream stream) except -1
    cdef int feed(self, const uint8_t *data, size_t length) except -1
    cdef int hold(self, size_t length) except -1
    cdef int release(self, Stream stream, size_t length) except -1
    cdef int wake(self) except -1
    cdef int deliver_ready(self) except -1
    cdef int attach(self, Stream stream, int32_t stream_id) except -1
    cpdef void pump(self)
    cpdef bytes pull(self, size_t limit)


cdef class Stream:
    cdef Session session
    cdef readonly int32_t id
    cdef nghttp2_rcbuf **pairs
    cdef size_t pair_count, pair_capacity, header_bytes
    cdef uint64_t sensitive  # bit n: pair n must never be indexed; the last bit stands for all beyond it
    cdef readonly bint oversized, remote_ended, local_ended, closed, head_submitted
    cdef bint in_trailers, was_reset, deferred, ending, is_ready
    # see _messages.pxi
    cdef uint32_t seen
    cdef uint64_t announced, arrived
    cdef bint malformed
    # bytes waiting for the peer's window
    cdef list segments
    cdef size_t segment_at, segment_offset
    cdef readonly size_t queued
    cdef object parts
    cdef size_t parts_left
    cdef object trailers
    cdef size_t low_water
    cdef bint above, drain_due

    cdef int handle_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1
    cdef bint begins_trailers(self)
    cdef int handle_head(self) except -1
    cdef int handle_trailers(self) except -1
    cdef int handle_data(self, const uint8_t *data, size_t length) except -1
    cdef int handle_end(self) except -1
    cdef int handle_closed(self, uint32_t error_code) except -1
    cdef int handle_drained(self) except -1
    cdef int deliver(self) except -1
    cdef int submit_trailers(self) except -1
    cdef int store_pair(self, nghttp2_rcbuf *name, nghttp2_rcbuf *value) except -1
    cdef int drop_pairs(self) except -1
    cdef list header_list(self)
    cdef int push(self, bytes data) except -1
    cdef int fill(self, size_t wanted) except -1
    cdef int copy_out(self, size_t length) except -1
    cdef int resume(self) except -1
    cdef int submit_head(self, nghttp2_nv *headers, size_t count, bint body) except -1
    cdef int submit_request(self, Session session, nghttp2_nv *headers, size_t count, bint body) except -1
    cdef int make_ready(self) except -1
    cpdef void reset(self, uint32_t code=*)


cdef class NameValues:
    cdef nghttp2_nv *array
    cdef size_t count
    cdef object keep


cdef int check(int code) except -1
cdef list as_pairs(headers)
