"""Where each method of the API is answered when there are several nodes. Pure.

`HERE`: by this node at once; Lock and Election too, whose own requests are routed like a client's. `SHOWN`: here too,
but not before it has heard that a leader has shown what it shows, and each watch is created like a read. `READ`: here,
but not before this node shows everything that was acknowledged when the question came. `LEADER`: by whoever leads,
because it writes, or because only a leader knows (time left to a lease).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from google.protobuf.message import DecodeError
from wharf.brain.api.lease import RENEW
from wharf.brain.api.pb import rpc
from wharf.brain.api.token_use import RECORD_USE


class Route(Enum):
    HERE = "here"
    SHOWN = "shown"
    READ = "read"
    LEADER = "leader"


RANGE: Final = "/etcdserverpb.KV/Range"
WATCH: Final = "/etcdserverpb.Watch/Watch"
_KV, _LEASE, _AUTH = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Auth/"

_READ: Final = frozenset((RANGE, _KV + "RangeStream", _AUTH + "AuthStatus", "/etcdserverpb.Maintenance/Snapshot"))
_LEADER: Final = frozenset(
    (
        *(_KV + name for name in ("Put", "DeleteRange", "Txn", "Compact")),
        *(_LEASE + name for name in ("LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases")),
        RENEW,
        RECORD_USE,
        "/etcdserverpb.Maintenance/Alarm",
        *("/etcdserverpb.Cluster/" + name for name in ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote")),
    )
)


def route_of(path: str) -> Route:
    if path in _READ:
        return Route.READ
    if path == WATCH:
        return Route.SHOWN
    if path in _LEADER or path.startswith(_AUTH):
        return Route.LEADER
    return Route.HERE


def is_serializable(request: bytes) -> bool:
    """Whether a RangeRequest asks for whatever this node shows. Malformed bytes are not serializable: who parses them
    says so.
    """
    if b"\x38" not in request:  # field 7
        return False
    try:
        return bool(rpc.RangeRequest.FromString(request).serializable)
    except DecodeError:
        return False
