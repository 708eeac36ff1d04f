"""A node with users, and clients that call it as one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from brain.api.fakes import Client
from brain.api.harness import AUTH, Server
from google.protobuf.message import Message
from wharf.brain.api.guard import Guard
from wharf.brain.api.pb import authpb, rpc
from wharf.wire.rpc import Method, Peer, PeerCertificate, UnaryHandler

PASSWORD = "pw"
START = 1_000_000.0  # seconds of the wall clock, before any token expires


@dataclass
class Users:
    """Who may do what on `server`. The clock stands still unless a test moves it."""

    server: Server
    by_certificate: bool = False
    now: float = START
    _guard: Guard = field(init=False)
    _methods: list[Method] = field(init=False)

    def __post_init__(self) -> None:
        api = self.server.api
        self._guard = Guard(self.server.node, api.auth, api.tokens.uses, self.by_certificate, lambda: self.now)
        self._methods = self._guard.methods(api.handlers)
        api.leases.renew_by = cast(UnaryHandler, self._guard.methods([api.leases.renewal()])[0].handler)

    def client(self, *metadata: tuple[bytes, bytes], common_name: str | None = None) -> Client:
        """A client who says no more than this of who it is."""
        certificate = None if common_name is None else PeerCertificate(common_name, (), (), b"")
        return Client(self._methods, metadata, Peer("127.0.0.1:1", certificate))

    async def enter(self, name: str, password: str = PASSWORD) -> Client:
        """A client with a token of `name`'s."""
        return self.client((b"token", (await self.token(name, password)).encode()))

    async def token(self, name: str, password: str = PASSWORD) -> str:
        request = rpc.AuthenticateRequest(name=name, password=password)
        return (await self.client().ask(AUTH + "Authenticate", request, rpc.AuthenticateResponse)).token

    async def do(self, method: str, request: Message) -> None:
        """A change by an operator, whom nobody asks."""
        call = self.server.client.start(AUTH + method, request)
        await call.ended.wait()
        assert (call.code, call.text) == (0, "")

    async def add(self, name: str, *permissions: authpb.Permission, password: str = PASSWORD) -> None:
        """A user with a role of the same name that has `permissions`."""
        await self.do("UserAdd", rpc.AuthUserAddRequest(name=name, password=password))
        await self.do("RoleAdd", rpc.AuthRoleAddRequest(name=name))
        await self.do("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=name))
        for permission in permissions:
            await self.do("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=name, perm=permission))

    async def enable(self) -> None:
        """Authentication is on, root's password is `PASSWORD`."""
        await self.add("root")
        await self.do("AuthEnable", rpc.AuthEnableRequest())


def read(key: bytes, range_end: bytes = b"") -> authpb.Permission:
    return authpb.Permission(permType=authpb.Permission.READ, key=key, range_end=range_end)


def write(key: bytes, range_end: bytes = b"") -> authpb.Permission:
    return authpb.Permission(permType=authpb.Permission.WRITE, key=key, range_end=range_end)


def both(key: bytes, range_end: bytes = b"") -> authpb.Permission:
    return authpb.Permission(permType=authpb.Permission.READWRITE, key=key, range_end=range_end)
