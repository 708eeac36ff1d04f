"""Which method is at which path. Pure.

Source: the `google.api.http` options in etcd v3.7.1's `rpc.proto`, `v3lock.proto` and `v3election.proto`. All are POST
with the whole request message as the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from wharf.brain.api.pb import election, lock, rpc

PREFIX: Final = "/v3/"

_FILES: Final = (rpc.DESCRIPTOR, lock.DESCRIPTOR, election.DESCRIPTOR)
_PATHS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "KV": {
        "Range": ("kv/range",),
        "Put": ("kv/put",),
        "DeleteRange": ("kv/deleterange",),
        "Txn": ("kv/txn",),
        "Compact": ("kv/compaction",),
    },
    "Watch": {"Watch": ("watch",)},
    "Lease": {
        "LeaseGrant": ("lease/grant",),
        "LeaseRevoke": ("lease/revoke", "kv/lease/revoke"),
        "LeaseKeepAlive": ("lease/keepalive",),
        "LeaseTimeToLive": ("lease/timetolive", "kv/lease/timetolive"),
        "LeaseLeases": ("lease/leases", "kv/lease/leases"),
    },
    "Cluster": {
        "MemberAdd": ("cluster/member/add",),
        "MemberRemove": ("cluster/member/remove",),
        "MemberUpdate": ("cluster/member/update",),
        "MemberList": ("cluster/member/list",),
        "MemberPromote": ("cluster/member/promote",),
    },
    "Maintenance": {
        "Alarm": ("maintenance/alarm",),
        "Status": ("maintenance/status",),
        "Defragment": ("maintenance/defragment",),
        "Hash": ("maintenance/hash",),
        "HashKV": ("maintenance/hashkv",),
        "Snapshot": ("maintenance/snapshot",),
        "MoveLeader": ("maintenance/transfer-leadership",),
        "Downgrade": ("maintenance/downgrade",),
    },
    "Auth": {
        "AuthEnable": ("auth/enable",),
        "AuthDisable": ("auth/disable",),
        "AuthStatus": ("auth/status",),
        "Authenticate": ("auth/authenticate",),
        "UserAdd": ("auth/user/add",),
        "UserGet": ("auth/user/get",),
        "UserList": ("auth/user/list",),
        "UserDelete": ("auth/user/delete",),
        "UserChangePassword": ("auth/user/changepw",),
        "UserGrantRole": ("auth/user/grant",),
        "UserRevokeRole": ("auth/user/revoke",),
        "RoleAdd": ("auth/role/add",),
        "RoleGet": ("auth/role/get",),
        "RoleList": ("auth/role/list",),
        "RoleDelete": ("auth/role/delete",),
        "RoleGrantPermission": ("auth/role/grant",),
        "RoleRevokePermission": ("auth/role/revoke",),
    },
    "Lock": {"Lock": ("lock/lock",), "Unlock": ("lock/unlock",)},
    "Election": {
        "Campaign": ("election/campaign",),
        "Proclaim": ("election/proclaim",),
        "Leader": ("election/leader",),
        "Observe": ("election/observe",),
        "Resign": ("election/resign",),
    },
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method behind a path."""

    method: str  # "/etcdserverpb.KV/Range"
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool


def _route(method: MethodDescriptor) -> Route:
    return Route(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        method.client_streaming,
        method.server_streaming,
    )


ROUTES: Final = {
    PREFIX + path: _route(service.methods_by_name[name])
    for file in _FILES
    for service in file.services_by_name.values()
    for name, paths in _PATHS.get(service.name, {}).items()
    for path in paths
}
"""Path → what is behind it."""
