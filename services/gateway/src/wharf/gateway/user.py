"""Who asks: the identity a request carries inside the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ANONYMOUS_NAME: Final = "system:anonymous"
UNAUTHENTICATED: Final = "system:unauthenticated"
AUTHENTICATED: Final = "system:authenticated"
SERVICE_ACCOUNT: Final = "system:serviceaccount:"


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
        """(namespace, name) of a service account, else None."""
        if not self.name.startswith(SERVICE_ACCOUNT):
            return None
        namespace, colon, name = self.name[len(SERVICE_ACCOUNT) :].partition(":")
        return (namespace, name) if colon and namespace and name else None


ANONYMOUS: Final = User(ANONYMOUS_NAME, (UNAUTHENTICATED,))
UNKNOWN: Final = User("", (), known=False)  # a token passes through unread: its owner is the upstream's to tell
