# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""gRPC server calls on an HTTP/2 session: collect, deframe, dispatch, answer. The hot path, so compiled; texts and codecs are grpc.py's.

How a unary call travels: header block → `on_head` finds the route; DATA → `on_data` deframes into one bytes object; END_STREAM →
the call is put on the session's ready list; after the whole read was parsed `deliver` calls the handler; `reply` queues the framed
message, and the next pump lets nghttp2 frame it.

Invariants:
- A handler is never called from inside nghttp2.
- Each call is counted once as started and once as handled, by the code it ended with.
- The stream window is given back when nothing that was received waits for the handler.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from wharf.wire._nghttp2 cimport *

import logging

from wharf.wire._nghttp2 import NameValues
from wharf.wire.grpc import (
    BadTimeout,
    MessageTooLarge,
    compress,
    decode_metadata,
    decompress,
    encode_message,
    encode_metadata,
    parse_timeout,
)
from wharf.wire.texts import unknown_method_text

log = logging.getLogger("wharf.wire")

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    void Py_DecRef(PyObject *)

cdef enum:
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    CODES = 17
    SMALL_MESSAGE = 8192  # framed in one piece below, in two above
    FIRST_BUFFER = 65536  # a message's announced length is believed up to here

cdef bytes ENCODINGS = b"identity,gzip"
cdef tuple CONTENT_TYPE = (b"content-type", b"application/grpc")
cdef tuple STATUS_OK = (b":status", b"200")
cdef tuple NO_METADATA = ()

# blocks sent with nearly every call; they point into module constants, so nghttp2 need not copy them
cdef nghttp2_nv OK_HEAD[2]
cdef nghttp2_nv OK_TRAILER[1]


cdef nghttp2_nv _fixed(const char *name, size_t name_length, const char *value, size_t length):
    cdef nghttp2_nv pair
    pair.name = <uint8_t *>name
    pair.namelen = name_length
    pair.value = <uint8_t *>value
    pair.valuelen = length
    pair.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
    return pair


OK_HEAD[0] = _fixed(b":status", 7, b"200", 3)
OK_HEAD[1] = _fixed(b"content-type", 12, b"application/grpc", 16)
OK_TRAILER[0] = _fixed(b"grpc-status", 11, b"0", 1)


cdef class Route:
    """One served method and its counters, shared by every connection of a server."""
    cdef readonly str path
    cdef readonly bint unary
    cdef object handler
    cdef readonly uint64_t started, messages_in, messages_out
    cdef uint64_t codes[CODES]

    def __init__(self, str path, bint unary, handler):
        self.path = path
        self.unary = unary
        self.handler = handler

    @property
    def handled(self):
        """Finished calls by status code."""
        return tuple([self.codes[code] for code in range(CODES)])


cdef class CallSettings:
    """What every call of a server shares: routes, message limits, hooks. Built once, from rpc.py's and limits.py's values."""
    cdef readonly dict routes
    cdef readonly Route unknown
    cdef readonly size_t receive_max, send_max, high_water, low_water, assembling_max, plain_body_max
    cdef public object on_start, on_end, on_plain

    def __init__(self, dict routes, limits, connection_limits):
        self.routes = routes
        self.unknown = Route("", True, None)
        self.receive_max = limits.receive_max
        self.send_max = limits.send_max
        self.high_water = limits.high_water
        self.low_water = limits.low_water
        self.assembling_max = connection_limits.assembling_max
        self.plain_body_max = connection_limits.plain_body_max


