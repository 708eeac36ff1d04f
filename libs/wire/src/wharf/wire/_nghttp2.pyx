# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""HTTP/2 without I/O, on libnghttp2: bytes in, stream callbacks out; commands in, bytes out.

`Session` is one connection, of either role. `Stream` is one stream with its queue of outgoing bytes; what its bytes mean is
told by a subclass (`_grpc.Call` on the server, `EventStream` where events are wanted as values). This file decides nothing:
every limit is a number that limits.py supplies, and every hook is a method of a subclass.

Invariants:
- A stream is in `Session.streams` exactly as long as nghttp2 may call back about it.
- Received bytes give their stream window back only by `release`, that is, when the one who asked for them took them.
- Body bytes are copied once: from the object they were queued as into the bytes object that the transport gets.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_XDECREF
from libc.string cimport memcpy, memset

import logging

from wharf.wire.events import Data, Head, Reset, Trailers

log = logging.getLogger("wharf.wire")

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)

# Output starts small (a reply) and grows to a chunk (a list).
cdef enum:
    FIRST_CAPACITY = 2048


class SessionError(Exception):
    """nghttp2 refused what was received or asked; the connection is over. `code` is nghttp2's."""

    def __init__(self, int code):
        super().__init__(nghttp2_strerror(code).decode())
        self.code = code


cdef class NameValues:
    """A header block as nghttp2 wants it; keeps the Python bytes alive that it points into."""

    def __cinit__(self, headers):
        cdef bytes name, value
        cdef size_t at = 0
        self.keep = tuple(headers)
        self.count = len(self.keep)
        self.array = <nghttp2_nv *>PyMem_Malloc((self.count + 1) * sizeof(nghttp2_nv))
        if self.array is NULL:
            raise MemoryError
        for name, value in self.keep:
            self.array[at].name = <uint8_t *>PyBytes_AS_STRING(name)
            self.array[at].namelen = PyBytes_GET_SIZE(name)
            self.array[at].value = <uint8_t *>PyBytes_AS_STRING(value)
            self.array[at].valuelen = PyBytes_GET_SIZE(value)
            self.array[at].flags = NGHTTP2_NV_FLAG_NONE
            at += 1

    def __dealloc__(self):
        PyMem_Free(self.array)


