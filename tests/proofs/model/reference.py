"""What etcd v3 answers, written down as plainly as possible: the reference that real servers are compared with.

It owns the rules of keys, transactions, compaction and leases. Nothing here is fast or clever: every revision keeps a
full copy of the key space, so a read at an old revision is a look into an old dictionary. It speaks the protocol's own
messages (response headers carry only `revision`) and shares no code with the server.

Invariant: `states[r]` is the key space after revision r for every r in [max(compacted, 1), revision]; `events[r]` what
r changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from proofs.model import txn_rules
from proofs.model.ranges import in_range
from proofs.model.refusals import COMPACTED, FUTURE, LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, Refused
from proofs.model.versions import NEWEST, Rules
from proofs.model.watching import Stream
from wharf.common.pb.etcd import kv_pb2, rpc_pb2

MAX_LEASE_TTL = 9_000_000_000
MIN_LEASE_TTL = 2  # etcd rounds 1.5 election timeouts up to whole seconds
NEVER_COMPACTED = -1

Keys = dict[bytes, kv_pb2.KeyValue]


def header(revision: int) -> rpc_pb2.ResponseHeader:
    return rpc_pb2.ResponseHeader(revision=revision)


class Draft:
    """A transaction under way: its own view of the keys and the events so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.keys: Keys = dict(model.states[model.revision])
        self.events: list[kv_pb2.Event] = []

    @property
    def next_revision(self) -> int:
        return self.model.revision + 1

    @property
    def revision(self) -> int:
        """What a header inside the transaction says: moves with its first change."""
        return self.next_revision if self.events else self.model.revision

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        keys = self.keys if request.revision <= 0 else self.model.states[request.revision]
        found = [keys[key] for key in sorted(keys) if in_range(key, request.key, request.range_end)]
        answer = rpc_pb2.RangeResponse(header=header(self.revision), count=len(found))
        if request.count_only:
            return answer
        found = sort(filtered(found, request), request)
        if 0 < request.limit < len(found):
            found = found[: request.limit]
            answer.more = True
        for kv in found:
            answer.kvs.add().CopyFrom(kv)
            if request.keys_only:
                answer.kvs[-1].ClearField("value")
        return answer

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        before = self.keys.get(request.key)
        after = kv_pb2.KeyValue(
            key=request.key,
            value=before.value if request.ignore_value and before else request.value,
            lease=before.lease if request.ignore_lease and before else request.lease,
            create_revision=before.create_revision if before else self.next_revision,
            mod_revision=self.next_revision,
            version=before.version + 1 if before else 1,
        )
        self.keys[request.key] = after
        self.events.append(kv_pb2.Event(type=kv_pb2.Event.PUT, kv=after))
        return rpc_pb2.PutResponse(header=header(self.next_revision), prev_kv=before if request.prev_kv else None)

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        gone = [key for key in sorted(self.keys) if in_range(key, request.key, request.range_end)]
        before = [self.keys.pop(key) for key in gone]
        for key in gone:
            tombstone = kv_pb2.KeyValue(key=key, mod_revision=self.next_revision)
            self.events.append(kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=tombstone))
        return rpc_pb2.DeleteRangeResponse(
            header=header(self.revision), deleted=len(gone), prev_kvs=before if request.prev_kv else None
        )