cdef class ServerSession(Session):
    """A server's connection whose streams are `Call`s."""
    cdef CallSettings settings
    cdef public object peer
    cdef size_t assembling
    cdef readonly double next_deadline
    cdef public object on_deadline  # called with loop time when a call with an earlier deadline than all others came
    cdef dict with_deadline

    def __init__(self, bint server, CallSettings shared, peer, **kwargs):
        super().__init__(server, **kwargs)
        self.settings = shared
        self.peer = peer
        self.with_deadline = {}
        self.next_deadline = 1e300

    cdef Stream make_stream(self):
        return Call.__new__(Call)

    def expire(self, double now):
        """Cancel the calls whose deadline has passed; the next deadline is known afterwards."""
        cdef Call call
        cdef double earliest = 1e300
        for call in list(self.with_deadline.values()):
            if call.due <= now:
                call.end_by_wire(DEADLINE_EXCEEDED, "context deadline exceeded")
            elif call.due < earliest:
                earliest = call.due
        self.next_deadline = earliest

    def calls(self):
        """The calls that are not over."""
        return [call for call in self.streams.values() if not (<Call>call).done]

    def abort_calls(self, int code, str message):
        """End every call with this status."""
        cdef Call call
        for call in list(self.streams.values()):
            if not call.done:
                call.end_by_wire(code, message)


cdef inline bint _is(const uint8_t *name, const char *expected, size_t length) noexcept:
    return memcmp(name, expected, length) == 0