cdef class Stream:
    """One stream. Subclasses give meaning to what arrives; sending is `submit_head`, `push`, `parts`, `ending`."""

    def __cinit__(self):
        self.segments = []

    def __dealloc__(self):
        cdef size_t at
        for at in range(self.pair_count * 2):
            nghttp2_rcbuf_decref(self.pairs[at])
        PyMem_Free(self.pairs)

    # --- hooks
    cdef int on_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        """One header of the block being received; 1: keep it for `header_list`."""
        return 1

    cdef int on_head(self) except -1:
        return 0

    cdef int on_trailers(self) except -1:
        return 0

    cdef int on_data(self, const uint8_t *data, size_t length) except -1:
        """Body bytes. Whoever overrides this calls `session.release` for them, now or when they are taken."""
        self.session.release(self, length)
        return 0

    cdef int on_end(self) except -1:
        return 0

    cdef int on_closed(self, uint32_t error_code) except -1:
        return 0

    cdef int on_drained(self) except -1:
        return 0

    cdef int deliver(self) except -1:
        """Called outside of nghttp2, after `make_ready`."""
        return 0

    cdef int submit_trailers(self) except -1:
        cdef NameValues block = NameValues(self.trailers)
        nghttp2_submit_trailer(self.session.ng, self.id, block.array, block.count)
        return 0

    # --- received headers
    cdef int store_pair(self, nghttp2_rcbuf *name, nghttp2_rcbuf *value) except -1:
        cdef size_t capacity
        cdef nghttp2_rcbuf **grown
        if self.pair_count == self.pair_capacity:
            capacity = self.pair_capacity * 2 if self.pair_capacity else 8
            grown = <nghttp2_rcbuf **>PyMem_Realloc(self.pairs, capacity * 2 * sizeof(nghttp2_rcbuf *))
            if grown is NULL:
                raise MemoryError
            self.pairs = grown
            self.pair_capacity = capacity
        nghttp2_rcbuf_incref(name)
        nghttp2_rcbuf_incref(value)
        self.pairs[self.pair_count * 2] = name
        self.pairs[self.pair_count * 2 + 1] = value
        self.pair_count += 1
        return 0

    cdef list header_list(self):
        cdef size_t at
        cdef nghttp2_vec name, value
        cdef list found = []
        for at in range(self.pair_count):
            name = nghttp2_rcbuf_get_buf(self.pairs[at * 2])
            value = nghttp2_rcbuf_get_buf(self.pairs[at * 2 + 1])
            found.append((PyBytes_FromStringAndSize(<char *>name.base, name.len),
                          PyBytes_FromStringAndSize(<char *>value.base, value.len)))
        return found

    # --- sending
    cdef int submit_head(self, nghttp2_nv *headers, size_t count, bint body) except -1:
        """Response headers; with `body` the queued bytes follow, without it the stream ends here."""
        cdef nghttp2_data_provider provider
        cdef int result
        self.head_submitted = True
        if body:
            provider.source.ptr = <void *>self
            provider.read_callback = _read_body
            result = nghttp2_submit_response(self.session.ng, self.id, headers, count, &provider)
        else:
            result = nghttp2_submit_response(self.session.ng, self.id, headers, count, NULL)
        if result != 0:
            raise SessionError(result)
        return 0

    cdef int push(self, bytes data) except -1:
        self.segments.append(data)
        self.queued += PyBytes_GET_SIZE(data)
        self.session.unsent += PyBytes_GET_SIZE(data)
        return 0

    cdef int resume(self) except -1:
        if self.deferred and not self.closed:
            self.deferred = False
            nghttp2_session_resume_data(self.session.ng, self.id)
        return 0

    cdef int fill(self, size_t wanted) except -1:
        """Pull parts until `wanted` bytes are queued or the parts are all here; ValueError if they do not add up."""
        cdef bytes part
        while self.queued < wanted and self.parts is not None:
            if self.parts_left == 0:
                self.parts = None
                break
            part = next(self.parts, None)
            if part is None or <size_t>PyBytes_GET_SIZE(part) > self.parts_left:
                raise ValueError("reply parts do not add up to the announced length")
            if PyBytes_GET_SIZE(part):
                self.push(part)
                self.parts_left -= PyBytes_GET_SIZE(part)
        return 0

    cdef int copy_out(self, size_t length) except -1:
        """Move `length` queued bytes into the session's output."""
        cdef bytes segment
        cdef size_t size, take
        if length > self.queued:
            raise ValueError("fewer bytes queued than promised")
        self.queued -= length
        self.session.unsent -= length
        while length:
            segment = <bytes>self.segments[self.segment_at]
            size = PyBytes_GET_SIZE(segment) - self.segment_offset
            take = size if size < length else length
            self.session.append(PyBytes_AS_STRING(segment) + self.segment_offset, take)
            length -= take
            if take == size:
                self.segments[self.segment_at] = None
                self.segment_at += 1
                self.segment_offset = 0
            else:
                self.segment_offset += take
        if self.segment_at == <size_t>len(self.segments):
            self.segments.clear()
            self.segment_at = 0
        elif self.segment_at > 64 and self.segment_at * 2 > <size_t>len(self.segments):
            del self.segments[:self.segment_at]
            self.segment_at = 0
        if self.above and self.queued <= self.low_water:
            self.above = False
            if not self.drain_due:
                self.drain_due = True
                self.session.drained.append(self)
        return 0

    cdef int make_ready(self) except -1:
        if not self.is_ready:
            self.is_ready = True
            self.session.ready.append(self)
            self.session.wake()
        return 0

    cpdef void reset(self, uint32_t error_code):
        if not self.closed and self.session.ng is not NULL:
            nghttp2_submit_rst_stream(self.session.ng, 0, self.id, error_code)
            self.session.wake()