def filtered(found: Iterable[kv_pb2.KeyValue], request: rpc_pb2.RangeRequest) -> list[kv_pb2.KeyValue]:
    def wanted(kv: kv_pb2.KeyValue) -> bool:
        return (
            (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
            and (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
            and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
            and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
        )

    return [kv for kv in found if wanted(kv)]


def sort(found: list[kv_pb2.KeyValue], request: rpc_pb2.RangeRequest) -> list[kv_pb2.KeyValue]:
    """Unsorted is key order; a target other than the key sorts ascending even when no order is given. Ties keep key
    order.
    """
    field = {0: "key", 1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}[request.sort_target]
    descending = request.sort_order == rpc_pb2.RangeRequest.DESCEND
    return sorted(found, key=lambda kv: getattr(kv, field), reverse=descending)


class Model:
    """One server. Requests in the protocol's messages in, the same server's answer out, or `Refused`."""

    def __init__(self, compacted: int = NEVER_COMPACTED, rules: Rules = NEWEST) -> None:
        self.rules = rules
        self.revision = 1
        self.compacted = compacted
        self.states: dict[int, Keys] = {1: {}}
        self.events: dict[int, list[kv_pb2.Event]] = {1: []}
        self.leases: dict[int, int] = {}  # id → granted TTL, seconds
        self.streams: list[Stream] = []

    @classmethod
    def compacted_at_start(cls, deleted: Iterable[bytes], rules: Rules) -> Model:
        """An empty store, compacted at the revision that deleted the last keys."""
        model = cls(compacted=1, rules=rules)
        if rules.keeps_deletes_at_compact_revision:
            tombstones = (kv_pb2.KeyValue(key=key, mod_revision=1) for key in deleted)
            model.events[1] = [kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=tombstone) for tombstone in tombstones]
        return model

    def open_stream(self) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def commit(self, draft: Draft) -> None:
        if not draft.events:
            return
        self.revision = draft.next_revision
        self.states[self.revision] = draft.keys
        self.events[self.revision] = draft.events
        for stream in self.streams:
            stream.published(self.revision)

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        txn_rules.check_range(request)
        if request.revision > self.revision:
            raise Refused(*FUTURE)
        if 0 < request.revision < self.compacted:
            raise Refused(*COMPACTED)
        return Draft(self).range(request)

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        txn_rules.check_put(request)
        if request.lease and request.lease not in self.leases:
            raise Refused(*LEASE_NOT_FOUND)
        txn_rules.check_put_here(request, self.states[self.revision], self.leases)
        draft = Draft(self)
        answer = draft.put(request)
        self.commit(draft)
        return answer

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        txn_rules.check_delete(request)
        draft = Draft(self)
        answer = draft.delete_range(request)
        self.commit(draft)
        return answer

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        txn_rules.check_txn(request)
        txn_rules.check_overlaps(request.success)
        txn_rules.check_overlaps(request.failure)
        draft = Draft(self)
        branches = txn_rules.branches(request, draft.keys)
        txn_rules.check_txn_here(branches, self)
        answer = txn_rules.execute(branches, draft)
        self.commit(draft)
        answer.header.revision = self.revision
        return answer

    def compact(self, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        if request.revision <= self.compacted:
            raise Refused(*COMPACTED)
        if request.revision > self.revision:
            raise Refused(*FUTURE)
        self.compacted = request.revision
        for old in [revision for revision in self.states if revision < self.compacted]:
            del self.states[old]
            del self.events[old]
        if self.compacted in self.events and not self.rules.keeps_deletes_at_compact_revision:
            kept = [event for event in self.events[self.compacted] if event.type != kv_pb2.Event.DELETE]
            self.events[self.compacted] = kept
        return rpc_pb2.CompactionResponse(header=header(self.revision))

    def lease_grant(self, request: rpc_pb2.LeaseGrantRequest, chosen: int) -> rpc_pb2.LeaseGrantResponse:
        """`chosen`: the id the server picked when the request left it open; the one thing a model cannot know."""
        lease = request.ID or chosen
        if request.TTL > MAX_LEASE_TTL:
            raise Refused(*LEASE_TTL_TOO_LARGE)
        if lease in self.leases:
            raise Refused(*LEASE_EXISTS)
        self.leases[lease] = max(request.TTL, MIN_LEASE_TTL)
        return rpc_pb2.LeaseGrantResponse(header=header(self.revision), ID=lease, TTL=self.leases[lease])

    def lease_revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> rpc_pb2.LeaseRevokeResponse:
        if request.ID not in self.leases:
            raise Refused(*LEASE_NOT_FOUND)
        draft = Draft(self)
        for key in self.attached(request.ID):
            draft.delete_range(rpc_pb2.DeleteRangeRequest(key=key))
        del self.leases[request.ID]
        self.commit(draft)
        return rpc_pb2.LeaseRevokeResponse(header=header(self.revision))

    def attached(self, lease: int) -> list[bytes]:
        keys = self.states[self.revision]
        return [key for key in sorted(keys) if keys[key].lease == lease]

    def lease_keep_alive(self, request: rpc_pb2.LeaseKeepAliveRequest) -> rpc_pb2.LeaseKeepAliveResponse:
        return rpc_pb2.LeaseKeepAliveResponse(
            header=header(self.revision), ID=request.ID, TTL=self.leases.get(request.ID, 0)
        )

    def lease_time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> rpc_pb2.LeaseTimeToLiveResponse:
        """TTL is what was granted: the time that has passed is the comparison's business."""
        answer = rpc_pb2.LeaseTimeToLiveResponse(header=header(self.revision), ID=request.ID, TTL=-1)
        if request.ID in self.leases:
            answer.TTL = answer.grantedTTL = self.leases[request.ID]
            answer.keys.extend(self.attached(request.ID) if request.keys else ())
        return answer

    def lease_leases(self, request: rpc_pb2.LeaseLeasesRequest) -> rpc_pb2.LeaseLeasesResponse:
        del request
        leases = [rpc_pb2.LeaseStatus(ID=lease) for lease in sorted(self.leases)]
        return rpc_pb2.LeaseLeasesResponse(header=header(self.revision), leases=leases)
