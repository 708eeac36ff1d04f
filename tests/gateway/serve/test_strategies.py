"""What a balancing strategy that somebody installs is given."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from gateway.serve.kit import run, stack
from wharf.gateway.api import parse
from wharf.gateway.balance import registry
from wharf.gateway.balance.base import Candidate

ACCOUNT = b"system:serviceaccount:ci:builder"
PODS = b"/api/v1/namespaces/a/pods/b"


class Recording:
    """Takes the first server and remembers the keys."""

    keys: list[str]

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        self.keys.append(key)
        return 0


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(Recording, "keys", found, raising=False)
    installed = MappingProxyType({**registry.load_strategies(), "Recording": Recording})
    monkeypatch.setattr(registry, "load_strategies", lambda: installed)
    monkeypatch.setattr(parse, "known_strategies", lambda: frozenset(installed))
    return found


@pytest.mark.parametrize(
    ("hash_key", "expected"),
    [({}, "alice"), ({"hashKey": "User"}, "alice"), ({"hashKey": "Namespace"}, "a"), ({"hashKey": "None"}, "")],
)
def test_a_plugin_gets_the_key_that_its_policy_names(hash_key: dict[str, Any], expected: str, keys: list[str]) -> None:
    async def main() -> None:
        policy = {"name": "all", "balance": {"strategy": "Recording"} | hash_key}
        async with stack(2, policies=[policy]) as made:
            assert (await made.ask(made.client(made.pki.alice), PODS)).status == 200
            assert keys == [expected]
            assert (await made.ask(made.client(made.pki.alice), b"/version")).status == 200
            assert keys[1:] == ["" if expected == "a" else expected]

    run(main())


def test_the_service_account_as_a_key_leaves_other_users_without_one(keys: list[str]) -> None:
    async def main() -> None:
        policy = {"name": "all", "balance": {"strategy": "Recording", "hashKey": "ServiceAccount"}}
        async with stack(2, policies=[policy]) as made:
            account = made.pki.authority.issue(ACCOUNT.decode())
            for who in (made.pki.alice, account):
                assert (await made.ask(made.client(who), PODS)).status == 200
            assert keys == ["", ACCOUNT.decode()]

    run(main())


def test_the_key_of_a_token_that_passes_through_is_not_the_token(keys: list[str]) -> None:
    async def main() -> None:
        policy = {"name": "all", "balance": {"strategy": "Recording"}}
        async with stack(2, policies=[policy]) as made:
            client = made.client()
            for token in (b"Bearer secret", b"bearer secret", b"Bearer other"):
                await made.ask(client, PODS, headers=[(b"authorization", token)])
            assert keys[0] == keys[1] != keys[2]
            assert not any("secret" in key for key in keys)

    run(main())