cdef ssize_t _read_body(nghttp2_session *ng, int32_t stream_id, uint8_t *buffer, size_t length,
                        uint32_t *flags, nghttp2_data_source *source, void *user_data) noexcept:
    cdef Stream stream = <Stream>source.ptr
    cdef size_t take
    try:
        if stream.parts is not None:
            stream.fill(length + 1)
    except BaseException:
        log.exception("stream %d is reset: its body could not be produced", stream_id)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    try:
        take = stream.queued if stream.queued < length else length
        if take == 0 and not stream.ending:
            stream.deferred = True
            return NGHTTP2_ERR_DEFERRED
        if take:
            flags[0] = NGHTTP2_DATA_FLAG_NO_COPY
        if take == stream.queued and stream.ending and stream.parts is None:
            flags[0] |= NGHTTP2_DATA_FLAG_EOF
            if stream.trailers is not None:
                flags[0] |= NGHTTP2_DATA_FLAG_NO_END_STREAM
                stream.submit_trailers()
        return take
    except BaseException as error:
        return stream.session._fail(error)


cdef class Session:
    """One HTTP/2 connection. Feed with `receive`; output goes to `write` from `pump`, or is taken by `pull`."""

    def __cinit__(self, bint server, *args, **kwargs):
        self.server = server
        self.streams = {}
        self.ready = []
        self.drained = []
        self.header_list_max = 65536
        self.hold_max = 4 << 20
        self.unsent_max = 64 << 20
        self.frame_burst = self.frame_tokens = 10000
        self.frame_refill = 1000
        self.ping_strikes_max = 2
        self.pinged_at = self.frame_refilled = -1e9
        self.chunk = 65536
        self.paused = True
        self.scan_skip = 24 if server else 0

    def __init__(self, bint server, settings=(), int window=65535, int resets_burst=1000, int resets_per_second=100,
                 int continuations_max=8, int acks_max=1000):
        """`settings`: (identifier, value) pairs of our SETTINGS; `window`: receive window of the connection."""
        cdef nghttp2_option *option = NULL
        cdef nghttp2_settings_entry entries[16]
        cdef size_t count = 0
        cdef int result
        if self.ng is not NULL:
            raise RuntimeError("a session is initialised once")
        self.reset_burst = self.reset_tokens = resets_burst
        self.reset_refill = resets_per_second
        nghttp2_option_new(&option)
        nghttp2_option_set_no_auto_window_update(option, 1)
        nghttp2_option_set_no_closed_streams(option, 1)
        nghttp2_option_set_max_outbound_ack(option, acks_max)
        nghttp2_option_set_max_continuations(option, continuations_max)
        nghttp2_option_set_max_send_header_block_length(option, 1 << 20)
        if self.server:
            result = nghttp2_session_server_new2(&self.ng, _callbacks, <void *>self, option)
        else:
            result = nghttp2_session_client_new2(&self.ng, _callbacks, <void *>self, option)
        nghttp2_option_del(option)
        if result != 0:
            raise MemoryError
        for identifier, value in settings:
            entries[count].settings_id = identifier
            entries[count].value = value
            count += 1
        nghttp2_submit_settings(self.ng, 0, entries, count)
        nghttp2_session_set_local_window_size(self.ng, 0, 0, window)

    def __dealloc__(self):
        if self.ng is not NULL:
            nghttp2_session_del(self.ng)
        Py_XDECREF(self.out)

    cdef Stream make_stream(self):
        return Stream.__new__(Stream)

    cdef void attach(self, Stream stream, int32_t stream_id):
        stream.session = self
        stream.id = stream_id
        self.streams[stream_id] = stream
        nghttp2_session_set_stream_user_data(self.ng, stream_id, <void *>stream)

    def _fail(self, error):
        self.failure = error
        return NGHTTP2_ERR_CALLBACK_FAILURE

    # --- receiving
    def receive(self, bytes data not None):
        """Take what arrived. SessionError when the peer's bytes end the connection; pull what is left to say, then close."""
        if self.ended or self.violation is not None:
            return
        self.bytes_in += PyBytes_GET_SIZE(data)
        self.pumping = True
        try:
            if self.server:
                self.scan(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            else:
                self.feed(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        finally:
            self.pumping = False

    cdef int feed(self, const uint8_t *data, size_t length) except -1:
        cdef ssize_t taken = nghttp2_session_mem_recv(self.ng, data, length)
        if self.failure is not None:
            raise self.failure
        if taken < 0:
            if taken != NGHTTP2_ERR_FLOODED:
                raise SessionError(<int>taken)
            self.violate("too many unanswered frames", "flood")
        return 0

    cdef int scan(self, const uint8_t *data, size_t length) except -1:
        """Feed, with an eye on DATA frames for streams that are over: nghttp2 forgets those and ignores the frame in silence."""
        cdef size_t at = 0, start = 0, take, edge
        cdef bint reset_seen = False
        cdef int32_t stream_id
        while at < length:
            if self.scan_skip:
                take = self.scan_skip if self.scan_skip < length - at else length - at
                self.scan_skip -= take
                at += take
                continue
            take = 9 - self.scan_have if 9 - self.scan_have < length - at else length - at
            memcpy(&self.scan_head[self.scan_have], data + at, take)
            self.scan_have += take
            at += take
            if self.scan_have < 9:
                break
            self.scan_have = 0
            self.scan_skip = (<size_t>self.scan_head[0] << 16) | (self.scan_head[1] << 8) | self.scan_head[2]
            if self.scan_head[3] == NGHTTP2_RST_STREAM:
                reset_seen = True
            elif self.scan_head[3] > 9:
                self.spend(1)  # an extension nobody asked for
            elif self.scan_head[3] == NGHTTP2_DATA:
                stream_id = (<int32_t>(self.scan_head[5] & 127) << 24) | (self.scan_head[6] << 16) | (
                    self.scan_head[7] << 8) | self.scan_head[8]
                if not stream_id & 1 or (not reset_seen and (
                        stream_id > self.last_stream_id
                        or nghttp2_session_get_stream_user_data(self.ng, stream_id) is not NULL)):
                    continue
                edge = at - 9 if at >= start + 9 else start
                self.feed(data + start, edge - start)
                start = edge
                if (stream_id <= self.last_stream_id
                        and nghttp2_session_get_stream_user_data(self.ng, stream_id) is NULL):
                    self.check_closed(stream_id, False)
                    if self.violation is not None:
                        return 0
        return self.feed(data + start, length - start)

    cdef int spend(self, int64_t cost) except -1:
        """Pay for a frame that carries no work; tokens come back with time and with work done."""
        cdef double now
        self.frame_tokens -= cost
        if self.frame_tokens < 0:
            now = self.clock() if self.clock is not None else 0.0
            self.frame_tokens += <int64_t>min((now - self.frame_refilled) * self.frame_refill, <double>self.frame_burst)
            self.frame_refilled = now
            if self.frame_tokens < 0:
                self.violate("too many frames that carry no work", "frame_flood")
        return 0

    cdef int charge_reset(self) except -1:
        """A stream was reset by the peer, or because of it: cheap for the peer, so rationed."""
        cdef double now
        self.reset_tokens -= 1
        if self.reset_tokens < 0:
            now = self.clock() if self.clock is not None else 0.0
            self.reset_tokens = min(self.reset_tokens + (now - self.reset_refilled) * self.reset_refill, self.reset_burst)
            self.reset_refilled = now
            if self.reset_tokens < 0:
                self.violate("too many streams reset", "rapid_reset")
        return 0

    cdef int check_closed(self, int32_t stream_id, bint headers) except -1:
        """A frame for a stream that is over: an error, unless we ended it ourselves and the frame was already on its way."""
        cdef size_t at
        for at in range(256):
            if self.closed_ids[at] == stream_id:
                return self.violate("a frame on a closed stream", "stream closed", NGHTTP2_STREAM_CLOSED)
            if self.closed_ids[at] == -stream_id:
                return 0
        if headers:
            self.violate("a stream identifier that goes back", "stream identifier not increasing", NGHTTP2_PROTOCOL_ERROR)
        return 0

    cdef int violate(self, str reason, str debug, uint32_t code=NGHTTP2_ENHANCE_YOUR_CALM) except -1:
        cdef bytes text = debug.encode()
        if self.violation is None:
            self.violation = reason
            nghttp2_submit_goaway(self.ng, 0, nghttp2_session_get_last_proc_stream_id(self.ng),
                                  code, <const uint8_t *>PyBytes_AS_STRING(text), len(text))
        return 0

    def set_frame_budget(self, int64_t burst, int64_t per_second):
        """Frames without work: how many at once, and how many a second for ever. `clock` is set before."""
        self.frame_refilled = self.reset_refilled = self.clock()
        self.frame_burst = self.frame_tokens = burst
        self.frame_refill = per_second

    def charge_ping(self, double now):
        """A PING arrived: count it as a strike when it came too soon after the last."""
        if now - self.pinged_at < self.ping_interval_min:
            self.ping_strikes += 1
            if self.ping_strikes > self.ping_strikes_max:
                self.violate("too many pings", "too_many_pings")
        self.pinged_at = now

    cdef int hold(self, size_t length) except -1:
        """Bytes arrived. The connection window is given back at once while little is held, so that streams do not wait on each other."""
        self.held += length
        if self.held <= self.hold_max:
            nghttp2_session_consume_connection(self.ng, length)
        else:
            self.owed += length
        return 0

    cdef int release(self, Stream stream, size_t length) except -1:
        """The bytes were taken: give their windows back."""
        self.held -= length
        if self.ng is NULL:
            return 0
        if self.owed and self.held <= self.hold_max // 2:
            nghttp2_session_consume_connection(self.ng, self.owed)
            self.owed = 0
        if not stream.closed:
            nghttp2_session_consume_stream(self.ng, stream.id, length)
        return 0

    # --- sending
    cdef int append(self, const void *data, size_t length) except -1:
        cdef size_t capacity
        if self.out is NULL:
            capacity = FIRST_CAPACITY if length < FIRST_CAPACITY else length + self.chunk
            self.out = PyBytes_FromStringAndSize_(NULL, capacity)
            if self.out is NULL:
                raise MemoryError
            self.out_capacity = capacity
            self.out_length = 0
        elif self.out_length + length > self.out_capacity:
            capacity = self.out_capacity * 4
            if capacity < self.out_length + length:
                capacity = self.out_length + length + self.chunk
            _PyBytes_Resize(&self.out, capacity)
            self.out_capacity = capacity
        memcpy(PyBytes_AS_STRING(<object>self.out) + self.out_length, data, length)
        self.out_length += length
        return 0

    cdef bytes take_out(self):
        cdef PyObject *out = self.out
        cdef bytes result
        if out is NULL:
            return None
        self.out = NULL
        if self.out_length != self.out_capacity:
            _PyBytes_Resize(&out, self.out_length)
        result = <bytes>out
        Py_XDECREF(out)
        self.bytes_out += self.out_length
        self.out_length = 0
        return result

    cpdef bytes pull(self, size_t limit):
        """The next bytes to send, about `limit` of them; None when there is nothing to say now."""
        cdef const uint8_t *data
        cdef ssize_t count
        if self.ng is NULL:
            return None
        self.out_limit = limit
        while self.out_length < limit:
            count = nghttp2_session_mem_send(self.ng, &data)
            if count <= 0:
                if count < 0:
                    self.ended = True
                    if self.failure is not None:
                        raise self.failure
                    raise SessionError(<int>count)
                break
            self.append(data, count)
        return self.take_out()

    cdef void wake(self):
        if not self.pumping and not self.scheduled and self.call_soon is not None:
            self.scheduled = True
            self.call_soon(self.pump)

    cdef int deliver_ready(self) except -1:
        """Call the handlers that wait, except while too much is unsent: then what asks for more answers waits its turn."""
        cdef list ready, drained
        cdef Stream stream
        cdef Py_ssize_t at, count
        while True:
            if self.ready and (self.ended or self.unsent <= self.unsent_max):
                ready = self.ready
                self.ready = []
                count = len(ready)
                for at in range(count):
                    if self.unsent > self.unsent_max and not self.ended:
                        self.ready = ready[at:] + self.ready
                        break
                    stream = <Stream>ready[at]
                    stream.is_ready = False
                    stream.deliver()
            elif self.drained:
                drained = self.drained
                self.drained = []
                for stream in drained:
                    stream.drain_due = False
                    stream.on_drained()
            else:
                return 0

    cpdef void pump(self):
        """Hand out what arrived, then write what there is to say while the transport takes it."""
        cdef bytes data
        self.scheduled = False
        if self.pumping:
            return
        self.pumping = True
        try:
            while True:
                self.deliver_ready()
                while not self.paused:
                    data = self.pull(self.chunk)
                    if data is None:
                        break
                    self.write(data)
                if not self.drained and (not self.ready or self.unsent > self.unsent_max):
                    break
        except Exception as error:
            self.failure = error
            log.exception("connection fails")
        finally:
            self.pumping = False
        if self.on_pumped is not None:
            self.on_pumped()

    # --- commands
    @property
    def finished(self):
        """Nothing more is wanted from the peer and nothing is left to be sent."""
        if self.ng is NULL or self.failure is not None:
            return True
        if nghttp2_session_want_write(self.ng) and not self.ended:
            return False
        return self.ended or self.violation is not None or not nghttp2_session_want_read(self.ng)

    @property
    def held_bytes(self):
        """Received bytes nobody has taken yet."""
        return self.held

    def announce_shutdown(self):
        """First GOAWAY of two: please open no more streams."""
        nghttp2_submit_shutdown_notice(self.ng)
        self.wake()

    def refuse_streams(self, uint32_t error_code=0, bytes debug=b""):
        """Second GOAWAY: streams above the last one seen are not processed."""
        nghttp2_submit_goaway(self.ng, 0, nghttp2_session_get_last_proc_stream_id(self.ng), error_code,
                              <const uint8_t *>PyBytes_AS_STRING(debug), len(debug))
        self.wake()

    def ping(self, bytes opaque not None):
        if len(opaque) != 8:
            raise ValueError("a PING carries 8 bytes")
        nghttp2_submit_ping(self.ng, 0, <const uint8_t *>PyBytes_AS_STRING(opaque))
        self.wake()

    def close(self):
        """The connection is gone: every open stream is told, then forgotten."""
        cdef Stream stream
        cdef list left = list(self.streams.values())
        self.streams.clear()
        self.ended = True
        for stream in left:
            stream.closed = True
            stream.on_closed(NGHTTP2_CANCEL)
        self.current = None
        self.deliver_ready()
        if self.ng is not NULL and not self.pumping:
            nghttp2_session_del(self.ng)
            self.ng = NULL
        self.write = self.call_soon = self.on_pumped = None



cdef class EventStream(Stream):
    """A stream that tells what happened as values of events.py; body bytes are released when `take` is called."""
    cdef size_t untaken
    cdef bint head_seen

    cdef int on_head(self) except -1:
        cdef EventSession session = <EventSession>self.session
        session.events.append(Head(self.id, tuple(self.header_list())))
        self.pair_reset()
        return 0

    cdef void pair_reset(self):
        cdef size_t at
        for at in range(self.pair_count * 2):
            nghttp2_rcbuf_decref(self.pairs[at])
        self.pair_count = 0

    cdef int on_trailers(self) except -1:
        (<EventSession>self.session).events.append(Trailers(self.id, tuple(self.header_list())))
        self.pair_reset()
        return 0

    cdef int on_data(self, const uint8_t *data, size_t length) except -1:
        (<EventSession>self.session).events.append(Data(self.id, PyBytes_FromStringAndSize(<char *>data, length)))
        if (<EventSession>self.session).auto_take:
            self.session.release(self, length)
        else:
            self.untaken += length
        return 0

    cdef int on_end(self) except -1:
        (<EventSession>self.session).events.append(Data(self.id, b"", True))
        return 0

    cdef int on_closed(self, uint32_t error_code) except -1:
        (<EventSession>self.session).events.append(Reset(self.id, error_code))
        return 0


cdef class EventSession(Session):
    """A session that lists what happened in `events`: the client role, and the test peer."""
    cdef public list events
    cdef public bint auto_take

    def __init__(self, bint server, **kwargs):
        super().__init__(server, **kwargs)
        self.events = []
        self.auto_take = True

    cdef Stream make_stream(self):
        return EventStream.__new__(EventStream)

    def request(self, headers, body=b"", bint end=True):
        """Open a stream with these headers; `end`: `body` is all of it."""
        cdef EventStream stream = EventStream.__new__(EventStream)
        cdef NameValues block = NameValues(headers)
        stream.session = self
        cdef nghttp2_data_provider provider
        cdef int32_t stream_id
        provider.source.ptr = <void *>stream
        provider.read_callback = _read_body
        stream.ending = end
        if body:
            stream.push(body)
        stream_id = nghttp2_submit_request(
            self.ng, NULL, block.array, block.count, NULL if end and not body else &provider, <void *>stream)
        if stream_id < 0:
            raise SessionError(stream_id)
        stream.id = stream_id
        self.streams[stream_id] = stream
        return stream_id

    def respond(self, int32_t stream_id, headers, bytes body=b"", bint end=True, trailers=None):
        cdef EventStream stream = self.streams[stream_id]
        cdef NameValues block = NameValues(headers)
        if body:
            stream.push(body)
        stream.ending = end
        stream.trailers = trailers
        stream.submit_head(block.array, block.count, True)

    def send(self, int32_t stream_id, bytes body=b"", bint end=False):
        cdef EventStream stream = self.streams[stream_id]
        if body:
            stream.push(body)
        stream.ending = end
        stream.resume()

    def take(self, int32_t stream_id):
        """Give the windows of everything received on the stream back."""
        cdef EventStream stream = self.streams[stream_id]
        self.release(stream, stream.untaken)
        stream.untaken = 0

    def reset(self, int32_t stream_id, uint32_t error_code=8):
        (<Stream>self.streams[stream_id]).reset(error_code)

    def take_events(self):
        found = self.events
        self.events = []
        return found


# --- nghttp2's callbacks: find the stream, call its hook, keep exceptions for the shell
cdef int _on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    session.frames_in += 1
    if (session.server and head.type == NGHTTP2_HEADERS and head.stream_id <= session.last_stream_id
            and head.stream_id & 1 and nghttp2_session_get_stream_user_data(ng, head.stream_id) is NULL):
        try:
            session.check_closed(head.stream_id, True)
        except BaseException as error:
            return session._fail(error)
    return 0


cdef int _on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    cdef void *known
    try:
        session.block_open = True
        if session.server and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
            stream = session.make_stream()
            session.streams_opened += 1
            session.last_stream_id = frame.hd.stream_id
            session.attach(stream, frame.hd.stream_id)
            session.current = stream
        else:
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            session.current = <Stream>known if known is not NULL else None
            if session.current is not None and frame.headers.cat == NGHTTP2_HCAT_HEADERS:
                session.current.in_trailers = True
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_header(nghttp2_session *ng, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                    uint8_t flags, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream = session.current
    cdef nghttp2_vec name_at, value_at
    if stream is None:
        return 0
    try:
        name_at = nghttp2_rcbuf_get_buf(name)
        value_at = nghttp2_rcbuf_get_buf(value)
        stream.header_bytes += name_at.len + value_at.len + 32
        if stream.header_bytes > session.header_list_max:
            stream.oversized = True
            if stream.header_bytes > 16 * session.header_list_max:
                session.violate("a header list beyond all measure", "header_list_too_large")
            return 0
        if stream.on_header(name_at.base, name_at.len, value_at.base, value_at.len):
            stream.store_pair(name, value)
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    cdef void *known
    cdef int kind = frame.hd.type
    try:
        if kind == NGHTTP2_DATA:
            if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
                known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
                if known is not NULL:
                    stream = <Stream>known
                    stream.remote_ended = True
                    stream.on_end()
            elif frame.hd.length == 0:
                session.spend(1)
        elif kind == NGHTTP2_HEADERS:
            session.block_open = False
            stream = session.current
            session.current = None
            if stream is not None:
                if stream.in_trailers:
                    stream.on_trailers()
                else:
                    stream.on_head()
                if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
                    stream.remote_ended = True
                    stream.on_end()
        elif kind == NGHTTP2_PING:
            if frame.hd.flags & NGHTTP2_FLAG_ACK:
                session.ping_acks += 1
            else:
                session.spend(1)
                if session.ping_interval_min > 0 and session.clock is not None:
                    session.charge_ping(session.clock())
        elif kind == NGHTTP2_SETTINGS:
            session.settled = True
            session.spend(4)
        elif kind == NGHTTP2_RST_STREAM:
            session.resets_in += 1
            session.charge_reset()
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            if known is not NULL:
                (<Stream>known).remote_ended = True
        elif kind == NGHTTP2_GOAWAY:
            session.goaway_received = True
            session.spend(1)
        else:
            session.spend(1)
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    try:
        session.block_open = False
        session.charge_reset()
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t length,
                        void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef void *known = nghttp2_session_get_stream_user_data(ng, stream_id)
    try:
        session.hold(length)
        if session.frame_tokens < session.frame_burst:
            session.frame_tokens += 1
        if known is NULL:
            session.held -= length
            nghttp2_session_consume_stream(ng, stream_id, length)
        else:
            (<Stream>known).on_data(data, length)
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_stream_close(nghttp2_session *ng, int32_t stream_id, uint32_t error_code, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream
    try:
        stream = <Stream>session.streams.pop(stream_id, None)
        if stream is not None:
            if session.current is stream:
                session.current = None
            nghttp2_session_set_stream_user_data(ng, stream_id, NULL)
            session.closed_ids[session.closed_at] = stream_id if stream.remote_ended else -stream_id
            session.closed_at = (session.closed_at + 1) & 255
            stream.closed = True
            session.unsent -= stream.queued
            stream.queued = 0
            stream.segments.clear()
            stream.segment_at = stream.segment_offset = 0
            stream.parts = None
            stream.on_closed(error_code)
        return 0
    except BaseException as error:
        return session._fail(error)


cdef int _on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef void *known
    if frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS:
        session.ping_strikes = 0
        session.frame_tokens += 4
        if session.frame_tokens > session.frame_burst:
            session.frame_tokens = session.frame_burst
        if session.server and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            known = nghttp2_session_get_stream_user_data(ng, frame.hd.stream_id)
            # answered before the request ended: tell the client to stop sending it
            if known is not NULL and not (<Stream>known).remote_ended:
                nghttp2_submit_rst_stream(ng, 0, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    return 0


cdef int _send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t length,
                    nghttp2_data_source *source, void *user_data) noexcept:
    cdef Session session = <Session>user_data
    cdef Stream stream = <Stream>source.ptr
    if session.out_length >= session.out_limit:
        return NGHTTP2_ERR_WOULDBLOCK
    if stream.queued < length:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    try:
        session.append(head, 9)
        stream.copy_out(length)
        return 0
    except BaseException as error:
        return session._fail(error)


cdef nghttp2_session_callbacks *_make_callbacks():
    cdef nghttp2_session_callbacks *callbacks = NULL
    nghttp2_session_callbacks_new(&callbacks)
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, _on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, _on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, _on_header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, _on_frame_recv)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, _on_invalid_frame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, _on_data_chunk)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, _on_stream_close)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, _on_frame_send)
    nghttp2_session_callbacks_set_send_data_callback(callbacks, _send_data)
    return callbacks


# one table for every session of the process, never freed
cdef nghttp2_session_callbacks *_callbacks = _make_callbacks()
