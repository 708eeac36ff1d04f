"""A watched directory: whole and settled versions only, the last good one stays, materials beside the documents."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway.api.documents import document, spec
from wharf.gateway.sources.base import ClusterObjects, Reason
from wharf.gateway.sources.directory import DirectorySource, Folder
from wire.pki import Authority

Json = dict[str, Any]


def write(path: Path, *documents: Json) -> None:
    """As an editor does: a new file under a name of its own, then the swap."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(yaml.safe_dump_all(documents))
    temporary.rename(path)


def settled(folder: Folder) -> ClusterObjects:
    """What the folder says once a change has been seen twice."""
    folder.look()
    found = folder.look()
    assert found is not None
    return found


def names(objects: ClusterObjects | None) -> list[str]:
    assert objects is not None
    return [cluster.name for cluster in objects.clusters]


def secret(name: str, **entries: bytes) -> Json:
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "wharf"}, "data": data}


def test_all_files_and_documents_are_read_at_the_first_look(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(), "one"), document(spec(), "two"))
    write(tmp_path / "b.yml", {"kind": "List", "apiVersion": "v1", "items": [document(spec(), "three")]})
    (tmp_path / "c.json").write_text(json.dumps(document(spec(), "four")))
    (tmp_path / "notes.txt").write_text("nothing: [")
    (tmp_path / ".hidden.yaml").write_text("nothing: [")
    found = Folder(tmp_path).look()
    assert names(found) == ["four", "one", "three", "two"]
    assert found is not None
    assert found.synced
    assert found.refused == ()


def test_an_empty_directory_is_a_synced_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.look() == ClusterObjects(synced=True)
    assert folder.look() is None


def test_a_change_is_taken_once_it_has_settled(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "a.yaml", document(spec(), "one"))
    assert folder.look() is None
    write(tmp_path / "a.yaml", document(spec(), "one"), document(spec(), "two"))
    assert folder.look() is None
    assert names(folder.look()) == ["one", "two"]
    assert folder.look() is None


def test_a_file_that_is_gone_takes_its_clusters_with_it(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(), "one"))
    write(tmp_path / "b.yaml", document(spec(), "two"))
    folder = Folder(tmp_path)
    folder.look()
    (tmp_path / "a.yaml").unlink()
    assert names(settled(folder)) == ["two"]


@pytest.mark.parametrize("text", ["", "  \n", "spec: [", "- a\n- b\n", "a: 1\na: 2\n", "\x00"])
def test_a_broken_file_keeps_its_clusters_and_is_reported(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.yaml", document(spec(), "one"))
    folder = Folder(tmp_path)
    folder.look()
    (tmp_path / "a.yaml").write_text(text)
    found = settled(folder)
    assert names(found) == ["one"]
    [refused] = found.refused
    assert (refused.name, refused.reason, refused.kept) == ("a.yaml", Reason.UNREADABLE, True)
    write(tmp_path / "a.yaml", document(spec(), "two"))
    mended = settled(folder)
    assert names(mended) == ["two"]
    assert mended.refused == ()


def test_a_wrong_document_keeps_the_version_before_and_says_every_problem(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "one"), document(spec(), "two"))
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "a.yaml", document(spec(hostname=["y"], retry={"budget": 2}), "one"), document(spec(), "two"))
    found = settled(folder)
    assert [cluster.hostnames for cluster in found.clusters] == [("x",), ()]
    [refused] = found.refused
    assert (refused.name, refused.reason, refused.kept) == ("one", Reason.INVALID, True)
    assert refused.problems == (
        "a.yaml: spec.hostname: unknown field (did you mean hostnames?)",
        "a.yaml: spec.retry.budget: must be 0 to 1, not 2",
    )


def test_a_cluster_defined_twice_is_taken_from_the_first_file(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "one"))
    write(tmp_path / "b.yaml", document(spec(hostnames=["y"]), "one"))
    found = Folder(tmp_path).look()
    assert found is not None
    assert found.clusters[0].hostnames == ("x",)
    assert found.refused[0].problems == ("b.yaml: one is defined already, in a.yaml",)


def test_conflicts_across_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "two"))
    write(tmp_path / "b.yaml", document(spec(hostnames=["x"]), "one"))
    found = Folder(tmp_path).look()
    assert names(found) == ["one"]
    assert found is not None
    [refused] = found.refused
    assert (refused.name, refused.reason, refused.kept) == ("two", Reason.CONFLICT, False)
    assert refused.problems == ("a.yaml: x belongs to UpstreamCluster one (b.yaml)",)


