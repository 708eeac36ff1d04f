"""Who asks: the identity a request carries inside the gateway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

ANONYMOUS_NAME: Final = "system:anonymous"
UNAUTHENTICATED: Final = "system:unauthenticated"
AUTHENTICATED: Final = "system:authenticated"
SERVICE_ACCOUNT: Final = "system:serviceaccount:"

_LABEL: Final = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_ACCOUNT: Final = re.compile(rf"({_LABEL}):({_LABEL}(?:\.{_LABEL})*)")
_NAMESPACE_MAX, _NAME_MAX = 63, 253


@dataclass(frozen=True, slots=True)
class User:
    """A Kubernetes user. `known` is False while only the upstream can tell who a token belongs to (pass-through)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # keys in lower case
    known: bool = True

    @property
    def service_account(self) -> tuple[str, str] | None:
        """(namespace, name) of a service account, else None: a name that no service account can have is a user's."""
        if not self.name.startswith(SERVICE_ACCOUNT):
            return None
        found = _ACCOUNT.fullmatch(self.name, len(SERVICE_ACCOUNT))
        if found is None or len(found[1]) > _NAMESPACE_MAX or len(found[2]) > _NAME_MAX:
            return None
        return found[1], found[2]


ANONYMOUS: Final = User(ANONYMOUS_NAME, (UNAUTHENTICATED,))
UNKNOWN: Final = User("", (), known=False)  # a token passes through unread: its owner is the upstream's to tell


def with_usual_group(user: User) -> User:
    """The user with the group that everybody has who was authenticated, as kube-apiserver adds it."""
    if user.name == ANONYMOUS_NAME or AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, AUTHENTICATED))
