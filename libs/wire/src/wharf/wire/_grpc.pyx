# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=True
"""gRPC server calls on an HTTP/2 session: collect, deframe, dispatch, answer. The hot path, so compiled; texts and codecs are grpc.py's.

How a unary call travels: header block → `handle_head` finds the route; DATA → `handle_data` deframes into one bytes object; END_STREAM →
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


include "_serving.pxi"


cdef inline bint _is(const uint8_t *name, const char *expected, size_t length) noexcept:
    return memcmp(name, expected, length) == 0


include "_incoming.pxi"
include "_plain.pxi"


cdef class Call(PlainCall):
    """One gRPC call, or a plain HTTP request until its answer; see rpc.Call for what its public methods promise."""

    # --- what a handler reads
    @property
    def path(self):
        if self.route is not None and self.route.path:
            return self.route.path
        return self.path_text()

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
        """Regular headers as they came, `:authority` as `host` (RFC 9113, 8.3.1); for plain requests."""
        cdef list found = self.header_list()
        return found if self.authority is None else [*found, (b"host", self.authority)]

    @property
    def plain_body(self):
        return bytes(self.body) if self.body is not None else b""

    @property
    def buffered(self):
        return self.queued

    @property
    def writable(self):
        return not self.above

    cdef int handle_closed(self, uint32_t error_code) except -1:
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
                self.drop_body()
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
            if self.is_grpc:
                self.finish(INTERNAL, "internal error")
            else:
                self.end_plain(b"500", "internal error")
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

    cdef int handle_drained(self) except -1:
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
                try:
                    session.settings.on_end(self, code)
                except Exception:
                    log.exception("on_end of %s failed", self.path)
        return 0

    cdef int end_by_wire(self, int code, str message) except -1:
        """The wire itself ends the call: a handler that has begun is told."""
        if self.done:
            return 0
        on_cancel = self.on_cancel
        if self.is_grpc:
            self.finish(code, message, NO_METADATA)
        else:
            self.end_plain(b"503", message)
        self.on_cancel = on_cancel
        self.drop_partial()
        self.cancel_later()
        return 0

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
            return check(nghttp2_submit_trailer(self.session.ng, self.id, OK_TRAILER, 1))
        block = NameValues(self.trailers)
        return check(nghttp2_submit_trailer(self.session.ng, self.id, block.array, block.count))

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
        if self.done or self.too_large(len(message)):
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
        if self.done or self.too_large(len(message)):
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
