# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=True
"""HTTP/2 without I/O, on libnghttp2: bytes in, stream callbacks out; commands in, bytes out.

`Session` is one connection, of either role. `Stream` is one stream with its queue of outgoing bytes; what its bytes mean is
told by a subclass (`_grpc.Call` on the server, `EventStream` where events are wanted as values). This file decides nothing:
every limit is a number that limits.py supplies, and every hook is a method of a subclass.

Invariants:
- A stream is in `Session.streams` exactly as long as nghttp2 may call back about it.
- Received bytes give their stream window back only by `release`, that is, when the one who asked for them took them.
- Body bytes are copied once: from the object they were queued as into the bytes object that the transport gets.
- `Session.ng` is valid from `__cinit__` until `close`, and until nghttp2 has returned if a hook calls `close`. A stream that
  nghttp2 may point to stays referenced by its session until then.
- A wrong call from Python raises an exception; it never touches memory that is not there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_XDECREF
from libc.string cimport memcmp, memcpy, memset

cdef extern from "strings.h" nogil:
    int strncasecmp(const char *, const char *, size_t)

import logging

from wharf.wire.events import Data, Head, Reset, Trailers

log = logging.getLogger("wharf.wire")

cdef extern from "Python.h":
    object PyDictProxy_New(object)
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)

cdef enum:
    FIRST_CAPACITY = 2048  # output starts small (a reply) and grows to a chunk (a list)
    SETTINGS_MAX = 16  # entries of our SETTINGS frame
    DEBUG_MAX = 1024  # bytes of debug data in a GOAWAY frame


class SessionError(Exception):
    """nghttp2 refused what was received or asked; the connection is over. `code` is nghttp2's."""

    def __init__(self, int code):
        super().__init__(nghttp2_strerror(code).decode())
        self.code = code


include "_checks.pxi"
include "_stream.pxi"


