from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from wharf.brain.engine.base import Write
from wharf.brain.errors import BrainError

EventTuple = tuple[int, int, bytes, bytes, bytes | None]
Change = tuple[int, bytes, bytes, bytes | None, bool]
Entry = tuple[Callable[..., None], object, object, Callable[[BrainError], None] | None]

class KeySet(Protocol):
    def __contains__(self, key: bytes, /) -> bool: ...

class LeaseBook(Protocol):
    def holds(self, lease_id: int) -> bool: ...
    def move(self, key: bytes, old: int, new: int, undo: list[Callable[[], None]]) -> None: ...

def encode_kv(key: bytes, create_revision: int, mod_revision: int, version: int, value: bytes, lease: int) -> bytes: ...
def parse_kv(data: bytes) -> tuple[bytes, int, int, int, bytes, int]:
    """(key, create revision, mod revision, version, value, lease); ValueError when the bytes are no KeyValue."""

def kv_numbers(data: bytes) -> tuple[int, int, int, int]:
    """(create revision, mod revision, version, lease)"""

def without_value(data: bytes) -> bytes: ...
def frame(tag: int, message: bytes) -> bytes: ...
def event_frame(kind: int, kv: bytes) -> bytes: ...
def with_prev(event: bytes, prev: bytes) -> bytes: ...
def split_log(record: bytes) -> list[tuple[int, bytes, bytes, bool]]: ...
def parse_kube_txn(message: bytes) -> tuple[bytes, int, int, str | None, bytes, int, bool] | None: ...
def parse_kube_range(message: bytes) -> tuple[bytes, bytes, int, int, bool, bool] | None: ...

class Header:
    def __init__(self, cluster_id: int, member_id: int, raft_term: int) -> None: ...
    def encode(self, revision: int) -> bytes: ...

class Pending:
    base: int
    revision: int
    size: int
    compacts: int
    writes: list[Write]
    now: dict[bytes, bytes | None]
    events: list[EventTuple]
    births: list[tuple[int, bytes, bool]]
    entries: list[Entry]
    undo: list[Callable[[], None]]
    def __init__(self, base: int) -> None: ...
    def __len__(self) -> int: ...
    def write(self, table: int, key: bytes, value: bytes | None) -> None: ...
    def answer(
        self, done: Callable[..., None], answer: object, op: object, fail: Callable[[BrainError], None] | None
    ) -> None: ...
    def record(self, changes: Sequence[Change]) -> None: ...

class KubeLane:
    room: int
    def __init__(
        self, header: Header, get: Callable[[bytes], bytes | None], keys: KeySet, leases: LeaseBook
    ) -> None: ...
    def submit(
        self,
        message: bytes,
        pending: Pending,
        flying: Mapping[bytes, bytes | None],
        published: int,
        reply: Callable[[bytes], None],
        fail: Callable[[BrainError], None],
    ) -> bytes | bool | BrainError | None: ...
