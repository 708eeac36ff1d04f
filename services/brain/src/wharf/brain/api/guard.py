"""Who may call what: directly in front of each handler, while authentication is enabled.

The caller is whom a valid token names, else (with client certificates required) the certificate's common name. What a
call needs is read from its request after the checks that etcd makes before it asks, in the same order. The rules are
those of etcd 3.7, also where earlier releases asked for less: nested transactions, compaction, leases, member lists.

A permission is checked where the request is answered, with the users and roles of that moment: a write on the node that
leads, a linearizable read after its read index, as in etcd. The node that a client calls authenticates it (`identify`);
a forwarded request carries that user. While authentication is off a call costs one look at a field. Health and
reflection, which need no caller, are added behind this.

Invariant: a method without a rule is not served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from wharf.brain.api import decode
from wharf.brain.api.answered import AnsweredCall, Caller
from wharf.brain.api.lease import RENEW
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import fail, guard
from wharf.brain.auth import tokens
from wharf.brain.auth.book import AuthBook
from wharf.brain.auth.rules import Rules
from wharf.brain.auth.shapes import Access
from wharf.brain.auth.token_use import TokenUses
from wharf.brain.errors import BrainError, InvalidAuthToken, MalformedMessage
from wharf.brain.store.shapes import Op
from wharf.brain.watch import responses
from wharf.wire.rpc import Call, Code, Kind, Method, StreamHandler, UnaryHandler

READ, WRITE = Access.READ, Access.WRITE
_TOKEN, _AUTHORIZATION, _BEARER = b"token", b"authorization", b"Bearer "
_WATCH = "/etcdserverpb.Watch/Watch"
_CLIENTS = ("/v3lockpb.Lock/", "/v3electionpb.Election/")
"""Services that are clients of the API: each of their own requests is checked."""
_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
"""The method that needs no permission."""

Check = Callable[[Rules, Call, bytes], None]
"""Raises what refuses a request message."""


class Guard:
    def __init__(
        self,
        node: Node,
        book: AuthBook,
        uses: TokenUses,
        by_certificate: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`by_certificate`: client certificates are required, and a caller without a token is their common name.
        `now`: seconds of the wall clock.
        """
        self.book = book
        self._uses = uses
        self._store = node.store
        self._max_txn_ops = node.limits.max_txn_ops
        self._by_certificate = by_certificate
        self._now = now
        self._checks = self._table()

    def methods(self, methods: Sequence[Method]) -> list[Method]:
        """`methods` behind their permission checks; KeyError when one has none."""
        return [self._guarded(method) for method in methods]

    def _guarded(self, method: Method) -> Method:
        if method.path.startswith(_CLIENTS):
            return method
        return self._stream(method) if method.kind is Kind.STREAM else self._unary(method)

    def identify(self, call: Call) -> Caller:
        """The user of a call that goes to another node, which checks its permissions; InvalidAuthToken."""
        state = self.book.state
        return Caller(self._caller(call) if state.enabled else None, state.version)

    def _unary(self, method: Method) -> Method:
        if method.path == AUTHENTICATE:
            return method
        book, check, handler = self.book, self._checks[method.path], cast(UnaryHandler, method.handler)

        def guarded(data: bytes, call: Call) -> None:
            rules = book.rules
            if rules is not None:
                try:
                    check(rules, call, data)
                except Exception as error:  # whatever it is, the client gets an answer
                    fail(call, error)
                    return
            handler(data, call)

        return Method(method.path, method.kind, guarded)

    def _stream(self, method: Method) -> Method:
        """Each message is asked about when it comes: authentication may be enabled under an open stream."""
        handler = cast(StreamHandler, method.handler)
        if method.path == _KEEP_ALIVE:
            return method  # each renewal is checked as a request of its own, on the node that leads
        asks = self._asks_watch if method.path == _WATCH else self._asks_message(self._checks[method.path])

        def guarded(call: Call) -> None:
            handler(call)
            take = call.on_message
            if take is None:
                return

            def on_message(data: bytes) -> None:
                if asks(call, data):
                    take(data)

            call.on_message = guard(call, on_message)

        return Method(method.path, method.kind, guarded)

    def _asks_message(self, check: Check) -> Callable[[Call, bytes], bool]:
        def asks(call: Call, data: bytes) -> bool:
            if self.book.rules is not None:
                check(self.book.rules, call, data)
            return True

        return asks

    def _asks_watch(self, call: Call, data: bytes) -> bool:
        """A watch that is not permitted is answered as created and canceled; the stream and its others go on."""
        refusal = None if self.book.rules is None else self._watch_refusal(self.book.rules, call, data)
        if refusal is None:
            return True
        header = self._store.header.encode(self._store.revision)
        call.send(responses.refused(header, status_text(refusal)))
        if not call.writable and not call.done:
            call.pause_reading()
        return False

    def _watch_refusal(self, rules: Rules, call: Call, data: bytes) -> BrainError | None:
        try:
            request = decode.parse_message(rpc.WatchRequest, data)
        except MalformedMessage:
            return None  # the stream itself ends with this
        wanted = request.create_request
        if request.WhichOneof("request_union") != "create_request" or wanted.start_revision < 0:
            return None
        try:
            rules.require(self._caller(call), READ, wanted.key or b"\0", wanted.range_end)
        except BrainError as error:
            return error
        return None

    def _caller(self, call: Call) -> str | None:
        """The user of the call, None if it names none; InvalidAuthToken."""
        if isinstance(call, AnsweredCall) and call.caller is not None:
            return call.caller.user
        shown = _shown_token(call)
        if shown is not None:
            return self._user_of(shown)
        if self._by_certificate and call.peer.certificate is not None:
            return call.peer.certificate.common_name
        return None

    def _user_of(self, token: bytes) -> str:
        """The user of a token that counts, which this use extends."""
        state = self.book.state
        found = tokens.read(state.key, token)
        if found is None:
            raise InvalidAuthToken
        claims, token_id = found
        user = state.users.get(claims.user)
        if user is None or claims.revision < user.since or not self._uses.use(token_id, claims.issued, self._now()):
            raise InvalidAuthToken
        return user.name

    # Keys attached to leases, as the node that leads knows them

    def _keys_of(self, lease_id: int) -> Iterable[bytes]:
        return self._store.leases.time_to_live(lease_id).keys

    def _leased_keys(self) -> Iterable[bytes]:
        return tuple(key for lease in self._store.leases.table.all() for key in lease.keys)

    # Rules

    def _table(self) -> dict[str, Check]:
        kv, lease, auth = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Auth/"
        maintenance, cluster = "/etcdserverpb.Maintenance/", "/etcdserverpb.Cluster/"
        anybody, somebody, root = self._anybody, self._somebody, self._root
        return {
            kv + "Range": self._op(lambda data: decode.range_op(decode.parse(rpc.RangeRequest, data))),
            kv + "RangeStream": self._op(lambda data: decode.range_op(decode.parse_message(rpc.RangeRequest, data))),
            kv + "Put": self._op(lambda data: decode.put_op(decode.parse(rpc.PutRequest, data))),
            kv + "DeleteRange": self._op(lambda data: decode.delete_op(decode.parse(rpc.DeleteRangeRequest, data))),
            kv + "Txn": self._op(lambda data: decode.txn_op(decode.parse(rpc.TxnRequest, data), self._max_txn_ops)),
            kv + "Compact": root,
            lease + "LeaseGrant": somebody,
            lease + "LeaseRevoke": self._lease_revoke,
            RENEW: self._lease_keep_alive,
            lease + "LeaseTimeToLive": self._lease_time_to_live,
            lease + "LeaseLeases": self._lease_leases,
            maintenance + "Status": somebody,
            maintenance + "Alarm": self._alarm,
            **{maintenance + name: root for name in ("Defragment", "Hash", "HashKV", "Snapshot")},
            **{maintenance + name: root for name in ("MoveLeader", "Downgrade")},
            cluster + "MemberList": somebody,
            **{cluster + name: root for name in ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote")},
            auth + "AuthStatus": anybody,
            auth + "UserGet": self._user_get,
            auth + "RoleGet": self._role_get,
            **{auth + name: root for name in ("AuthEnable", "AuthDisable", "UserAdd", "UserList", "UserDelete")},
            **{auth + name: root for name in ("UserChangePassword", "UserGrantRole", "UserRevokeRole", "RoleAdd")},
            **{auth + name: root for name in ("RoleList", "RoleDelete")},
            **{auth + name: root for name in ("RoleGrantPermission", "RoleRevokePermission")},
        }

    def _anybody(self, rules: Rules, call: Call, data: bytes) -> None:
        """A token need not be there, but if it is, it must be valid."""
        self._caller(call)

    def _somebody(self, rules: Rules, call: Call, data: bytes) -> None:
        rules.require_somebody(self._caller(call))

    def _root(self, rules: Rules, call: Call, data: bytes) -> None:
        rules.require_root(self._caller(call))

    def _op(self, parse: Callable[[bytes], Op]) -> Check:
        def check(rules: Rules, call: Call, data: bytes) -> None:
            op = parse(data)
            rules.require_op(self._caller(call), op, self._keys_of)

        return check

    def _lease_revoke(self, rules: Rules, call: Call, data: bytes) -> None:
        request = decode.parse(rpc.LeaseRevokeRequest, data)
        self._require_leased(rules, self._caller(call), WRITE, request.ID)

    def _lease_keep_alive(self, rules: Rules, call: Call, data: bytes) -> None:
        request = decode.parse_message(rpc.LeaseKeepAliveRequest, data)
        self._require_leased(rules, self._caller(call), WRITE, request.ID)

    def _lease_time_to_live(self, rules: Rules, call: Call, data: bytes) -> None:
        request = decode.parse(rpc.LeaseTimeToLiveRequest, data)
        who = self._caller(call)
        if request.keys:
            self._require_leased(rules, who, READ, request.ID)
        else:
            rules.require_somebody(who)

    def _require_leased(self, rules: Rules, who: str | None, access: Access, lease_id: int) -> None:
        rules.require_somebody(who)
        rules.require_keys(who, access, lambda: self._keys_of(lease_id))

    def _lease_leases(self, rules: Rules, call: Call, data: bytes) -> None:
        who = self._caller(call)
        rules.require_somebody(who)
        rules.require_keys(who, READ, self._leased_keys)

    def _alarm(self, rules: Rules, call: Call, data: bytes) -> None:
        request = decode.parse(rpc.AlarmRequest, data)
        who = self._caller(call)
        if request.action == rpc.AlarmRequest.GET:
            rules.require_somebody(who)
        else:
            rules.require_root(who)

    def _user_get(self, rules: Rules, call: Call, data: bytes) -> None:
        """Everybody may look at themselves."""
        name = decode.parse(rpc.AuthUserGetRequest, data).name
        who = self._caller(call)
        if (who or "") != name:
            rules.require_root(who)

    def _role_get(self, rules: Rules, call: Call, data: bytes) -> None:
        """Everybody may look at the roles they have."""
        role = decode.parse(rpc.AuthRoleGetRequest, data).role
        who = self._caller(call)
        if not rules.has_role(who, role):
            rules.require_root(who)


def status_text(error: BrainError) -> str:
    """`error` as etcd writes it where only text can go."""
    return f"rpc error: code = {Code(error.code).name.title().replace('_', '')} desc = {error.text}"


def _shown_token(call: Call) -> bytes | None:
    """The token in a call's metadata, wherever etcd's clients put it."""
    found: dict[bytes, bytes] = {}
    for name, value in call.metadata:
        if name in (_TOKEN, _AUTHORIZATION):
            found.setdefault(name, value)
    shown = found.get(_TOKEN, found.get(_AUTHORIZATION))
    return None if shown is None else shown.removeprefix(_BEARER)