cdef class Call(Stream):
    """One gRPC call, or a plain HTTP request until its answer; see rpc.Call for what its public methods promise."""
    cdef Route route
    cdef bytes path_bytes, method_bytes, authority, encoding, body, message
    cdef readonly bint done, is_grpc
    cdef bint started, counted, cancel_due, half_due, half_told, reading_paused, unpacks, packs, has_timeout
    cdef list inbox
    cdef size_t inbox_at
    # deframer
    cdef uint8_t prefix[5]
    cdef size_t prefix_have, need, have, buffer_capacity, uncredited
    cdef bint packed
    cdef PyObject *buffer
    cdef double due
    cdef object initial, trailing
    cdef public object on_message, on_half_close, on_cancel, on_drain, context

    def __dealloc__(self):
        if self.buffer is not NULL:
            Py_DecRef(self.buffer)

    # --- what a handler reads
    @property
    def path(self):
        if self.route is not None and self.route.path:
            return self.route.path
        return self.path_bytes.decode("latin-1") if self.path_bytes is not None else ""

    @property
    def method(self):
        return self.method_bytes.decode("latin-1") if self.method_bytes is not None else ""

    @property
    def peer(self):
        return (<ServerSession>self.session).peer

    @property
    def deadline(self):
        return self.due if self.has_timeout else None

    @property
    def metadata(self):
        return decode_metadata(self.header_list())

    @property
    def headers(self):
        """Regular headers as they came; for plain requests."""
        return self.header_list()

    @property
    def plain_body(self):
        return self.body if self.body is not None else b""

    @property
    def buffered(self):
        return self.queued

    @property
    def writable(self):
        return not self.above

    # --- receiving
    cdef int on_header(self, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length) except -1:
        if name[0] == b":":
            if name_length == 5 and _is(name, b":path", 5):
                self.path_bytes = PyBytes_FromStringAndSize(<char *>value, length)
            elif name_length == 7 and _is(name, b":method", 7):
                if length != 4 or not _is(value, b"POST", 4):
                    self.method_bytes = PyBytes_FromStringAndSize(<char *>value, length)
            elif name_length == 10 and _is(name, b":authority", 10):
                pass
            return 0
        if self.in_trailers:
            return 0
        if name_length == 12:
            if _is(name, b"content-type", 12):
                self.is_grpc = length >= 16 and _is(value, b"application/grpc", 16) and (
                    length == 16 or value[16] == b"+" or value[16] == b";")
            elif _is(name, b"grpc-timeout", 12):
                self.has_timeout = True
        elif name_length == 13 and _is(name, b"grpc-encoding", 13):
            if not (length == 8 and _is(value, b"identity", 8)):
                self.encoding = PyBytes_FromStringAndSize(<char *>value, length)
        return 1

    cdef int on_head(self) except -1:
        cdef ServerSession session = <ServerSession>self.session
        cdef CallSettings settings = session.settings
        self.low_water = settings.low_water
        if self.oversized:
            return self.refuse_plain(b"431", "header list too large")
        if not self.is_grpc:
            if self.method_bytes is None:
                self.method_bytes = b"POST"
            return 0
        if self.method_bytes is not None:
            return self.refuse_plain(b"405", "gRPC requests are POST")
        self.route = <Route>settings.routes.get(self.path_bytes)
        if self.route is None:
            self.route = settings.unknown
            self.count_start(settings)
            return self.end_by_wire(UNIMPLEMENTED, unknown_method_text(
                self.path, [route.path for route in settings.routes.values()]))
        self.count_start(settings)
        if self.has_timeout and self.take_timeout(session) != 0:
            return 0
        if self.encoding is not None:
            if self.encoding != b"gzip":
                self.trailing = ((b"grpc-accept-encoding", ENCODINGS),)
                return self.end_by_wire(
                    UNIMPLEMENTED,
                    'grpc: Decompressor is not installed for grpc-encoding "%s"' % self.encoding.decode("latin-1"))
            self.unpacks = self.packs = True
        if not self.route.unary:
            self.inbox = []
            self.make_ready()
        return 0

    cdef int count_start(self, CallSettings settings) except -1:
        self.route.started += 1
        self.counted = True
        if settings.on_start is not None:
            settings.on_start(self)
        return 0

    cdef int take_timeout(self, ServerSession session) except -1:
        cdef bytes name, value
        try:
            for name, value in self.header_list():
                if name == b"grpc-timeout":
                    self.due = session.clock() + <double>parse_timeout(value)
        except BadTimeout as error:
            self.has_timeout = False
            self.end_by_wire(INTERNAL, str(error))
            return 1
        session.with_deadline[self.id] = self
        if self.due < session.next_deadline:
            session.next_deadline = self.due
            if session.on_deadline is not None:
                session.on_deadline(self.due)
        return 0

    cdef int on_data(self, const uint8_t *data, size_t length) except -1:
        cdef ServerSession session = <ServerSession>self.session
        if self.done or self.oversized:
            session.release(self, length)
            return 0
        if not self.is_grpc:
            session.release(self, length)
            if self.body is None:
                self.body = b""
            if len(self.body) + length > session.settings.plain_body_max:
                return self.refuse_plain(b"413", "request body too large")
            self.body += PyBytes_FromStringAndSize(<char *>data, length)
            return 0
        self.uncredited += length
        self.deframe(session, data, length)
        if not self.waiting():
            self.credit()
        return 0

    cdef bint waiting(self):
        """A whole message is here that the handler has not taken."""
        return self.message is not None or (self.inbox is not None and self.inbox_at < <size_t>len(self.inbox))

    cdef int credit(self) except -1:
        cdef size_t length = self.uncredited
        if length:
            self.uncredited = 0
            self.session.release(self, length)
        return 0

    cdef int deframe(self, ServerSession session, const uint8_t *data, size_t length) except -1:
        cdef size_t take
        while True:
            if self.prefix_have < 5:
                take = 5 - self.prefix_have
                if take > length:
                    take = length
                memcpy(&self.prefix[self.prefix_have], data, take)
                self.prefix_have += take
                data += take
                length -= take
                if self.prefix_have < 5:
                    return 0
                if self.open_message(session.settings) != 0:
                    return 0
            if self.buffer is NULL and length >= self.need:
                self.prefix_have = 0
                self.take_message(session, PyBytes_FromStringAndSize(<char *>data, self.need))
                data += self.need
                length -= self.need
            else:
                take = self.need - self.have
                if take > length:
                    take = length
                if self.collect(session, data, take) != 0:
                    return 0
                data += take
                length -= take
                if self.have == self.need:
                    self.prefix_have = 0
                    self.take_message(session, self.collected(session))
            if length == 0 or self.done:
                return 0

    cdef int open_message(self, CallSettings settings) except -1:
        """The prefix is whole: 0 to go on, 1 when it ended the call."""
        self.need = (<size_t>self.prefix[1] << 24) | (self.prefix[2] << 16) | (self.prefix[3] << 8) | self.prefix[4]
        self.have = 0
        self.packed = self.prefix[0] & 1
        if self.prefix[0] > 1:
            self.end_by_wire(INTERNAL, "grpc: received unexpected payload format %d" % self.prefix[0])
            return 1
        if self.packed and not self.unpacks:
            self.end_by_wire(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
            return 1
        if self.need > settings.receive_max:
            self.end_by_wire(RESOURCE_EXHAUSTED, "grpc: received message larger than max (%d vs. %d)"
                             % (self.need, settings.receive_max))
            return 1
        return 0

    cdef int collect(self, ServerSession session, const uint8_t *data, size_t length) except -1:
        """Part of a message; memory grows with what came, not with what was announced."""
        cdef size_t capacity
        if session.assembling + length > session.settings.assembling_max:
            self.end_by_wire(RESOURCE_EXHAUSTED, "too many request bytes in flight on this connection")
            return 1
        if self.buffer is NULL:
            capacity = self.need if self.need < FIRST_BUFFER else FIRST_BUFFER
            self.buffer = PyBytes_FromStringAndSize_(NULL, capacity)
            if self.buffer is NULL:
                raise MemoryError
            self.buffer_capacity = capacity
        if self.have + length > self.buffer_capacity:
            capacity = self.buffer_capacity * 2
            if capacity < self.have + length:
                capacity = self.have + length
            if capacity > self.need:
                capacity = self.need
            _PyBytes_Resize(&self.buffer, capacity)
            self.buffer_capacity = capacity
        memcpy(PyBytes_AS_STRING(<object>self.buffer) + self.have, data, length)
        self.have += length
        session.assembling += length
        return 0

    cdef bytes collected(self, ServerSession session):
        cdef PyObject *whole = self.buffer
        cdef bytes message
        self.buffer = NULL
        session.assembling -= self.have
        if self.buffer_capacity != self.have:
            _PyBytes_Resize(&whole, self.have)
        message = <bytes>whole
        Py_DecRef(whole)
        return message

    cdef int drop_partial(self) except -1:
        if self.buffer is not NULL:
            (<ServerSession>self.session).assembling -= self.have
            Py_DecRef(self.buffer)
            self.buffer = NULL
        return 0

    cdef int take_message(self, ServerSession session, bytes message) except -1:
        if self.packed:
            try:
                message = decompress(message, session.settings.receive_max)
            except MessageTooLarge as error:
                return self.end_by_wire(RESOURCE_EXHAUSTED, str(error))
            except ValueError as error:
                return self.end_by_wire(INTERNAL, str(error))
        self.route.messages_in += 1
        if self.route.unary:
            if self.message is not None:
                return self.end_by_wire(INTERNAL, "more than one request message for a unary call")
            self.message = message
        else:
            self.inbox.append(message)
            self.make_ready()
        return 0

    cdef int on_end(self) except -1:
        if self.done or self.oversized:
            return 0
        if self.is_grpc:
            if self.prefix_have:
                return self.end_by_wire(INTERNAL, "unexpected EOF")
            if self.route.unary and self.message is None:
                return self.end_by_wire(INTERNAL, "no request message for a unary call")
            self.half_due = True
        self.make_ready()
        return 0

    cdef int on_closed(self, uint32_t error_code) except -1:
        self.drop_partial()
        if not self.done:
            self.end(CANCELLED)
            self.cancel_later()
        self.message = None
        if self.inbox is not None:
            self.inbox.clear()
            self.inbox_at = 0
        self.credit()
        if not self.cancel_due:
            self.forget_callbacks()
        return 0

    # --- handing to the handler
    cdef int deliver(self) except -1:
        cdef bytes message
        try:
            if self.cancel_due:
                self.tell_cancel()
                return 0
            if self.done:
                return 0
            if not self.is_grpc:
                self.started = True
                (<ServerSession>self.session).settings.on_plain(self)
                return 0
            if self.route.unary:
                self.started = True
                message = self.message
                self.message = None
                self.credit()
                self.route.handler(message, self)
                return 0
            self.deliver_stream()
        except Exception:
            log.exception("handler of %s failed", self.path)
            self.finish(INTERNAL, "internal error")
        return 0

    cdef int deliver_stream(self) except -1:
        cdef bytes message
        if not self.started:
            self.started = True
            self.route.handler(self)
        while self.inbox_at < <size_t>len(self.inbox) and not self.reading_paused and not self.done:
            message = <bytes>self.inbox[self.inbox_at]
            self.inbox[self.inbox_at] = None
            self.inbox_at += 1
            if self.on_message is not None:
                self.on_message(message)
        if self.inbox_at >= <size_t>len(self.inbox):
            self.inbox.clear()
            self.inbox_at = 0
            self.credit()
            if self.half_due and not self.half_told and not self.reading_paused and not self.done:
                self.half_told = True
                if self.on_half_close is not None:
                    self.on_half_close()
        return 0

    cdef int cancel_later(self) except -1:
        if self.started:
            self.cancel_due = True
            self.make_ready()
        return 0

    cdef int tell_cancel(self) except -1:
        on_cancel = self.on_cancel
        self.cancel_due = False
        self.forget_callbacks()
        if on_cancel is not None:
            on_cancel()
        return 0

    cdef int forget_callbacks(self) except -1:
        """A call that is over holds nothing of its handler's."""
        self.on_message = self.on_half_close = self.on_cancel = self.on_drain = None
        return 0

    cdef int on_drained(self) except -1:
        if self.on_drain is not None and not self.done:
            try:
                self.on_drain()
            except Exception:
                log.exception("on_drain of %s failed", self.path)
                self.finish(INTERNAL, "internal error")
        return 0

    # --- answering
    cdef int end(self, int code) except -1:
        """The call is over with this code: count it once."""
        cdef ServerSession session = <ServerSession>self.session
        self.done = True
        if self.has_timeout:
            session.with_deadline.pop(self.id, None)
        if self.counted:
            self.counted = False
            self.route.codes[code if 0 <= code < CODES else UNKNOWN] += 1
            if session.settings.on_end is not None:
                session.settings.on_end(self, code)
        return 0

    cdef int end_by_wire(self, int code, str message) except -1:
        """The wire itself ends the call: a handler that has begun is told."""
        if self.done:
            return 0
        on_cancel = self.on_cancel
        self.finish(code, message, NO_METADATA)
        self.on_cancel = on_cancel
        self.drop_partial()
        self.cancel_later()
        return 0

    cdef int refuse_plain(self, bytes status, str text) except -1:
        if not self.done:
            self.plain_response(int(status), [(b"content-type", b"text/plain; charset=utf-8")], text.encode() + b"\n")
        return 0

    def plain_response(self, int status, headers, bytes body):
        """Answer a request that is no gRPC call."""
        cdef NameValues block
        if self.done or self.closed:
            return
        self.done = True
        block = NameValues([(b":status", b"%d" % status), *headers, (b"content-length", b"%d" % len(body))])
        if self.method_bytes == b"HEAD" or not body:
            self.submit_head(block.array, block.count, False)
        else:
            self.push(body)
            self.ending = True
            self.submit_head(block.array, block.count, True)
        self.session.wake()

    cdef int open_response(self) except -1:
        cdef NameValues block
        if self.initial is None and not self.packs:
            return self.submit_head(OK_HEAD, 2, True)
        headers = [STATUS_OK, CONTENT_TYPE]
        if self.packs:
            headers.append((b"grpc-encoding", b"gzip"))
            headers.append((b"grpc-accept-encoding", ENCODINGS))
        if self.initial is not None:
            headers.extend(self.initial)
        block = NameValues(headers)
        return self.submit_head(block.array, block.count, True)

    cdef int submit_trailers(self) except -1:
        cdef NameValues block
        if self.trailers is NO_METADATA:
            nghttp2_submit_trailer(self.session.ng, self.id, OK_TRAILER, 1)
        else:
            block = NameValues(self.trailers)
            nghttp2_submit_trailer(self.session.ng, self.id, block.array, block.count)
        return 0

    cdef int queue_message(self, bytes message) except -1:
        cdef bytes framed
        cdef char *at
        cdef size_t length
        cdef bint packed = self.packs and PyBytes_GET_SIZE(message) > 0
        if packed:
            message = compress(message)
        length = PyBytes_GET_SIZE(message)
        framed = PyBytes_FromStringAndSize(NULL, 5 + (length if length <= SMALL_MESSAGE else 0))
        at = PyBytes_AS_STRING(framed)
        at[0] = packed
        at[1] = <char>(length >> 24)
        at[2] = <char>((length >> 16) & 255)
        at[3] = <char>((length >> 8) & 255)
        at[4] = <char>(length & 255)
        if length <= SMALL_MESSAGE:
            memcpy(at + 5, PyBytes_AS_STRING(message), length)
            self.push(framed)
        else:
            self.push(framed)
            self.push(message)
        self.route.messages_out += 1
        return 0

    cdef bint too_large(self, size_t length):
        cdef size_t limit = (<ServerSession>self.session).settings.send_max
        if length > limit:
            self.finish(RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max (%d vs. %d)" % (length, limit))
            return True
        return False

    cpdef void reply(self, bytes message) except *:
        if self.done or self.too_large(PyBytes_GET_SIZE(message)):
            return
        self.queue_message(message)
        self.close_with_ok()

    def reply_parts(self, size_t length, parts):
        if self.done or self.too_large(length):
            return
        self.push((b"\x00" + int(length).to_bytes(4, "big")))
        self.route.messages_out += 1
        if length:
            self.parts = iter(parts)
            self.parts_left = length
        self.close_with_ok()

    cdef int close_with_ok(self) except -1:
        self.end(OK)
        self.trailers = NO_METADATA
        if self.trailing is not None:
            self.trailers = [(b"grpc-status", b"0"), *self.trailing]
        self.ending = True
        if not self.head_submitted:
            self.open_response()
        else:
            self.resume()
        self.forget_callbacks()
        self.session.wake()
        return 0

    cpdef void send(self, bytes message) except *:
        if self.done or self.too_large(PyBytes_GET_SIZE(message)):
            return
        self.queue_message(message)
        if self.queued > (<ServerSession>self.session).settings.high_water:
            self.above = True
        if not self.head_submitted:
            self.open_response()
        elif self.deferred:
            self.resume()
        self.session.wake()

    cpdef void finish(self, int code=0, str message="", trailing=NO_METADATA) except *:
        cdef NameValues block
        if self.done:
            return
        self.end(code)
        self.forget_callbacks()
        self.message = None
        if self.inbox is not None:
            self.inbox.clear()
            self.inbox_at = 0
        self.credit()
        if self.closed:
            return
        status = [(b"grpc-status", b"%d" % code)]
        if message:
            status.append((b"grpc-message", encode_message(message)))
        if self.trailing is not None:
            status.extend(self.trailing)
        if trailing:
            status.extend(encode_metadata(trailing))
        if self.head_submitted:
            self.trailers = NO_METADATA if len(status) == 1 and code == OK else status
            self.ending = True
            self.resume()
        else:
            block = NameValues([STATUS_OK, CONTENT_TYPE, *(self.initial or ()), *status])
            self.submit_head(block.array, block.count, False)
        self.session.wake()

    def send_initial_metadata(self, metadata):
        if self.done or self.head_submitted:
            return
        self.initial = encode_metadata(metadata)
        self.open_response()
        self.session.wake()

    def set_trailing_metadata(self, metadata):
        if not self.done:
            self.trailing = encode_metadata(metadata)

    def pause_reading(self):
        self.reading_paused = True

    def resume_reading(self):
        if self.reading_paused:
            self.reading_paused = False
            if not self.done:
                self.make_ready()
