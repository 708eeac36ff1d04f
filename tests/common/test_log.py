"""Logs: JSON and console lines, levels, and that no secret reaches them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from wharf.common.log import LINES_MAX, Format, get_log, redact_text, setup


@pytest.fixture(autouse=True)
def _untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def stream(format: Format = "json", level: str = "info") -> io.StringIO:
    out = io.StringIO()
    setup(level, format, out)
    return out


def test_a_json_line_has_etcd_s_keys() -> None:
    out = stream()
    get_log("brain.app").info("ready to serve client requests", address="127.0.0.1:2379", took=0.25)
    line = json.loads(out.getvalue())
    assert line | {"ts": ""} == {
        "level": "info",
        "ts": "",
        "logger": "brain.app",
        "msg": "ready to serve client requests",
        "address": "127.0.0.1:2379",
        "took": 0.25,
    }
    assert line["ts"].endswith("Z")


def test_a_console_line_is_one_line() -> None:
    out = stream("console")
    get_log("x").warn("two\nlines", path="a b", n=1, none=None, quoted='a"b\n', plain="a/b")
    (line,) = out.getvalue().splitlines()
    assert line.endswith(r'WARN  x  two lines  path="a b" n=1 none=null quoted="a\"b\n" plain=a/b')


def test_what_comes_over_and_over_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr("time.time_ns", lambda: int(now * 1e9))
    out = stream()
    wire = logging.getLogger("wharf.wire")
    for port in range(1000):
        wire.info("TLS handshake with %s failed", port)
    assert len(out.getvalue().splitlines()) == LINES_MAX
    get_log("x").info("another")
    assert json.loads(out.getvalue().splitlines()[-1])["left_out"] == 1000 - LINES_MAX
    get_log("x").info("another")
    assert "left_out" not in json.loads(out.getvalue().splitlines()[-1])
    now = 1001.0
    wire.info("TLS handshake with %s failed", 7)
    assert json.loads(out.getvalue().splitlines()[-1])["msg"] == "TLS handshake with 7 failed"


def test_bound_fields_are_on_every_line() -> None:
    out = stream()
    get_log("x", node="a").bind(shard=2).info("m", shard=3)
    line = json.loads(out.getvalue())
    assert (line["node"], line["shard"]) == ("a", 3)


def test_levels() -> None:
    out = stream(level="warn")
    log = get_log("x")
    log.info("no")
    log.debug("no")
    log.warn("yes")
    log.error("yes")
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == ["warn", "error"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_redacted(format: Format) -> None:
    out = stream(format)
    log = get_log("x")
    log.info(
        "at redis://me:hunter2@h with Authorization: Bearer hunter2.hunter2",
        password="hunter2",
        client_secret=b"hunter2",
        token_file="hunter2",
        url="redis://:hunter2@h",
        authorization="hunter2",
        head="Authorization: Basic hunter2hunter2",
        sizes=("redis://u:hunter2@h",),
    )
    assert "hunter2" not in out.getvalue()
    assert "redis://me:***@h" in out.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_error_carries_its_traceback_redacted(format: Format) -> None:
    out = stream(format)
    try:
        raise ValueError("cannot reach redis://u:hunter2@h")
    except ValueError as error:
        get_log("x").error("failed", cause=error)
    assert "ValueError: cannot reach redis://u:***@h" in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert "test_log.py" in out.getvalue()


def test_a_field_never_replaces_a_standard_key() -> None:
    out = stream()
    get_log("x").info("m", level="mine", msg="mine")
    line = json.loads(out.getvalue())
    assert (line["level"], line["msg"], line["level_"], line["msg_"]) == ("info", "m", "mine", "mine")


def test_other_libraries_warnings_take_the_same_form() -> None:
    out = stream()
    logging.getLogger("grpc._channel").warning("lost %s", "it")
    logging.getLogger("grpc._channel").info("noise")
    assert [json.loads(line)["msg"] for line in out.getvalue().splitlines()] == ["lost it"]


def test_lists_stay_lists() -> None:
    out = stream()
    get_log("x").info("m", addresses=["127.0.0.1:1", "redis://u:hunter2@h"], sizes=(1, None))
    line = json.loads(out.getvalue())
    assert (line["addresses"], line["sizes"]) == (["127.0.0.1:1", "redis://u:***@h"], [1, None])
    out = stream("console")
    get_log("x").info("m", addresses=["a", "b"])
    assert out.getvalue().endswith('addresses="[\\"a\\", \\"b\\"]"\n')


def test_plain_text_is_left_alone() -> None:
    assert redact_text("basic things at http://h/a:b@c") == "basic things at http://h/a:b@c"
