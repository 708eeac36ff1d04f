"""Removes passwords from texts that people read: error messages, log lines, displayed settings. Pure.

A URL whose password holds unescaped delimiters (`#`, `/`, `?`, `[`, `@`) does not parse, so the rules here do not rely
on parsing: they hide too much rather than too little. Invariant: `hide_password` is idempotent.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
_URL: Final = re.compile(r"(?<=://)\S+")
_DELIMITERS: Final = frozenset("/?#[]@")
_PUNCTUATION: Final = ",;.)'\""  # after a URL in a sentence
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_PARAMETER: Final = re.compile(r"((?:^|[?&\s])\w*(?:password|passwd|secret|token)=)[^&\s]+", re.IGNORECASE)


def hide_password(text: str) -> str:
    """`text` with the password of every URL in it, and the value of every password parameter, replaced by ***.

    A user name stays readable if it holds no delimiter. Everything between `://` and the last `@` of a word is taken
    for the login, because a password may hold any character.
    """
    if "://" in text:
        text = _URL.sub(lambda match: _hide(match[0]), text)
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", text) if "=" in text else text


def hide_password_in_value(text: str) -> str:
    """As `hide_password`, for a text that is one value as a whole and may be no URL at all.

    White space in it may be part of a password, and so may a colon that follows a delimiter.
    """
    scheme, separator, rest = "".join(text.split()).partition("://")
    if not separator:
        return hide_password(text)
    login, at, host = rest.rpartition("@")
    if at and ":" in login and not _DELIMITERS.isdisjoint(login.partition(":")[0]):
        return f"{scheme}://{HIDDEN}@{host}"
    return hide_password(f"{scheme}://{rest}")


def _hide(rest: str) -> str:
    """`rest`: what follows `://`, to the end of the word."""
    login, at, host = rest.rpartition("@")
    if not at:
        return _hide_without_at(rest)
    user, colon, _ = login.partition(":")
    # A delimiter before the first colon ends the authority: the `@` belongs to a path or a query.
    return f"{user}:{HIDDEN}@{host}" if colon and _DELIMITERS.isdisjoint(user) else rest


def _hide_without_at(rest: str) -> str:
    """A word after a colon that is no port may be a password whose `@` is missing."""
    authority = _AUTHORITY.match(rest)
    name, colon, port = (authority[0] if authority else "").rstrip(_PUNCTUATION).rpartition(":")
    suspicious = colon and port and not port.isdigit() and not port.endswith("]") and port != HIDDEN
    return f"{name}:{HIDDEN}" if suspicious else rest
