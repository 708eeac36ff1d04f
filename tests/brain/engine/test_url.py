"""Engine URLs are refused for what can never work before a connection is tried."""

from pathlib import Path

import pytest
from wharf.brain.engine.url import ENGINE_URL
from wharf.common.parsers import BadValue


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory:",
        "lmdb:///var/lib/brain",
        "postgresql:///db?host=/run",
        "postgresql://?host=/run&dbname=x",
        "postgresql://h:/db?options=-c%20statement_timeout%3D5s&lock_timeout=1&client_encoding=utf8",
        "postgresql://u:p@h1,h2:/db?user=me@srv",
        "postgres://u:p%40ss@a:1,[::1]:2/wharf?sslmode=verify-full&sslrootcert=/ca&target_session_attrs=any",
    ],
)
def test_accepted(text: str) -> None:
    assert ENGINE_URL.parse(text) == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("mysql://db", "unknown scheme"),
        ("postgresql://h/db?password=hun&ter2=1", "has an unknown parameter$"),
        ("postgresql://h/db?connect_timeout=3", "'connect_timeout', which is libpq's"),
        ("/var/lib/brain", "no scheme"),
        ("lmdb://", "names no directory"),
        ("postgresql://", "names no host"),
        ("postgresql://a:1,b:port/db", "a port that is no number"),
        ("postgresql://db/w?sslmode=verify-ful", "sslmode='verify-ful', which is not one of disable"),
        ("postgresql://db/w?sslrootcerts=/ca", "unknown parameter 'sslrootcerts'; did you mean 'sslrootcert'"),
    ],
)
def test_refused(text: str, cause: str) -> None:
    with pytest.raises(BadValue, match=cause):
        ENGINE_URL.parse(text)


def test_the_files_of_a_postgresql_url_are_known() -> None:
    assert ENGINE_URL.files("postgresql://h/d?sslrootcert=/ca&sslmode=require") == (Path("/ca"),)
    assert ENGINE_URL.files("lmdb:///d") == ()
