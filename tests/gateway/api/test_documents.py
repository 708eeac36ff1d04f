"""Text becomes documents, strictly: what YAML would guess or hide is an error or stays as written."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.documents import load_documents


def test_streams_lists_and_empty_documents() -> None:
    text = (
        "---\na: 1\n---\n# nothing\n---\nkind: List\nitems:\n- b: 2\n- kind: UpstreamClusterList\n  items: [{c: 3}]\n"
    )
    assert load_documents(text) == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_times_stay_text() -> None:
    assert load_documents("at: 2026-01-02T03:04:05Z\n") == [{"at": "2026-01-02T03:04:05Z"}]


def test_merge_keys_work() -> None:
    assert load_documents("base: &b {x: 1}\nmore: {<<: *b, y: 2}\n")[0]["more"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is here twice"),
        ('{"a": 1, "a": 2}', "the key 'a' is here twice"),
        ("a: [1\nb: 2\n", "line 2"),
        ("- 1\n", "a document is list, not an object"),
        ("kind: List\nitems: [1]\n", "a document is int"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1"),
        ("\x00", "cannot be read as YAML"),
        ("[" * 5000, "line 1: nested deeper than 64 levels"),
        ('{"a":' * 5000, "cannot be read as YAML"),
        (" " * 5_000_000, "longer than"),
        ("? [a]\n: 1\n", "line 1"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        load_documents(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = load_documents(text)
    except ValueError:
        return
    assert isinstance(found, list)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers() | st.booleans(), max_size=4))
def test_json_and_yaml_are_both_read(document: dict[str, object]) -> None:
    assert load_documents(yaml.safe_dump(document)) == [document]
    assert load_documents(json.dumps(document)) == [document]
    assert load_documents(json.dumps(document, ensure_ascii=False)) == [document]
