"""The pure half of events: what waits is bounded and counted, and a URL of several servers is read as meant."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.events import Outbox, Server, backoff, parse_servers


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(["take", "drop all"])), max_size=60))
def test_an_outbox_is_bounded_in_order_and_loses_nothing_uncounted(steps: list[bytes | str]) -> None:
    outbox = Outbox(most_bytes=100, most_messages=5)
    waiting: list[bytes] = []
    put = taken = 0
    for step in steps:
        if isinstance(step, bytes):
            put += 1
            fits = sum(map(len, waiting)) + len(step) <= 100 and len(waiting) < 5
            assert outbox.put("s", step) is fits
            waiting += [step] if fits else []
        elif step == "take":
            expected = ("s", waiting.pop(0)) if waiting else None
            taken += expected is not None
            assert outbox.take() == expected
        else:
            waiting.clear()
            outbox.drop_all()
        assert (len(outbox), outbox.size) == (len(waiting), sum(map(len, waiting)))
        assert put == taken + len(outbox) + outbox.dropped


def test_backoff_grows_to_a_bound() -> None:
    waits = [backoff(attempt) for attempt in range(1, 50)]
    assert waits == sorted(waits)
    assert 0 < waits[0] < waits[-1] == 1.0


def test_one_server_with_everything_left_out() -> None:
    assert parse_servers("nats://localhost") == [Server("localhost", 4222, tls=False)]


def test_scheme_and_login_hold_for_those_after() -> None:
    assert parse_servers("tls://u:p@a:1,b:2, [::1]:3") == [
        Server("a", 1, True, "u", "p"),
        Server("b", 2, True, "u", "p"),
        Server("::1", 3, True, "u", "p"),
    ]
    assert parse_servers("nats://u:p@a,nats://b,tls://v:q@c") == [
        Server("a", 4222, False, "u", "p"),
        Server("b", 4222, False),
        Server("c", 4222, True, "v", "q"),
    ]


def test_addresses_are_those_of_urls() -> None:
    assert [server.address for server in parse_servers("nats://u:p@[::1]:3,b:2")] == ["[::1]:3", "b:2"]


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_login_survives_its_encoding(user: str, password: str) -> None:
    try:
        url = f"nats://{quote(user, safe='')}:{quote(password, safe='')}@h:1"
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    assert parse_servers(url) == [Server("h", 1, False, user, password)]


@pytest.mark.parametrize(
    "url", ["", "a:1", "http://a", "nats://", "nats://u:secret@:1", "nats://u:secret@a:b", "nats://u:secret@a:1/x?y"]
)
def test_a_bad_url_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(ValueError, match=r"NATS URL|HOST:PORT") as refused:
        parse_servers(url)
    assert "secret" not in str(refused.value)
