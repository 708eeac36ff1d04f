"""A live etcd (or brain) becomes a store of brain, and nobody who watched it can tell: `wharf brain import`."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from harness.store import Store
from proofs.conftest import Starter
from proofs.ctl import Ctl
from proofs.model.refusals import Refused
from proofs.moving import (
    Command,
    Writers,
    client,
    command,
    compare,
    everything,
    fill,
    import_words,
)
from wharf.cli.kube.controlplane import free_port
from wharf.common.pb.etcd import rpc_pb2


def serve(folder: Path, begin: Starter) -> Store:
    """A brain on what was imported into `folder`/data."""
    return begin("brain", folder.name)


def revision_of(line: str) -> int:
    found = re.search(r"revision (\d+)", line)
    assert found, line
    return int(found[1])


def test_import_under_load_and_cut_over(target: str, tmp_path: Path, begin: Starter) -> None:
    store = begin(target, "source")
    with client(store.url) as source:
        fill(source)
        with Writers(store.url) as writers, Command(*import_words(store.url, tmp_path / "copy" / "data")) as running:
            writers.wait_more(50)
            base = revision_of(running.wait_line("copying"))
            running.wait_line("caught up at revision")
            writers.wait_more(200)
            writers.__exit__()
            code, printed = running.end(signal.SIGINT)
        assert code == 0, printed
        assert "warning" not in printed
        assert command("check", str(tmp_path / "copy" / "data"))[0] == 0
        brain = serve(tmp_path / "copy", begin)
        with client(brain.url) as copy:
            compare(source, copy, base)
            with pytest.raises(Refused, match="compacted"):
                everything(copy, base - 1)
            revision, _ = everything(source)
            put = copy.unary["put"](rpc_pb2.PutRequest(key=b"next", value=b"n"))
            assert put.header.revision == revision + 1


def test_one_revision_without_following(tmp_path: Path, begin: Starter) -> None:
    store = begin("etcd-3.6", "source")
    with client(store.url) as source:
        fill(source, 300)
        endpoints = f"http://127.0.0.1:{free_port()},{store.url}"  # the first does not answer
        code, printed = command(*import_words(endpoints, tmp_path / "copy" / "data", "--no-follow"))
        assert code == 0, printed
        with client(serve(tmp_path / "copy", begin).url) as copy:
            compare(source, copy, everything(source)[0])


def test_a_revision_larger_than_a_message(target: str, tmp_path: Path, begin: Starter) -> None:
    """Deleting thousands of keys at once is one transaction, and one watch response in fragments."""
    store = begin(target, "source")
    with client(store.url) as source:
        for start in range(0, 6000, 100):
            puts = [rpc_pb2.PutRequest(key=b"%04d/" % at + b"k" * 500) for at in range(start, start + 100)]
            source.unary["txn"](rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put) for put in puts]))
        with Command(*import_words(store.url, tmp_path / "copy" / "data")) as running:
            base = revision_of(running.wait_line("copying"))
            running.wait_line("caught up")
            source.unary["delete_range"](rpc_pb2.DeleteRangeRequest(key=b"0", range_end=b"5"))
            code, printed = running.end(signal.SIGINT)
        assert code == 0, printed
        with client(serve(tmp_path / "copy", begin).url) as copy:
            compare(source, copy, base)


def test_it_ends_at_the_revision_it_was_told(tmp_path: Path, begin: Starter) -> None:
    store = begin("etcd-3.6", "source")
    with client(store.url) as source:
        fill(source, 100)
        until = everything(source)[0] + 20
        words = import_words(store.url, tmp_path / "copy" / "data", f"--until-revision={until}")
        with Command(*words) as running:
            running.wait_line("caught up")
            with Writers(store.url) as writers:
                writers.wait_more(30)
            code, printed = running.end()
        assert code == 0, printed
        assert "warning: the source is at revision" in printed
        with client(serve(tmp_path / "copy", begin).url) as copy:
            assert everything(copy) == (until, everything(source, until)[1])
        code, printed = command(*import_words(store.url, tmp_path / "other", "--until-revision=3"))
        assert (code, "is past" in printed) == (1, True)


def test_an_empty_source(tmp_path: Path, begin: Starter) -> None:
    store = begin("etcd-3.6", "source")
    code, printed = command(*import_words(store.url, tmp_path / "copy" / "data", "--cut-over", "--quiet=100ms"))
    assert code == 0, printed
    with client(serve(tmp_path / "copy", begin).url) as copy:
        assert everything(copy) == (1, [])


def test_a_broken_import_goes_on_where_it_was(tmp_path: Path, begin: Starter) -> None:
    store = begin("etcd-3.6", "source")
    target = tmp_path / "copy" / "data"
    with client(store.url) as source:
        fill(source, 300)
        with Command(*import_words(store.url, target)) as running:
            base = revision_of(running.wait_line("copying"))
            running.wait_line("caught up")
        code, printed = command(f"--data-dir={target}", "--listen-client-urls=http://127.0.0.1:0")
        assert code == 1
        assert "unfinished import" in printed
        assert command("check", str(target))[0] == 1
        with Writers(store.url) as writers:
            writers.wait_more(50)
        code, printed = command(*import_words(store.url, target, "--cut-over", "--quiet=100ms"))
        assert code == 0, printed
        assert "going on with an unfinished import" in printed
        with client(serve(tmp_path / "copy", begin).url) as copy:
            compare(source, copy, base)


def test_the_source_goes_away_and_comes_back(target: str, tmp_path: Path, begin: Starter) -> None:
    store = begin(target, "source")
    with client(store.url) as source:
        fill(source, 100)
    with Command(*import_words(store.url, tmp_path / "copy" / "data")) as running:
        base = revision_of(running.wait_line("copying"))
        running.wait_line("caught up")
        store.kill()
        running.wait_line("lost the source")
        store.start()
        with client(store.url) as source:
            with Writers(store.url) as writers:
                writers.wait_more(50)
            code, printed = running.end(signal.SIGTERM)
            assert code == 0, printed
            with client(serve(tmp_path / "copy", begin).url) as copy:
                compare(source, copy, base)


def test_history_that_is_gone_ends_it(target: str, tmp_path: Path, begin: Starter) -> None:
    store = begin(target, "source")
    with client(store.url) as source:
        fill(source, 100)
        with Command(*import_words(store.url, tmp_path / "copy")) as running:
            running.wait_line("caught up")
        with Writers(store.url) as writers:
            writers.wait_more(20)
        revision, _ = everything(source)
        source.unary["compact"](rpc_pb2.CompactionRequest(revision=revision, physical=True))
        code, printed = command(*import_words(store.url, tmp_path / "copy", "--cut-over"))
    assert code == 1
    assert "--etcd-compaction-interval=0" in printed


def test_a_target_with_data_is_refused(tmp_path: Path, begin: Starter) -> None:
    store, other = begin("etcd-3.6", "source"), begin("brain", "other")
    with client(other.url) as one:
        one.unary["put"](rpc_pb2.PutRequest(key=b"precious"))
    data = tmp_path / "other" / "data"
    code, printed = command(*import_words(store.url, data))
    assert (code, "in use by another brain" in printed) == (1, True)
    other.stop()
    code, printed = command(*import_words(store.url, data))
    assert (code, "the target holds data (revision 2)" in printed) == (1, True)
    code, printed = command(*import_words(store.url, tmp_path / "source" / "data"))
    assert (code, "is an etcd data directory" in printed) == (1, True)
    other.start()
    with client(other.url) as one:
        assert [kv.key for kv in everything(one)[1]] == [b"precious"]


def test_a_second_interrupt_does_not_wait(tmp_path: Path, begin: Starter) -> None:
    """Ctrl-C while it follows is the cut-over, a second one ends it."""
    store = begin("etcd-3.6", "source")
    with client(store.url) as source:
        fill(source, 100)
    with Command(*import_words(store.url, tmp_path / "copy")) as running:
        running.wait_line("caught up")
        store.kill()
        running.process.send_signal(signal.SIGINT)
        code, printed = running.end(signal.SIGINT)
    assert code in (1, 130), printed
    assert "interrupted" in printed or "cannot be completed" in printed


def test_logins_and_certificates(tmp_path: Path, begin: Starter) -> None:
    store = begin("etcd-3.6", "source", tls=True)
    access = store.access
    assert access.pair is not None
    files = [f"--cacert={access.ca}", f"--cert={access.pair.cert}", f"--key={access.pair.key}"]
    ctl = Ctl("3.6", store.url, tuple(files))
    ctl("put", "k", "v")
    ctl("user", "add", "migrator:secret")
    ctl("user", "add", "root:rootsecret")
    ctl("user", "grant-role", "root", "root")
    ctl("auth", "enable")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    words = import_words(store.url, tmp_path / "copy" / "data", *files, "--no-follow", f"--password-file={password}")
    code, printed = command(*words, "--user=root")
    assert (code, "authentication failed" in printed, "wrong" in printed) == (1, True, False)
    password.write_text("secret\n")
    code, printed = command(*words, "--user=migrator")
    assert (code, "the root role" in printed) == (1, True)
    password.write_text("rootsecret\n")
    code, printed = command(*words, "--user=root")
    assert code == 0, printed
    code, printed = command(*import_words(store.url, tmp_path / "other", "--no-follow"))
    assert (code, "--cacert" in printed) == (1, True)
    with client(serve(tmp_path / "copy", begin).url) as copy:
        assert [kv.value for kv in everything(copy)[1]] == [b"v"]
