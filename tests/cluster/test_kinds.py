"""Every built-in kind is created, applied, patched, read and deleted, and none is forgotten: discovery is the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.api import Api
from harness.cluster import Cluster

MANIFESTS = Path(__file__).parent / "manifests"
NAMESPACE = "kinds"
# Kinds that are asked, not stored: POST only.
QUESTIONS: dict[str, dict[str, Any]] = {
    "authentication.k8s.io/v1/SelfSubjectReview": {},
    "authentication.k8s.io/v1/TokenReview": {"spec": {"token": "nonsense"}},
    "authorization.k8s.io/v1/SelfSubjectAccessReview": {"spec": {"resourceAttributes": {"verb": "get"}}},
    "authorization.k8s.io/v1/SelfSubjectRulesReview": {"spec": {"namespace": NAMESPACE}},
    "authorization.k8s.io/v1/SubjectAccessReview": {"spec": {"user": "a", "resourceAttributes": {"verb": "get"}}},
    "authorization.k8s.io/v1/LocalSubjectAccessReview": {
        "metadata": {"namespace": NAMESPACE},
        "spec": {"user": "a", "resourceAttributes": {"verb": "get", "namespace": NAMESPACE}},
    },
}
BINDING = "v1/Binding"
READ_ONLY = {"v1/ComponentStatus"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One served resource."""

    group_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.group_version}/{self.kind}"

    def path(self, name: str = "") -> str:
        root = "/api" if self.group_version == "v1" else "/apis"
        inside = f"/namespaces/{NAMESPACE}" if self.namespaced else ""
        return f"{root}/{self.group_version}{inside}/{self.plural}" + (f"/{name}" if name else "")


def served_kinds(api: Api) -> Iterator[Kind]:
    """All resources (no subresources) of all preferred versions."""
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in api.get("/apis")["groups"])]
    for version in versions:
        root = "/api" if version == "v1" else "/apis"
        for one in api.get(f"{root}/{version}")["resources"]:
            if "/" not in one["name"]:
                yield Kind(version, one["kind"], one["name"], one["namespaced"], frozenset(one["verbs"]))


def manifests() -> list[dict[str, Any]]:
    return [document for file in sorted(MANIFESTS.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]


def kind_of(document: dict[str, Any]) -> str:
    return f"{document['apiVersion']}/{document['kind']}"


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    client = cluster.api()
    yield client
    client.close()


@pytest.fixture(scope="module")
def kinds(api: Api) -> dict[str, Kind]:
    return {kind.name: kind for kind in served_kinds(api)}


@pytest.fixture(scope="module")
def kinds_namespace(cluster: Cluster) -> Iterator[str]:
    cluster.create_namespace(NAMESPACE)
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_no_kind_is_forgotten(kinds: dict[str, Kind]) -> None:
    covered = {kind_of(document) for document in manifests()} | set(QUESTIONS) | {BINDING} | READ_ONLY
    assert set(kinds) - covered == set(), "served by the apiserver, but in no manifest"
    assert covered - set(kinds) == set(), "in a manifest, but not served"
    assert {name for name, kind in kinds.items() if kind.verbs == {"create"}} == {*QUESTIONS, BINDING}


def test_every_kind_lives_a_whole_life(
    cluster: Cluster, api: Api, kinds: dict[str, Kind], kinds_namespace: str
) -> None:
    """kubectl create, apply, patch and delete of the whole set, each step checked object by object."""
    kubectl = cluster.kubectl
    here = ("-n", kinds_namespace)
    paths = [(kinds[kind_of(document)].path(document["metadata"]["name"]), document) for document in manifests()]

    kubectl(*here, "create", "-f", str(MANIFESTS), "--save-config")
    created = {path: api.get(path) for path, _ in paths}
    assert all(one["metadata"]["uid"] for one in created.values())

    annotated = [_with_annotation(document, "applied") for document in manifests()]
    kubectl(*here, "apply", "-f", "-", stdin=yaml.safe_dump_all(annotated))
    for path, _ in paths:
        applied = api.get(path)["metadata"]
        assert applied["annotations"]["wharf.test/step"] == "applied", path
        assert applied["uid"] == created[path]["metadata"]["uid"], path
        assert int(applied["resourceVersion"]) > int(created[path]["metadata"]["resourceVersion"]), path

    patch = '{"metadata":{"annotations":{"wharf.test/step":"patched"}}}'
    kubectl(*here, "patch", "--type=merge", "-p", patch, "-f", str(MANIFESTS))
    for path, document in paths:
        patched = api.get(path)
        assert patched["metadata"]["annotations"]["wharf.test/step"] == "patched", path
        assert patched["kind"] == document["kind"]

    kubectl(*here, "delete", "-f", str(MANIFESTS), "--timeout=60s")
    for path, _ in paths:
        assert api.ask("GET", path).status == 404, path


def _with_annotation(document: dict[str, Any], step: str) -> dict[str, Any]:
    metadata = {**document["metadata"], "annotations": {"wharf.test/step": step}}
    return {**document, "metadata": metadata}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_answered(api: Api, kinds: dict[str, Kind], kinds_namespace: str, name: str) -> None:
    kind = kinds[name]
    answer = api.post(kind.path(), {"apiVersion": kind.group_version, "kind": kind.kind, **QUESTIONS[name]})
    assert answer["kind"] == kind.kind
    assert "status" in answer


def test_binding_puts_a_pod_on_a_node(cluster: Cluster, api: Api, kinds_namespace: str) -> None:
    pod = f"/api/v1/namespaces/{kinds_namespace}/pods"
    container = {"name": "main", "image": "example.test/none:1"}
    spec = {"schedulerName": "nobody", "containers": [container]}
    api.post(pod, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bound"}, "spec": spec})
    target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
    metadata = {"name": "bound", "namespace": kinds_namespace}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
    api.post(f"/api/v1/namespaces/{kinds_namespace}/bindings", binding)
    assert api.get(f"{pod}/bound")["spec"]["nodeName"] == "nowhere"
    cluster.kubectl("-n", kinds_namespace, "delete", "pod", "bound", "--force", "--grace-period=0")


def test_component_statuses_are_listed(api: Api) -> None:
    """The apiserver asks its store for health here: the row is `etcd-0`."""
    rows = {row["metadata"]["name"]: row for row in api.get("/api/v1/componentstatuses")["items"]}
    healthy = {one["type"]: one["status"] for one in rows["etcd-0"]["conditions"]}
    assert healthy == {"Healthy": "True"}
