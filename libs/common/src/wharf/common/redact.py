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
_PATH: Final = frozenset("/?#")
_PUNCTUATION: Final = ",;.)'\""  # after a URL in a sentence
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_TO_THE_END: Final = re.compile(r"(password=).*", re.IGNORECASE)
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
    """As `hide_password`, for a value that was refused: it may be no URL at all, and any part of it a password.

    White space in it may be part of a password, and so may a colon after a delimiter and what follows a parameter.
    """
    scheme, separator, rest = "".join(text.split()).partition("://")
    if not separator:
        return HIDDEN if "@" in text or "password" in text.lower() else text
    login, at, host = rest.rpartition("@")
    if at and ":" in login and not _DELIMITERS.isdisjoint(login.partition(":")[0]):
        return f"{scheme}://{HIDDEN}@{host}"
    return _TO_THE_END.sub(rf"\g<1>{HIDDEN}", hide_password(f"{scheme}://{rest}"))


def _hide(rest: str) -> str:
    """`rest`: what follows `://`, to the end of the word."""
    login, at, host = rest.rpartition("@")
    if not at:
        return _hide_without_at(rest)
    user, colon, _ = login.partition(":")
    # A slash, a question mark or a hash before the first colon ends the authority: the `@` belongs to what follows.
    if not colon or not _PATH.isdisjoint(user):
        return rest
    return f"{user}:{HIDDEN}@{host}" if _DELIMITERS.isdisjoint(user) else f"{HIDDEN}@{host}"


def _hide_without_at(rest: str) -> str:
    """What follows a colon and is no port may be a password whose `@` is missing."""
    authority = _AUTHORITY.match(rest)
    for host in (authority[0] if authority else "").rstrip(_PUNCTUATION).split(","):
        name, colon, port = host.partition("]")[2].partition(":") if host.startswith("[") else host.partition(":")
        if colon and port and not port.isdigit() and port != HIDDEN:
            return f"{name}:{HIDDEN}"
    return rest
