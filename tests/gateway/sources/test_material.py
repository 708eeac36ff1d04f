"""Materials are found, checked once, and named when something is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from gateway.api.documents import PAIR, document, spec
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.api.shapes import Material, UpstreamCluster
from wharf.gateway.sources.base import Assembly, Entry, Reason
from wharf.gateway.sources.material import Unresolved, files_of, find_in, resolve, secrets_of
from wire.pki import Authority

SECRET = {"secretRef": {"namespace": "wharf", "name": "ca"}}
Entries = dict[str, bytes]


def cluster(name: str = "blue", **parts: Any) -> UpstreamCluster:
    return parse_cluster(document(spec(**parts), name), files=True)


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    ca = Authority(tmp_path)
    mine, other = ca.issue("mine"), ca.issue("other")
    paths = {"tls.crt": mine.cert, "tls.key": mine.key, "other.key": other.key, "ca.crt": ca.ca_file}
    return {name: Path(path).read_bytes() for name, path in paths.items()}


def test_what_a_cluster_refers_to() -> None:
    one = cluster(serving={**PAIR, "clientCA": {"file": "x"}}, upstream={**PAIR, "ca": SECRET})
    assert secrets_of(one) == {("wharf", "tls"), ("wharf", "ca")}
    assert files_of(one) == {"x"}


def test_a_pair_must_match_wherever_it_comes_from(entries: Entries) -> None:
    one = cluster(serving=PAIR)
    found = resolve(one, lambda material: entries[material.secret_key])
    assert found.serving.key is not None
    assert found.serving.key.pem == entries["tls.key"]
    with pytest.raises(Unresolved, match="key: Secret wharf/tls is not the key of the certificate"):
        resolve(one, lambda material: entries[material.secret_key.replace("tls.key", "other.key")])
    with pytest.raises(Unresolved, match="the key of the certificate"):
        resolve(one, lambda material: entries[material.secret_key.replace("tls.key", "other.key")], found)


def test_every_problem_is_told_and_no_secret_is(entries: Entries) -> None:
    one = cluster(serving={**PAIR, "clientCA": SECRET}, upstream={"identity": "Impersonation", "token": SECRET})

    def lookup(material: Material) -> bytes:
        return find_in({("wharf", "tls"): {"tls.crt": b"hunter2", "tls.key": entries["tls.key"]}}, material)

    with pytest.raises(Unresolved) as caught:
        resolve(one, lookup)
    assert [str(problem) for problem in caught.value.problems] == [
        "spec.serving.certificate: Secret wharf/tls is not a PEM certificate",
        "spec.serving.clientCA: Secret wharf/ca does not exist",
        "spec.upstream.token: Secret wharf/ca does not exist",
    ]


def test_a_key_with_a_password_is_refused(entries: Entries) -> None:
    key = load_pem_private_key(entries["tls.key"], None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(Unresolved, match="this one has a password"):
        resolve(cluster(serving=PAIR), lambda material: {**entries, "tls.key": locked}[material.secret_key])


def test_what_did_not_change_is_not_checked_again() -> None:
    one = cluster(upstream={"ca": SECRET})
    ca = one.upstream.ca
    assert ca is not None
    before = replace(one, upstream=replace(one.upstream, ca=replace(ca, pem=b"taken before")))
    assert resolve(one, lambda _: b"taken before", before) == before
    with pytest.raises(Unresolved, match="Secret wharf/ca is not a PEM certificate"):
        resolve(one, lambda _: b"changed since", before)


def nothing(_: Material) -> bytes:
    raise KeyError("nothing is there")


def test_a_conflict_beside_another_problem_is_told_with_it() -> None:
    assembly = Assembly()
    young, old = cluster("blue", hostnames=["x"]), cluster("azure", hostnames=["x"])
    young, old = replace(young, created="2026-02-01"), replace(old, created="2026-01-01")

    first = assembly.put_together([Entry("blue", young)], nothing, {})
    assert [one.name for one in first.clusters] == ["blue"]
    entries = [Entry("blue", None, ("spec: is wrong",)), Entry("azure", old)]
    second = assembly.put_together(entries, nothing, {})
    assert [one.name for one in second.clusters] == ["azure"]
    [refused] = second.refused
    assert (refused.reason, refused.kept) == (Reason.INVALID, False)
    assert refused.problems == ("spec: is wrong", "x belongs to UpstreamCluster azure")


def test_a_broken_document_keeps_its_running_cluster_s_claims_against_a_newcomer() -> None:
    assembly = Assembly()
    assembly.put_together([Entry("blue", cluster("blue", hostnames=["x"]))], nothing, {})
    entries = [Entry("blue", None, ("spec: is wrong",)), Entry("azure", cluster("azure", hostnames=["x"]))]
    found = assembly.put_together(entries, nothing, {})
    assert [one.name for one in found.clusters] == ["blue"]
    assert [(one.name, one.reason, one.kept) for one in found.refused] == [
        ("azure", Reason.CONFLICT, False),
        ("blue", Reason.INVALID, True),
    ]


def test_a_new_object_of_a_running_cluster_s_name_holds_nothing_of_it() -> None:
    assembly = Assembly()
    assembly.put_together([Entry("blue", cluster("blue", hostnames=["x"]), uid="1")], nothing, {})
    again = replace(cluster("blue", hostnames=["x"]), uid="2")
    found = assembly.put_together(
        [Entry("blue", again), Entry("azure", cluster("azure", hostnames=["x"]))], nothing, {}
    )
    assert [one.name for one in found.clusters] == ["azure"]
