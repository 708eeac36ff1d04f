"""The text forms of gRPC: every encoder meets its decoder, and the decoders meet anything."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire import grpc


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"250m", 0.25), (b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"5u", 5e-6), (b"7n", 7e-9), (b"99999999S", 99999999)],
)
def test_timeout_units(value: bytes, seconds: float) -> None:
    assert grpc.parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"-1S", b"+1S", b"1.5S", b"123456789S", b" 1S", b"\xb2S"])
def test_timeouts_outside_of_the_grammar_are_refused(value: bytes) -> None:
    with pytest.raises(grpc.BadTimeout):
        grpc.parse_timeout(value)


@given(st.floats(min_value=0, max_value=9e9))
def test_an_encoded_timeout_is_never_shorter_than_asked(seconds: float) -> None:
    parsed = grpc.parse_timeout(grpc.encode_timeout(seconds))
    assert parsed >= seconds * (1 - 1e-9)
    assert parsed <= seconds * (1 + 1e-5) + 1e-8


@given(st.binary(max_size=12))
def test_parse_timeout_takes_any_bytes(value: bytes) -> None:
    with contextlib.suppress(grpc.BadTimeout):
        assert grpc.parse_timeout(value) >= 0


@given(st.text())
def test_message_text_survives(text: str) -> None:
    encoded = grpc.encode_message(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert grpc.decode_message(encoded) == text.encode("utf-8", "replace").decode()


@given(st.binary())
def test_decode_message_takes_any_bytes(value: bytes) -> None:
    grpc.decode_message(value)


def test_broken_escapes_stay_as_they_came() -> None:
    assert grpc.decode_message(b"50% of %zz %4") == "50% of %zz %4"


@given(st.lists(st.tuples(st.sampled_from([b"key", b"other", b"data-bin"]), st.binary(min_size=1))))
def test_metadata_survives(metadata: list[tuple[bytes, bytes]]) -> None:
    assert grpc.decode_metadata(grpc.encode_metadata(metadata)) == metadata


@pytest.mark.parametrize("name", [b":path", b"grpc-status", b"content-type", b"te"])
def test_names_of_the_protocol_are_no_metadata(name: bytes) -> None:
    with pytest.raises(ValueError, match="reserved"):
        grpc.encode_metadata([(name, b"x")])
    assert grpc.decode_metadata([(name, b"x")]) == []


def test_binary_metadata_may_be_joined_and_padded() -> None:
    assert grpc.decode_metadata([(b"k-bin", b"YQ==,Yg")]) == [(b"k-bin", b"a"), (b"k-bin", b"b")]


@given(st.lists(st.tuples(st.booleans(), st.binary())))
def test_frames_survive(messages: list[tuple[bool, bytes]]) -> None:
    data = b"".join(grpc.frame(message, packed) for packed, message in messages)
    assert list(grpc.unframe(data)) == messages


@given(st.binary(max_size=200))
def test_gzip_survives_and_is_bounded(message: bytes) -> None:
    packed = grpc.compress(message)
    assert grpc.decompress(packed, len(message)) == message
    if message:
        with pytest.raises(grpc.MessageTooLarge):
            grpc.decompress(packed, len(message) - 1)


def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = grpc.compress(bytes(50_000_000))
    with pytest.raises(grpc.MessageTooLarge):
        grpc.decompress(bomb, 1000)


@given(st.binary(max_size=100))
def test_what_is_no_gzip_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        grpc.decompress(b"x" + data, 1000)


def test_a_cut_gzip_is_an_error() -> None:
    with pytest.raises(ValueError, match="unexpected EOF"):
        grpc.decompress(grpc.compress(b"hello" * 100)[:-4], 1000)