cdef class Session:
    """One HTTP/2 connection. Feed with `receive`; output goes to `write` from `pump`, or is taken by `pull`."""

    def __cinit__(self, bint server, *args, settings=(), int window=65535, int resets_burst=1000,
                  int resets_per_second=100, int continuations_max=8, int acks_max=1000, **kwargs):
        self.server = server
        self.by_id = {}
        self.ready = []
        self.drained = []
        self.header_list_max = 65536
        self.hold_max = 4 << 20
        self.unsent_max = 64 << 20
        self.high_water = 256 << 10
        self.low_water = 64 << 10
        self.frame_burst = self.frame_tokens = 10000
        self.frame_refill = 1000
        self.ping_strikes_max = 2
        self.pinged_at = self.frame_refilled = -1e9
        self.chunk = 65536
        self.paused = True
        self.scan_skip = 24 if server else 0
        self.reset_burst = self.reset_tokens = resets_burst
        self.reset_refill = resets_per_second
        self.create(list(settings), window, continuations_max, acks_max)

    def __init__(self, bint server, *, settings=(), int window=65535, int resets_burst=1000, int resets_per_second=100,
                 int continuations_max=8, int acks_max=1000):
        """`settings`: (identifier, value) pairs of our SETTINGS, at most 16; `window`: receive window of the connection.

        ValueError when nghttp2 refuses a setting or the window. `__cinit__` reads the arguments: there is no session
        without a connection, whatever a subclass does.
        """

    cdef int create(self, list settings, int window, int continuations_max, int acks_max) except -1:
        cdef nghttp2_option *option = NULL
        cdef nghttp2_settings_entry entries[SETTINGS_MAX]
        cdef size_t count = 0
        cdef int result
        if len(settings) > SETTINGS_MAX:
            raise ValueError(f"{len(settings)} settings; one SETTINGS frame carries at most {SETTINGS_MAX} here")
        check(nghttp2_option_new(&option))
        nghttp2_option_set_no_auto_window_update(option, 1)
        nghttp2_option_set_no_closed_streams(option, 1)
        nghttp2_option_set_no_http_messaging(option, self.server)  # _messages.pxi judges requests
        nghttp2_option_set_stream_reset_rate_limit(option, 1 << 40, 1 << 40)  # charge_reset limits them
        nghttp2_option_set_max_outbound_ack(option, acks_max)
        nghttp2_option_set_max_continuations(option, continuations_max)
        nghttp2_option_set_max_send_header_block_length(option, 1 << 20)
        if self.server:
            result = nghttp2_session_server_new2(&self.ng, _callbacks, <void *>self, option)
        else:
            result = nghttp2_session_client_new2(&self.ng, _callbacks, <void *>self, option)
        nghttp2_option_del(option)
        check(result)
        for identifier, value in settings:
            entries[count].settings_id = identifier
            entries[count].value = value
            count += 1
        if nghttp2_submit_settings(self.ng, 0, entries, count) != 0:
            raise ValueError(f"nghttp2 refuses the settings {settings}")
        if window < 0 or nghttp2_session_set_local_window_size(self.ng, 0, 0, window) != 0:
            raise ValueError(f"nghttp2 refuses a connection window of {window} bytes")
        return 0

    def __dealloc__(self):
        if self.ng is not NULL:
            nghttp2_session_del(self.ng)
        Py_XDECREF(self.out)

    cdef Stream make_stream(self):
        return Stream.__new__(Stream)

    cdef int attach(self, Stream stream, int32_t stream_id) except -1:
        stream.session = self
        stream.id = stream_id
        self.by_id[stream_id] = stream
        return check(nghttp2_session_set_stream_user_data(self.ng, stream_id, <void *>stream))

    cdef int fail(self, error) noexcept:
        """Keep the exception of a hook for whoever called nghttp2, which stops."""
        self.failure = error
        return NGHTTP2_ERR_CALLBACK_FAILURE

    # --- receiving
    def receive(self, bytes data not None):
        """Take what arrived. SessionError when the peer's bytes end the connection; pull what is left to say, then close."""
        cdef bint pumping = self.pumping
        self.refuse_nesting()
        if self.ended or self.violation is not None:
            return
        self.bytes_in += PyBytes_GET_SIZE(data)
        self.pumping = True
        self.entered += 1
        try:
            if self.server:
                scan(self, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            else:
                self.feed(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        finally:
            self.pumping = pumping
            self.leave()

    def receive_eof(self):
        """The peer sends no more: an HTTP/2 connection is over with it."""
        self.eof_received = True

    cdef int feed(self, const uint8_t *data, size_t length) except -1:
        cdef ssize_t taken
        self.running = True
        taken = nghttp2_session_mem_recv(self.ng, data, length)
        self.running = False
        if self.failure is not None:
            raise self.failure
        if self.gone:
            return 0
        if taken < 0:
            if taken != NGHTTP2_ERR_FLOODED:
                raise SessionError(<int>taken)
            self.violate("too many unanswered frames", "flood")
        return 0

    cdef int refuse_malformed(self, Stream stream) except -1:
        """The message breaks HTTP's rules: the stream ends, the connection goes on."""
        stream.malformed = True
        check(nghttp2_submit_rst_stream(self.ng, 0, stream.id, NGHTTP2_PROTOCOL_ERROR))
        return charge_reset(self)

    cdef int end_body(self, Stream stream) except -1:
        """The peer sends no more on this stream."""
        if self.server and not stream.malformed and not fits_length(stream, True):
            return self.refuse_malformed(stream)
        return 0 if stream.malformed else stream.handle_end()

    cdef int violate(self, str reason, str debug, uint32_t code=NGHTTP2_ENHANCE_YOUR_CALM) except -1:
        cdef bytes text = debug.encode()
        if self.violation is None:
            self.violation = reason
            if self.ng is not NULL:
                check(nghttp2_submit_goaway(self.ng, 0, nghttp2_session_get_last_proc_stream_id(self.ng),
                                            code, <const uint8_t *>PyBytes_AS_STRING(text), len(text)))
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
            check(nghttp2_session_consume_connection(self.ng, length))
        else:
            self.owed += length
        return 0

    cdef int release(self, Stream stream, size_t length) except -1:
        """The bytes were taken: give their windows back."""
        self.held -= length
        if self.ng is NULL:
            return 0
        if self.owed and self.held <= self.hold_max // 2:
            check(nghttp2_session_consume_connection(self.ng, self.owed))
            self.owed = 0
        if not stream.closed:
            check(nghttp2_session_consume_stream(self.ng, stream.id, length))
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
        self.refuse_nesting()
        if self.ended:
            return None
        self.out_limit = limit
        self.entered += 1
        try:
            while self.out_length < limit:
                self.running = True
                count = nghttp2_session_mem_send(self.ng, &data)
                self.running = False
                if self.gone:
                    return None
                if count <= 0:
                    if count < 0:
                        self.ended = True
                        if self.failure is not None:
                            raise self.failure
                        raise SessionError(<int>count)
                    break
                self.append(data, count)
            return self.take_out()
        finally:
            self.leave()

    cdef int wake(self) except -1:
        if not self.pumping and not self.scheduled and self.call_soon is not None:
            self.scheduled = True
            self.call_soon(self.pump)
        return 0

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
                    stream.handle_drained()
            else:
                return 0

    cpdef void pump(self):
        """Hand out what arrived, then write what there is to say while the transport takes it."""
        cdef bytes data
        self.scheduled = False
        if self.pumping or self.running:
            return
        self.pumping = True
        self.entered += 1
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
            self.leave()
        if self.on_pumped is not None:
            self.on_pumped()

    cdef int refuse_nesting(self) except -1:
        if self.running:
            raise RuntimeError("a hook that nghttp2 calls may not receive or pull; do it after it has returned")
        return 0

    cdef int leave(self) except -1:
        """One of those who use `ng` is done; the last one frees it if the session was closed meanwhile."""
        self.entered -= 1
        if self.gone and not self.entered and self.ng is not NULL:
            nghttp2_session_del(self.ng)
            self.ng = NULL
            self.orphans = None
        return 0

    # --- commands
    @property
    def finished(self):
        """Nothing more is wanted from the peer and nothing is left to be sent."""
        if self.ng is NULL or self.failure is not None or self.ended:
            return True
        return self.terminating and not nghttp2_session_want_write(self.ng)

    @property
    def terminating(self):
        """Nothing more is wanted from the peer; what is left to be sent may still wait."""
        return (self.ng is NULL or self.failure is not None or self.ended or self.violation is not None
                or self.eof_received or not nghttp2_session_want_read(self.ng))

    @property
    def streams(self):
        """The open streams by identifier; a view that cannot be changed."""
        return PyDictProxy_New(self.by_id)

    @property
    def held_bytes(self):
        """Received bytes nobody has taken yet."""
        return self.held

    def announce_shutdown(self):
        """First GOAWAY of two: please open no more streams."""
        if self.ng is NULL:
            return
        if not self.server:
            raise RuntimeError("a client announces no shutdown; it ends by refuse_streams")
        check(nghttp2_submit_shutdown_notice(self.ng))
        self.wake()

    def refuse_streams(self, uint32_t error_code=0, bytes debug not None=b""):
        """Second GOAWAY: streams above the last one seen are not processed. ValueError when `debug` fits no frame."""
        if self.ng is NULL:
            return
        if len(debug) > DEBUG_MAX:
            raise ValueError(f"a GOAWAY frame carries at most {DEBUG_MAX} bytes of debug data, not {len(debug)}")
        check(nghttp2_submit_goaway(self.ng, 0, nghttp2_session_get_last_proc_stream_id(self.ng), error_code,
                                    <const uint8_t *>PyBytes_AS_STRING(debug), len(debug)))
        self.wake()

    def ping(self, bytes opaque not None):
        if len(opaque) != 8:
            raise ValueError("a PING carries 8 bytes")
        if self.ng is NULL:
            return
        check(nghttp2_submit_ping(self.ng, 0, <const uint8_t *>PyBytes_AS_STRING(opaque)))
        self.wake()

    def close(self):
        """The connection is gone: every open stream is told, then forgotten. A hook may call it; a second call does nothing."""
        cdef Stream stream
        cdef list left
        if self.gone:
            return
        self.gone = self.ended = True
        left = self.orphans = list(self.by_id.values())
        self.by_id.clear()
        self.current = None
        for stream in left:
            stream.closed = True
        self.entered += 1
        try:
            for stream in left:
                try:
                    stream.handle_closed(NGHTTP2_CANCEL)
                except Exception:
                    log.exception("the end of stream %d was not handled", stream.id)
            self.deliver_ready()
        finally:
            self.write = self.call_soon = self.on_pumped = None
            self.leave()


include "_events.pxi"
include "_messages.pxi"
include "_rates.pxi"
include "_scan.pxi"
include "_callbacks.pxi"
