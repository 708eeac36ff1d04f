"""The standard health service, grpc.health.v1: Check, Watch, List.

Its two tiny messages are coded here, so that no protobuf is needed.

Invariant: a watcher gets the present status at once and then every change, in order.
Source: gRPC health checking protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from wharf.wire.rpc import Call, Code, Kind, Method

SERVICE = "/grpc.health.v1.Health/"
_FIELD_1_BYTES = 0x0A
_FIELD_2_BYTES = 0x12
_FIELD_1_VARINT = 0x08
_LIST_MAX = 100
_MORE = 0x80


class Status(IntEnum):
    """Serving status of one service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class Health:
    """Statuses by service name; "" is the server as a whole."""

    def __init__(self, statuses: Mapping[str, Status] | None = None) -> None:
        self._statuses: dict[str, Status] = dict(statuses or {"": Status.SERVING})
        self._watchers: dict[str, list[Call]] = {}

    def set(self, service: str, status: Status) -> None:
        """A service changed: its watchers are told."""
        if self._statuses.get(service) == status:
            return
        self._statuses[service] = status
        for call in list(self._watchers.get(service, ())):
            call.send(encode_response(status))

    def set_all(self, status: Status) -> None:
        """Every known service changed, as at shutdown."""
        for service in list(self._statuses):
            self.set(service, status)

    def methods(self) -> dict[str, Method]:
        """The service as a method table."""
        table = (
            Method(SERVICE + "Check", Kind.UNARY, self._check),
            Method(SERVICE + "List", Kind.UNARY, self._list),
            Method(SERVICE + "Watch", Kind.STREAM, self._watch),
        )
        return {method.path: method for method in table}

    def _check(self, request: bytes, call: Call) -> None:
        service = _parse(request, call)
        if service is None:
            return
        status = self._statuses.get(service)
        if status is None:
            call.finish(Code.NOT_FOUND, "unknown service")
        else:
            call.reply(encode_response(status))

    def _list(self, request: bytes, call: Call) -> None:
        if len(self._statuses) > _LIST_MAX:
            call.finish(Code.RESOURCE_EXHAUSTED, f"server health list exceeds maximum capacity: {_LIST_MAX}")
            return
        call.reply(b"".join(_encode_entry(name, status) for name, status in self._statuses.items()))

    def _watch(self, call: Call) -> None:
        watched: list[str] = []

        def begin(message: bytes) -> None:
            service = _parse(message, call)
            if service is None or watched:
                return
            watched.append(service)
            self._watchers.setdefault(service, []).append(call)
            call.send(encode_response(self._statuses.get(service, Status.SERVICE_UNKNOWN)))

        def forget() -> None:
            for service in watched:
                self._watchers[service].remove(call)
                if not self._watchers[service]:
                    del self._watchers[service]

        call.on_message, call.on_cancel = begin, forget


def _parse(request: bytes, call: Call) -> str | None:
    try:
        return parse_request(request)
    except ValueError as error:
        call.finish(Code.INTERNAL, f"malformed health request: {error}")
        return None


def parse_request(request: bytes) -> str:
    """The service name in a HealthCheckRequest; ValueError when it is none, or has other fields."""
    if not request:
        return ""
    if request[0] != _FIELD_1_BYTES:
        raise ValueError("unexpected field")
    length, at = _parse_varint(request, 1)
    if at + length != len(request):
        raise ValueError("wrong length")
    return request[at:].decode("utf-8")


def encode_response(status: Status) -> bytes:
    """A HealthCheckResponse."""
    return bytes((_FIELD_1_VARINT, status)) if status else b""


def _encode_entry(service: str, status: Status) -> bytes:
    entry = _encode_field(_FIELD_1_BYTES, service.encode()) + _encode_field(_FIELD_2_BYTES, encode_response(status))
    return _encode_field(_FIELD_1_BYTES, entry)


def _encode_field(tag: int, value: bytes) -> bytes:
    length = len(value)
    head = bytearray((tag,))
    while length >= _MORE:
        head.append(length & 0x7F | _MORE)
        length >>= 7
    head.append(length)
    return bytes(head) + value


def _parse_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise ValueError("broken length")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & _MORE:
            return value, at
        shift += 7
