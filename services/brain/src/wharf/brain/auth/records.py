"""Users, roles and the switch as records of the store's META table. Pure.

One JSON object per user and role, so that a change writes what it changed and other nodes get it with the batch it
came in. A name that is too long for an engine's key is stored under its hash.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, TypeVar

from wharf.brain.auth.shapes import Access, Permission, Role, User
from wharf.brain.auth.state import AuthState

PREFIX: Final = b"auth/"
SWITCH: Final = PREFIX + b"switch"
KEY: Final = PREFIX + b"key"
_USER, _ROLE = PREFIX + b"user", PREFIX + b"role"
_PLAIN_NAME: Final = 256  # bytes; LMDB's keys end at 511

Write = tuple[bytes, bytes | None]
"""A record's key and what it holds; None: it goes."""

T = TypeVar("T", User, Role)


def load(stored: Mapping[bytes, bytes]) -> AuthState:
    """The state that `stored` describes, all records under `PREFIX`; ValueError when they are no such records."""
    users: dict[str, User] = {}
    roles: dict[str, Role] = {}
    for key, value in stored.items():
        try:
            if key.startswith(_USER):
                user = parse_user(value)
                users[user.name] = user
            elif key.startswith(_ROLE):
                role = parse_role(value)
                roles[role.name] = role
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the record {key!r} is damaged: {error!r}") from error
    enabled, revision = _parse_switch(stored[SWITCH]) if SWITCH in stored else (False, AuthState().revision)
    return AuthState(enabled, revision, stored.get(KEY, b""), users, roles)


def changes(before: AuthState, after: AuthState) -> Iterator[Write]:
    """What to write for the step from one state to the next; nothing if they are the same."""
    if before is after:
        return
    yield from _differences(_USER, before.users, after.users, encode_user)
    yield from _differences(_ROLE, before.roles, after.roles, encode_role)
    if before.key != after.key:
        yield KEY, after.key
    yield SWITCH, _encode_switch(after)


def encode_user(user: User) -> bytes:
    return _dump({"name": user.name, "password": user.password, "roles": user.roles, "since": user.since})


def parse_user(stored: bytes) -> User:
    fields = json.loads(stored)
    password = fields["password"]
    return User(
        name=_text(fields["name"]),
        password=None if password is None else _text(password),
        roles=tuple(map(_text, fields["roles"])),
        since=int(fields["since"]),
    )


def encode_role(role: Role) -> bytes:
    permissions = [
        {"access": _access_name(each.access), "key": _armour(each.key), "range_end": _armour(each.range_end)}
        for each in role.permissions
    ]
    return _dump({"name": role.name, "permissions": permissions})


def parse_role(stored: bytes) -> Role:
    fields = json.loads(stored)
    return Role(_text(fields["name"]), tuple(map(_parse_permission, fields["permissions"])))


def _parse_permission(fields: Mapping[str, Any]) -> Permission:
    return Permission(_parse_access(fields["access"]), _bare(fields["key"]), _bare(fields["range_end"]))


def _access_name(access: Access | int) -> str | int:
    return access.name if isinstance(access, Access) else access


def _parse_access(stored: str | int) -> Access | int:
    return stored if isinstance(stored, int) else Access[stored]


def _encode_switch(state: AuthState) -> bytes:
    return _dump({"enabled": state.enabled, "revision": state.revision})


def _parse_switch(stored: bytes) -> tuple[bool, int]:
    try:
        fields = json.loads(stored)
        return bool(fields["enabled"]), int(fields["revision"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the record {SWITCH!r} is damaged: {error!r}") from error


def _differences(
    prefix: bytes, before: Mapping[str, T], after: Mapping[str, T], encode: Callable[[T], bytes]
) -> Iterator[Write]:
    for name in before.keys() - after.keys():
        yield _record_key(prefix, name), None
    for name, each in after.items():
        if before.get(name) != each:
            yield _record_key(prefix, name), encode(each)


def _record_key(prefix: bytes, name: str) -> bytes:
    raw = name.encode()
    return prefix + b"/" + raw if len(raw) <= _PLAIN_NAME else prefix + b"#" + sha256(raw).digest()


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _armour(data: bytes) -> str:
    return b64encode(data).decode()


def _bare(text: str) -> bytes:
    return b64decode(text, validate=True)
