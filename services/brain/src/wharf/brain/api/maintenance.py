"""etcdserverpb.Maintenance: Status, Alarm, Defragment, Hash, HashKV, Snapshot, MoveLeader, Downgrade.

Whatever takes long runs in a worker thread on its
own snapshot; the call is answered when it is done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from wharf.brain.api import decode
from wharf.brain.api.encode import number
from wharf.brain.api.node import CLUSTER_VERSION, SERVER_VERSION, Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import fail, server_stream, unary
from wharf.brain.api.snapshot_stream import SnapshotStream
from wharf.brain.engine.base import Snapshot
from wharf.brain.errors import (
    BadLeaderTransferee,
    BrainError,
    InvalidDowngradeTargetVersion,
    NoLeader,
    UnknownMethod,
    WrongDowngradeVersionFormat,
)
from wharf.brain.store.alarms import CORRUPT, NOSPACE, Alarm
from wharf.brain.store.hashing import hash_all, hash_kv
from wharf.common.log import get_log
from wharf.wire.rpc import Call, Method

T = TypeVar("T")

_log = get_log("brain.maintenance")
_SERVICE = "/etcdserverpb.Maintenance/"
_SEMVER = re.compile(r"\d+\.\d+(\.\d+([-+].+)?)?", re.ASCII)
_ALARMS: dict[int, str] = {rpc.NOSPACE: NOSPACE, rpc.CORRUPT: CORRUPT}
_MINOR = CLUSTER_VERSION.rpartition(".")[0]  # etcd tells a cluster's version as "3.7"


class MaintenanceApi:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store
        self._tasks = node.tasks
        self._header = node.encoder.header

    def methods(self) -> list[Method]:
        return [
            unary(_SERVICE + "Status", self.status),
            unary(_SERVICE + "Alarm", self.alarm),
            unary(_SERVICE + "Defragment", self.defragment),
            unary(_SERVICE + "Hash", self.hash),
            unary(_SERVICE + "HashKV", self.hash_kv),
            server_stream(_SERVICE + "Snapshot", self.snapshot),
            unary(_SERVICE + "MoveLeader", self.move_leader),
            unary(_SERVICE + "Downgrade", self.downgrade),
        ]

    def status(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.StatusRequest, data)
        store, cluster = self._store, self._node.cluster
        body = rpc.StatusResponse(
            version=SERVER_VERSION,
            dbSize=store.engine.size(),
            dbSizeInUse=store.engine.size_in_use(),
            dbSizeQuota=self._node.limits.quota_bytes,
            leader=cluster.leader_id,
            raftIndex=store.revision,
            raftAppliedIndex=store.revision,
            raftTerm=cluster.term,
            storageVersion=CLUSTER_VERSION,
            errors=self._errors(),
            downgradeInfo=rpc.DowngradeInfo(enabled=False),
        )
        call.reply(self._header(store.revision) + body.SerializeToString())

    def _errors(self) -> list[str]:
        found = [f"{_member_field(alarm.member_id)}alarm:{alarm.name} " for alarm in self._store.raised_alarms()]
        return found if self._node.cluster.leader_id else [*found, NoLeader.text]

    def move_leader(self, data: bytes, call: Call) -> None:
        """As etcd's, only the leader hands over, and only to a member that is there."""
        target = decode.parse(rpc.MoveLeaderRequest, data).targetID
        if target not in [member.member_id for member in self._node.cluster.members()]:
            raise BadLeaderTransferee
        self._tasks.run(call, lambda: self._move_leader(target))

    async def _move_leader(self, target: int) -> bytes:
        await self._node.cluster.move_leader(target)
        return b""

    def downgrade(self, data: bytes, call: Call) -> None:
        """There is no older release to go back to; cancelling what is not under way succeeds, as in etcd."""
        request = decode.parse(rpc.DowngradeRequest, data)
        if request.action not in rpc.DowngradeRequest.DowngradeAction.values():
            raise UnknownMethod
        if request.action == rpc.DowngradeRequest.CANCEL:
            body = rpc.DowngradeResponse(version=_MINOR)
            call.reply(self._header(self._store.revision) + body.SerializeToString())
        elif _SEMVER.fullmatch(request.version):
            raise InvalidDowngradeTargetVersion
        else:
            raise WrongDowngradeVersionFormat

    def alarm(self, data: bytes, call: Call) -> None:
        """List, raise or disarm, for any member id, as in etcd; disarming what is not raised changes nothing."""
        request = decode.parse(rpc.AlarmRequest, data)
        if request.action == rpc.AlarmRequest.GET:
            call.reply(self._alarms_response(self._raised(request.alarm)))
            return
        name = _ALARMS.get(request.alarm)
        raised = request.action == rpc.AlarmRequest.ACTIVATE
        alarm = Alarm(name or "", request.memberID)
        if name is None or not (raised or alarm in self._store.raised_alarms()):
            call.reply(self._alarms_response(()))
            return

        def done(error: BrainError | None) -> None:
            if error is not None:
                fail(call, error)
            else:
                call.reply(self._alarms_response((alarm,)))

        self._store.set_alarm(name, raised, done, request.memberID)

    def _raised(self, wanted: int) -> Iterable[Alarm]:
        raised = self._store.raised_alarms()
        return raised if wanted == rpc.NONE else [alarm for alarm in raised if alarm.name == _ALARMS.get(wanted)]

    def _alarms_response(self, alarms: Iterable[Alarm]) -> bytes:
        members = [rpc.AlarmMember(memberID=each.member_id, alarm=rpc.AlarmType.Value(each.name)) for each in alarms]
        return self._header(self._store.revision) + rpc.AlarmResponse(alarms=members).SerializeToString()

    def defragment(self, data: bytes, call: Call) -> None:
        """The answer has no header, as etcd's has none."""
        decode.parse(rpc.DefragmentRequest, data)
        self._tasks.run(call, self._defragment)

    async def _defragment(self) -> bytes:
        _log.info("defragmenting")
        await self._store.defragment()
        _log.info("defragmented", size=self._store.engine.size(), in_use=self._store.engine.size_in_use())
        return b""

    def hash(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.HashRequest, data)
        self._tasks.run(call, self._hash)

    async def _hash(self) -> bytes:
        revision = self._store.revision
        return self._header(revision) + number(0x10, await self._read_all(hash_all))

    def hash_kv(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.HashKVRequest, data)
        self._tasks.run(call, lambda: self._hash_kv(request.revision))

    async def _hash_kv(self, revision: int) -> bytes:
        found = await self._read_all(lambda snapshot: hash_kv(snapshot, revision))
        compacted = found.compact_revision or -1  # etcd's way of saying never
        body = number(0x10, found.hash) + number(0x18, compacted) + number(0x20, found.revision)
        return self._header(self._store.revision) + body

    async def _read_all(self, read: Callable[[Snapshot], T]) -> T:
        """`read` over the present state, in a worker thread."""
        snapshot = self._store.engine.snapshot()
        try:
            return await asyncio.to_thread(read, snapshot)
        finally:
            snapshot.close()

    def snapshot(self, data: bytes, call: Call) -> None:
        decode.parse_message(rpc.SnapshotRequest, data)
        stream = SnapshotStream(self._store.engine.backup, self._node.spool, CLUSTER_VERSION, call)
        self._tasks.run(call, stream.run)


def _member_field(member_id: int) -> str:
    """As Go's text form of a message has it: a zero is left out."""
    return f"memberID:{member_id} " if member_id else ""
