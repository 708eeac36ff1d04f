"""Field and label selectors as far as a proxy needs them: the name asked for, and whether kube-apiserver can read them.

kube-apiserver drops everything it read from a query when one part of it cannot be read, so the name in a field selector
counts only beside a label selector that is valid. Sources: k8s.io/apimachinery, pkg/fields and pkg/labels. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TERM = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)
_SYMBOLS = frozenset("=!(),><")
_BLANKS = frozenset(" \t\r\n")
_OPERATORS = frozenset((")", ",", "!", "==", "=", ">", "<", "!=", "("))
_WORDS = frozenset(("in", "notin"))
_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_INTEGER = re.compile(r"0*([0-9]{1,19})")
_INT64_MAX = 2**63 - 1
_NAME_MAX, _SUBDOMAIN_MAX = 63, 253


class BadSelector(ValueError):
    """A selector that kube-apiserver cannot read."""


def exact_match(selector: str, field: str) -> str | None:
    """The value that a field selector wants a field to have: ("metadata.name=a,x!=b", "metadata.name") → "a".

    None when it names no such value; BadSelector when kube-apiserver cannot read it.
    """
    wanted: str | None = None
    for term in sorted(_terms(selector)):
        if not term:
            continue
        parts = _TERM.fullmatch(term)
        if parts is None:
            raise BadSelector(f"no operator in {term!r}")
        name, operator, value = parts.groups()
        value = _unescaped(value)
        if wanted is None and name == field and operator != "!=":
            wanted = value
    return wanted


def _terms(selector: str) -> list[str]:
    """Split at commas that no backslash escapes."""
    if "\\" not in selector:
        return selector.split(",")
    terms, start, escaped = [], 0, False
    for at, character in enumerate(selector):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            terms.append(selector[start:at])
            start = at + 1
    terms.append(selector[start:])
    return terms


def _unescaped(value: str) -> str:
    if "\\" not in value and "=" not in value:
        return value
    out: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            character = next(characters, "")  # noqa: PLW2901 — what the backslash escapes
            if character not in ("\\", ",", "="):
                raise BadSelector(f"an unknown escape in {value!r}")
        elif character in ",=":
            raise BadSelector(f"{character!r} without a backslash in {value!r}")
        out.append(character)
    return "".join(out)


def check_labels(selector: str) -> None:
    """BadSelector unless kube-apiserver can read this label selector."""
    tokens = _Tokens(selector)
    while tokens.next is not None:
        _requirement(tokens)
        separator = tokens.take()
        if separator is None:
            return
        if separator != ",":
            raise BadSelector(f"{separator!r} where a comma was expected")
        if tokens.next is None or (tokens.next in _OPERATORS and tokens.next != "!"):
            raise BadSelector("a comma without a requirement after it")


class _Tokens:
    """Operators, words and identifiers of a label selector; None at its end."""

    def __init__(self, selector: str) -> None:
        self._scan = _scan(selector)
        self.next: str | None = next(self._scan, None)

    def take(self) -> str | None:
        taken, self.next = self.next, next(self._scan, None)
        return taken


def _scan(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        character = text[at]
        if character in _BLANKS:
            at += 1
        elif character == "\0":  # reads as the end of the selector
            return
        elif character in _SYMBOLS:
            symbol = text[at : at + 2] if text[at : at + 2] in _OPERATORS else character
            yield symbol
            at += len(symbol)
        else:
            end = at
            while end < len(text) and text[end] not in _SYMBOLS and text[end] not in _BLANKS and text[end] != "\0":
                end += 1
            yield text[at:end]
            at = end + (text[end : end + 1] == "\0")


def _requirement(tokens: _Tokens) -> None:
    negated = tokens.next == "!"
    if negated:
        tokens.take()
    _check_key(tokens.take())
    if negated or tokens.next is None or tokens.next == ",":
        return
    operator = tokens.take()
    if operator in _WORDS:
        _value_set(tokens)
    elif operator in ("=", "==", "!="):
        if tokens.next is not None and tokens.next != ",":
            _check_value(tokens.take())
    elif operator in (">", "<"):
        number = tokens.take()
        digits = _INTEGER.fullmatch(number or "")
        if digits is None or int(digits[1]) > _INT64_MAX:
            raise BadSelector(f"an integer was expected, not {number!r}")
        _check_value(number)
    else:
        raise BadSelector(f"{operator!r} is no operator")


def _value_set(tokens: _Tokens) -> None:
    """`(a, b,)`: commas may stand alone, values may not touch."""
    if tokens.take() != "(":
        raise BadSelector("a set of values was expected")
    previous = ","
    while (word := tokens.take()) != ")":
        if word != ",":
            if previous != ",":
                raise BadSelector("values without a comma between them")
            _check_value(word)
        previous = word or ""


def _check_key(key: str | None) -> None:
    if key is None or key in _OPERATORS:
        raise BadSelector("a label key was expected")
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or len(name) > _NAME_MAX:
        raise BadSelector(f"{key!r} is no label key")
    if slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > _SUBDOMAIN_MAX):
        raise BadSelector(f"{key!r} is no label key")


def _check_value(value: str | None) -> None:
    if value is None or not _NAME.fullmatch(value) or len(value) > _NAME_MAX:
        raise BadSelector(f"{value!r} is no label value")
