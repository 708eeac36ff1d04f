"""A version of a cluster that cannot be used changes nothing, wherever making it fails; the next one is taken."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until
from wharf.gateway.api import parse
from wharf.gateway.balance import registry
from wharf.gateway.balance.strategies import RoundRobin
from wharf.gateway.cluster import equipment, runtime
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.tls import TlsError

SLOW = {"schemas": [{"name": "one", "qps": 0.001, "burst": 1}]}


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("broken")


def broken_plugin(patch: pytest.MonkeyPatch) -> None:
    installed = MappingProxyType({**registry.load_strategies(), "Broken": fail})
    patch.setattr(registry, "load_strategies", lambda: installed)


def broken_slices(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runtime, "servers_from_slices", fail)


def broken_rules(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runtime, "Router", fail)


def broken_authenticator(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runtime, "Authenticator", fail)


def broken_credentials(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(equipment, "Credentials", fail)


def broken_certificate(patch: pytest.MonkeyPatch) -> None:
    def check(self: DynamicTls, identity: Identity) -> None:
        raise TlsError("broken")

    patch.setattr(DynamicTls, "check", check)


FAULTS = [
    broken_plugin,
    broken_slices,
    broken_rules,
    broken_authenticator,
    broken_credentials,
    broken_certificate,
]


def changed(made: Stack, seconds: int) -> dict[str, Any]:
    """A version that differs in every part of what is compiled."""
    upstream = made.document()["spec"]["upstream"]
    return made.document(
        servers=[{"url": made.servers[1].url}],
        discovery={"service": {"namespace": "a", "name": "b"}},
        upstream=upstream | {"identity": "Impersonation"},
        authentication={"anonymous": False},
        policies=[{"name": "all", "flowControl": ["one"], "balance": {"strategy": "Broken"}}],
        flowControl=SLOW,
        features={"hideServer": True},
        timeouts={"connect": seconds},
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_version_that_fails_changes_nothing(fault: Callable[[pytest.MonkeyPatch], None]) -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            installed = MappingProxyType({**registry.load_strategies(), "Broken": RoundRobin})
            patch.setattr(registry, "load_strategies", lambda: installed)
            patch.setattr(parse, "known_strategies", lambda: frozenset(installed))
            async with stack(2) as made:
                await made.apply(made.document(servers=[{"url": made.servers[0].url}]))
                cluster = made.gateway.registry.runtimes["prod"]
                before = {name: value for name, value in vars(cluster).items() if name != "bytes_out"}
                parts = cluster.members.endpoints, cluster.limiter.counts(), cluster.members.endpoints[0].pools
                with pytest.MonkeyPatch.context() as broken:
                    fault(broken)
                    await made.apply(changed(made, 3))
                    assert made.gateway.registry.broken.keys() == {"prod"}
                assert {name: value for name, value in vars(cluster).items() if name != "bytes_out"} == before
                assert parts == (
                    cluster.members.endpoints,
                    cluster.limiter.counts(),
                    cluster.members.endpoints[0].pools,
                )
                for who in (made.pki.alice, None, made.pki.alice):
                    response = await made.ask(made.client(who))
                    assert (response.status, response.header(b"x-wharf-server")) == (200, made.servers[0].name.encode())
                made.servers[1].behave = answer
                await made.apply(changed(made, 4))
                await until(lambda: not made.gateway.registry.broken)
                await until(lambda: cluster.members.endpoints[0].name == made.servers[1].name)
                assert cluster.router is not before["router"]

    run(main())


def test_a_new_cluster_that_fails_leaves_nothing_behind() -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            async with stack() as made:
                patch.setattr(runtime, "Router", fail)
                made.write(made.document("other", hostnames=["other.example.org"]))
                await until(lambda: "other" in made.gateway.registry.broken)
                assert made.gateway.registry.runtimes.keys() == {"prod"}
                assert (await made.ask(made.client(), host=b"other.example.org")).status == 404

    run(main())