@pytest.mark.parametrize("claim", [{"hostnames": ["x"]}, {"addresses": ["10.0.0.1"]}, {"hostnames": ["running"]}])
def test_a_new_file_does_not_remove_a_running_cluster_whose_claim_it_repeats(tmp_path: Path, claim: Json) -> None:
    write(tmp_path / "b.yaml", document(spec(hostnames=["x", "y"], addresses=["10.0.0.1"]), "running"))
    folder = Folder(tmp_path)
    folder.look()
    newcomer = document(spec(**claim), "a-newcomer")  # the first by name and by file
    newcomer["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    write(tmp_path / "a.yaml", newcomer, document(spec(hostnames=["z"]), "other"))
    found = settled(folder)
    assert names(found) == ["other", "running"]
    [refused] = found.refused
    assert (refused.name, refused.reason, refused.kept) == ("a-newcomer", Reason.CONFLICT, False)
    assert "belongs to UpstreamCluster running (b.yaml)" in refused.problems[0]

    (tmp_path / "b.yaml").unlink()  # what is deleted claims nothing any more
    assert names(settled(folder)) == ["a-newcomer", "other"]


def test_a_new_file_does_not_replace_a_running_cluster_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", document(spec(hostnames=["x"]), "one"))
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "a.yaml", document(spec(hostnames=["y"]), "one"))
    found = settled(folder)
    assert [cluster.hostnames for cluster in found.clusters] == [("x",)]
    assert found.refused[0].problems == ("a.yaml: one is defined already, in b.yaml",)

    write(tmp_path / "b.yaml", document(spec(hostnames=["x", "z"]), "one"))  # the running one may still change
    assert [cluster.hostnames for cluster in settled(folder).clusters] == [("x", "z")]
    (tmp_path / "b.yaml").unlink()
    assert [cluster.hostnames for cluster in settled(folder).clusters] == [("y",)]


def test_a_running_cluster_that_changes_its_claims_keeps_the_rest_against_a_newcomer(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", document(spec(hostnames=["x", "y"]), "running"))
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "b.yaml", document(spec(hostnames=["x", "z"]), "running"))
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "a"), document(spec(hostnames=["y"]), "c"))
    found = settled(folder)
    assert {cluster.name: cluster.hostnames for cluster in found.clusters} == {"running": ("x", "z"), "c": ("y",)}


def test_clusters_exchange_hostnames_in_one_change(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "one"), document(spec(hostnames=["y"]), "two"))
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "a.yaml", document(spec(hostnames=["y"]), "one"), document(spec(hostnames=["x"]), "two"))
    found = settled(folder)
    assert [cluster.hostnames for cluster in found.clusters] == [("y",), ("x",)]
    assert found.refused == ()


