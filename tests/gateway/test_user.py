"""Which names are service accounts'."""

from __future__ import annotations

import pytest
from wharf.gateway.user import User


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("system:serviceaccount:kube-system:default", ("kube-system", "default")),
        ("system:serviceaccount:ns:a.b-c", ("ns", "a.b-c")),
        ("system:serviceaccount:ns:a:b", None),
        ("system:serviceaccount:ns:", None),
        ("system:serviceaccount::a", None),
        ("system:serviceaccount:n.s:a", None),
        ("system:serviceaccount:NS:a", None),
        ("system:serviceaccount:ns:a\n", None),
        (f"system:serviceaccount:{'n' * 64}:a", None),
        (f"system:serviceaccount:ns:{'n' * 254}", None),
        ("system:serviceaccount:ns", None),
        ("jane", None),
    ],
)
def test_service_accounts_are_told_by_names_they_can_have(name: str, account: tuple[str, str] | None) -> None:
    assert User(name).service_account == account
