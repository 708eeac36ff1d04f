"""What a worker says arrives as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.life.line import HEAD, MOST, BadFrame, Word, encode_frame, parse_head


@given(st.sampled_from(Word), st.binary(max_size=100))
def test_it_arrives_as_it_was(word: Word, body: bytes) -> None:
    frame = encode_frame(word, body)
    assert parse_head(frame[:HEAD]) == (word, len(body))
    assert frame[HEAD:] == body


@pytest.mark.parametrize("head", [b"", b"x\0\0\0\0", b"m\xff\xff\xff\xff", b"m\0\0"])
def test_other_bytes_are_refused(head: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_head(head)


def test_a_body_has_a_bound() -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode_frame(Word.STATUS, b"x" * (MOST + 1))