def test_what_comes_to_conflict_falls_back_to_what_it_was(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", document(spec(hostnames=["x"]), "one"))
    write(tmp_path / "b.yaml", document(spec(hostnames=["y"]), "two"))
    folder = Folder(tmp_path)
    folder.look()
    write(tmp_path / "b.yaml", document(spec(hostnames=["x"]), "two"))
    found = settled(folder)
    assert [cluster.hostnames for cluster in found.clusters] == [("x",), ("y",)]
    assert found.refused[0].kept


def test_materials_are_files_beside_the_document(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    pair = ca.issue("server")
    parts = {
        "serving": {"certificate": {"file": "server.crt"}, "key": {"file": str(tmp_path / "server.key")}},
        "upstream": {"ca": {"file": "./ca.crt"}},
    }
    write(tmp_path / "a.yaml", document(spec(**parts), "one"))
    folder = Folder(tmp_path)
    found = folder.look()
    assert found is not None
    [cluster] = found.clusters
    assert cluster.serving.certificate is not None
    assert cluster.serving.certificate.pem == Path(pair.cert).read_bytes()
    assert cluster.upstream.ca is not None
    assert cluster.upstream.ca.pem == Path(ca.ca_file).read_bytes()
    assert folder.look() is None

    fresh = ca.issue("server", file="fresh")  # the certificate first, the key a moment later: never a half pair
    Path(fresh.cert).rename(tmp_path / "server.crt")
    half = settled(folder)
    assert half.clusters[0].serving == cluster.serving
    assert half.refused[0].reason is Reason.MATERIAL
    assert "spec.serving.key: file" in half.refused[0].problems[0]
    Path(fresh.key).rename(tmp_path / "server.key")
    whole = settled(folder)
    assert whole.refused == ()
    assert whole.clusters[0].serving != cluster.serving


def test_a_missing_material_is_named(tmp_path: Path) -> None:
    parts = {"ca": {"file": "nothing.crt"}, "token": {"secretRef": {"namespace": "wharf", "name": "token"}}}
    write(tmp_path / "a.yaml", document(spec(upstream=parts), "one"))
    found = Folder(tmp_path).look()
    assert found is not None
    assert found.clusters == ()
    assert found.refused[0].problems == (
        "a.yaml: spec.upstream.ca: file nothing.crt does not exist",
        "a.yaml: spec.upstream.token: Secret wharf/token does not exist",
    )


def test_secrets_lie_beside_the_documents(tmp_path: Path) -> None:
    reference = {"token": {"secretRef": {"namespace": "wharf", "name": "token"}}}
    write(tmp_path / "a.yaml", document(spec(upstream=reference), "one"))
    write(tmp_path / "secrets.yaml", secret("token", token=b"first\n"))
    folder = Folder(tmp_path)
    found = folder.look()
    assert found is not None
    assert found.clusters[0].upstream.token is not None
    assert found.clusters[0].upstream.token.pem == b"first"
    write(tmp_path / "secrets.yaml", secret("token", other=b"x"))
    kept = settled(folder)
    assert kept.clusters == found.clusters
    assert kept.refused[0].problems == ("a.yaml: spec.upstream.token: Secret wharf/token has no entry token",)
    write(tmp_path / "secrets.yaml", secret("token", token=b"second"))
    rotated = settled(folder).clusters[0].upstream.token
    assert rotated is not None
    assert rotated.pem == b"second"


def test_a_broken_secret_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secret("token") | {"data": {"token": "%"}})
    found = Folder(tmp_path).look()
    assert found is not None
    assert found.refused[0].problems == ("a.yaml: data[token] is not base64",)


def test_a_secret_whose_data_is_no_object_does_not_end_the_reading(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secret("token") | {"data": [1]}, document(spec(), "one"))
    found = Folder(tmp_path).look()
    assert names(found) == ["one"]
    assert found is not None
    assert found.refused[0].problems == ("a.yaml: data is not an object",)


def test_endpoint_slices_are_collected_by_service(tmp_path: Path) -> None:
    labels = {"kubernetes.io/service-name": "kube"}
    one = {"kind": "EndpointSlice", "metadata": {"name": "kube-1", "namespace": "a", "labels": labels}, "endpoints": []}
    two = one | {"metadata": {"name": "kube-2", "namespace": "a", "labels": labels}}
    discovery = {"service": {"namespace": "a", "name": "kube"}}
    write(tmp_path / "a.yaml", document({"discovery": discovery}, "one"), one, two)
    found = Folder(tmp_path).look()
    assert found is not None
    assert found.slices == {("a", "kube"): (one, two)}


def mount(volume: Path, number: int, content: dict[str, str]) -> None:
    """What a kubelet does with a ConfigMap: a folder per version and a symlink that is swapped."""
    version = volume / f"..{number}"
    version.mkdir()
    for name, text in content.items():
        (version / name).write_text(text)
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    (volume / "..data_tmp").symlink_to(version.name)
    (volume / "..data_tmp").rename(volume / "..data")
    for old in volume.glob("..[0-9]*"):
        if old != version:
            shutil.rmtree(old)


def test_the_symlink_swap_of_a_mounted_volume_is_a_change(tmp_path: Path) -> None:
    mount(tmp_path, 1, {"a.yaml": yaml.safe_dump(document(spec(), "one"))})
    folder = Folder(tmp_path)
    assert names(folder.look()) == ["one"]
    mount(tmp_path, 2, {"a.yaml": yaml.safe_dump(document(spec(), "two"))})
    assert names(settled(folder)) == ["two"]


def test_a_change_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write(path, document(spec(), "one"))
    before = path.stat()
    folder = Folder(tmp_path)
    folder.look()
    write(path, document(spec(), "two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(settled(folder)) == ["two"]


class Watching:
    """A source under way, with a way to wait for what it tells."""

    def __init__(self, path: Path) -> None:
        self.told: asyncio.Queue[ClusterObjects] = asyncio.Queue()
        self.source = DirectorySource(path, self.told.put_nowait, look_seconds=0.01)
        self.task = asyncio.create_task(self.source.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_the_source_tells_of_changes_and_survives_the_loss_of_the_directory(tmp_path: Path) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()

    async def run() -> None:
        async with asyncio.timeout(20):
            watching = Watching(folder)
            assert names(await watching.told.get()) == []
            write(folder / "a.yaml", document(spec(), "one"))
            assert names(await watching.told.get()) == ["one"]
            folder.rename(tmp_path / "away")
            assert names(watching.source.current) == ["one"]
            folder.mkdir()
            write(folder / "b.yaml", document(spec(), "two"))
            while names(watching.source.current) != ["two"]:
                await watching.told.get()
            await watching.stop()

    asyncio.run(run())


def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            watching = Watching(tmp_path / "later")
            (tmp_path / "later").mkdir()
            assert (await watching.told.get()).synced
            await watching.stop()

    asyncio.run(run())
