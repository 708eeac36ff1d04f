"""Which selectors kube-apiserver can read; tests/cluster compares the same with its own code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.selectors import BadSelector, check_labels, exact_match

GOOD = [
    *("", " ", "a", "!a", "! a", "a,b", "a,!b", "a=b", "a==b", "a!=b", "a=", "a!=,b", "a>1", "a<007", " a = b "),
    *("a in (b)", "a notin (b,c)", "a in ()", "a in (,)", "a in (b,,c)", "a in (,b)", "in", "in in (in)", "notin=in"),
    *("x.y/z", "a\tin\n(b)", "a=" + "b" * 63, "a\0", "a in (b\0)", "a>9223372036854775807", f"{'d.' * 126}d/n"),
]
BAD = [
    *(",a", "a,", "a,,b", "!", "!!a", "!a=b", "a b", "a=b c", "a=!b", "a===b", "a=>b", "a<>b", "(a)", "a=b)", "a)"),
    *("a>x", "a>", "a>-1", "a in b", "a in (b", "a in (b c)", "a in (b=c)", "a in", "a notin", "a\0b", "é", "a=é"),
    *("-a", "a-", "a=-b", "/z", "x/", "x/y/z", "X.y/z", "a" * 64, "a=" + "b" * 64, "a>9223372036854775808"),
    *(f"{'d.' * 127}d/n", "a=in b", "a,=b"),
]


@pytest.mark.parametrize("selector", GOOD)
def test_label_selectors_that_can_be_read(selector: str) -> None:
    check_labels(selector)


@pytest.mark.parametrize("selector", BAD)
def test_label_selectors_that_cannot_be_read(selector: str) -> None:
    with pytest.raises(BadSelector):
        check_labels(selector)


@given(st.text("ab=!,()<> innot/.-_\0", max_size=20) | st.text(max_size=20))
def test_any_label_selector_is_read_or_refused(selector: str) -> None:
    try:
        check_labels(selector)
    except BadSelector:
        return
    assert selector.count("(") == selector.count(")") or "\0" in selector


@given(st.text(min_size=1), st.text())
def test_an_escaped_value_comes_back(field: str, value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    assert exact_match(f"metadata.name={escaped},zzz!=x", "metadata.name") == value
    assert exact_match("zzz!=x", field) is None


@pytest.mark.parametrize("selector", ["a", "a,b=c", "a=b=c", "a=\\x", "a=\\"])
def test_field_selectors_that_cannot_be_read(selector: str) -> None:
    with pytest.raises(BadSelector):
        exact_match(selector, "a")
