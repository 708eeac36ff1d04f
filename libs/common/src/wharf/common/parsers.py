"""Text ↔ values of configuration: durations, byte sizes, URLs, booleans, lists, choices.

A `Parser` knows the value's name in help texts, what is allowed (for the error message) and how to show a value again.
Everything here is pure. Invariant: `parser.parse(parser.show(v)) == v` for every value a parser produces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from wharf.common.redact import hide_password

T = TypeVar("T")


class BadValue(ValueError):
    """A text is not what its parser allows; the message is the rest of the sentence "<text> …"."""


def _no_files(_: object) -> Sequence[Path]:
    return ()


@dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """How one kind of value is read and shown."""

    name: str  # in help: --flag NAME
    allowed: str  # "true or false"
    parse: Callable[[str], T]  # raises BadValue
    show: Callable[[T], str] = str
    switch: bool = False  # --flag alone means true; a value must be attached with =
    files: Callable[[T], Sequence[Path]] = _no_files  # files that must be readable before the program starts


# --- durations, Go's notation ---------------------------------------------------------------------------------------

_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu, which Go accepts as well
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MAX_NS: Final = 2**63 - 1


def parse_duration(text: str) -> float:
    """Seconds in a Go duration: "1h30m" → 5400.0, "100ms" → 0.1, "0" → 0.0.

    A bare number other than 0 has no unit and is refused; more than Go's int64 nanoseconds too. BadValue otherwise.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total = 0
    at = 0
    while at < len(body):
        match = _DURATION_PART.match(body, at)
        if match is None:
            break
        whole, _, fraction = match[1].partition(".")
        unit = _UNIT_NS[match[2]]
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        at = match.end()
    if not body or at != len(body):
        raise BadValue("is not a duration")
    if total > _MAX_NS:
        raise BadValue("is longer than 292 years")
    return (-total if text[0] == "-" else total) / 1e9


def format_duration(seconds: float) -> str:
    """The shortest Go duration of `seconds`, exact to the nanosecond: 5400.0 → "1h30m"."""
    left = round(abs(seconds) * 1e9)
    if left == 0:
        return "0s"
    out = "-" if seconds < 0 else ""
    for unit in ("h", "m"):
        count, left = divmod(left, _UNIT_NS[unit])
        out += f"{count}{unit}" if count else ""
    for unit in ("s", "ms", "us", "ns"):
        if left and (left >= _UNIT_NS[unit]):
            whole, rest = divmod(left, _UNIT_NS[unit])
            digits = str(rest).zfill(len(str(_UNIT_NS[unit])) - 1).rstrip("0") if rest else ""
            return f"{out}{whole}{'.' + digits if digits else ''}{unit}"
    return out


# --- byte sizes -----------------------------------------------------------------------------------------------------

_SIZE: Final = re.compile(r"(\d+)(?:\.(\d+))?\s?([A-Za-z]*)", re.ASCII)
_SIZE_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    name: base**power
    for power, letter in enumerate("kmgtp", start=1)
    for name, base in ((letter, 1000), (letter + "b", 1000), (letter + "i", 1024), (letter + "ib", 1024))
}


def parse_size(text: str) -> int:
    """Bytes in a size: "512" → 512, "64KiB" or "64Ki" → 65536, "8GB" → 8·10⁹. BadValue otherwise."""
    match = _SIZE.fullmatch(text)
    unit = _SIZE_UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise BadValue("is not a byte size")
    fraction = match[2] or ""
    part, rest = divmod(int(fraction or "0") * unit, 10 ** len(fraction))
    if rest:
        raise BadValue("is not a whole number of bytes")
    size: int = int(match[1]) * unit + part
    if size > _MAX_NS:
        raise BadValue("is more than 8 EiB")
    return size


def format_size(size: int) -> str:
    """The largest binary unit that shows `size` exactly: 65536 → "64KiB"."""
    power = 0
    while size and size % 1024 == 0 and power < 5:
        size //= 1024
        power += 1
    return f"{size}{('', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"


# --- URLs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed address. `str()` hides the password; `text` is what was given."""

    scheme: str
    host: str  # without brackets; empty for lmdb:///dir
    port: int | None
    path: str
    query: str
    user: str | None
    password: str | None
    text: str

    @property
    def authority(self) -> str:
        """host:port, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def socket_path(self) -> str:
        """The file that unix://PATH names; "" for other schemes."""
        return self.text.partition("://")[2] if self.scheme == "unix" else ""

    def __str__(self) -> str:
        return self.text if self.password is None else hide_password(self.text)

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


def check_login(text: str) -> None:
    """BadValue if the user or password of a URL holds a character that must be percent-encoded (RFC 3986, 3.2.1).

    An `@` after the authority (in a path or a query) is no sign of a login if the authority has one, or has no colon.
    """
    rest = text.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, _ = (authority if "@" in authority or ":" not in authority else rest).rpartition("@")
    found = next((c for c in login if c in "/?#[]@" or c <= " "), "") if at else ""
    if found:
        raise BadValue(
            f"holds an unescaped {found!r} before its last '@': percent-encode the user and the password "
            f"({found!r} is %{ord(found):02X})"
        )


def parse_url(text: str, schemes: Sequence[str] = ()) -> Url:
    """Parse an absolute URL, refusing schemes not in `schemes` (empty: any). BadValue otherwise."""
    if any(c <= " " or c == "\x7f" for c in text):
        raise BadValue("is not a URL")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        raise BadValue("is not a URL") from None
    try:
        port = parts.port
    except ValueError:
        raise BadValue("has a port that is no number from 0 to 65535") from None
    if not parts.scheme or "://" not in text:
        raise BadValue("has no scheme")
    if schemes and parts.scheme not in schemes:
        raise BadValue(f"has scheme {parts.scheme!r}")
    if parts.netloc.endswith(":") or (not host and not parts.path):
        raise BadValue("has no host" if not host else "has an empty port")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Url(parts.scheme, host, port, parts.path, parts.query, user, password, text)


_SOCKET_PATH_MAX: Final = 107  # bytes of sun_path on Linux, without its NUL


def check_listen_url(flag: str, url: Url) -> None:
    """A URL to listen on is scheme://host:port with an IP address or localhost for host, or unix://PATH of a socket.

    ValueError names the flag.
    """
    if url.scheme == "unix":
        if not 0 < len(url.socket_path.encode()) <= _SOCKET_PATH_MAX:
            raise ValueError(f"--{flag}: {url} must name a socket file, with at most {_SOCKET_PATH_MAX} bytes of path")
        return
    if url.port is None:
        raise ValueError(f"--{flag}: {url} needs a port")
    if url.path not in ("", "/") or url.query or url.user is not None:
        raise ValueError(f"--{flag}: {url} must be scheme://host:port and nothing more")
    if url.host != "localhost":
        try:
            ip_address(url.host)
        except ValueError:
            raise ValueError(f"--{flag}: {url} must name an IP address or localhost to listen on") from None


def is_loopback(url: Url) -> bool:
    """Whether a URL that `check_listen_url` let pass can be reached from this machine only."""
    return url.scheme == "unix" or url.host == "localhost" or ip_address(url.host).is_loopback


# --- the rest, and the parser objects -------------------------------------------------------------------------------

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))  # as Go's strconv.ParseBool, which etcd's flags use
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def parse_bool(text: str) -> bool:
    """A boolean as Go's flags read it. BadValue otherwise."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadValue("is not a boolean")


def _parse_int(text: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII) is None or len(text) > 20:
        raise BadValue("is not a whole number")
    return int(text)


def _parse_float(text: str) -> float:
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is None:
        raise BadValue("is not a number")
    return float(text)


def _non_empty(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


STRING: Final[Parser[str]] = Parser("TEXT", "any text", str)
BOOLEAN: Final[Parser[bool]] = Parser("BOOL", "true or false", parse_bool, lambda v: "true" if v else "false", True)
INTEGER: Final[Parser[int]] = Parser("N", "a whole number", _parse_int)
NUMBER: Final[Parser[float]] = Parser("NUMBER", "a number such as 0.5", _parse_float, repr)
DURATION: Final[Parser[float]] = Parser("DURATION", "100ms, 5s, 1h30m", parse_duration, format_duration)
SIZE: Final[Parser[int]] = Parser("BYTES", "512, 64KiB, 8GiB", parse_size, format_size)
PATH: Final[Parser[Path]] = Parser("PATH", "a path", lambda text: Path(text).expanduser())
FILE: Final[Parser[Path]] = Parser("PATH", "a readable file", PATH.parse, files=lambda path: (path,))
STRINGS: Final[Parser[tuple[str, ...]]] = Parser(
    "A,B", "texts separated by commas", lambda text: tuple(_non_empty(text)), ",".join
)


def integer(minimum: int | None = None, maximum: int | None = None) -> Parser[int]:
    """Whole numbers within bounds, both included."""
    low = "" if minimum is None else f" from {minimum}"
    high = "" if maximum is None else f" up to {maximum}"

    def parse(text: str) -> int:
        value = _parse_int(text)
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            raise BadValue("is out of range")
        return value

    return Parser("N", f"a whole number{low}{high}", parse)


def number(minimum: float, maximum: float) -> Parser[float]:
    """Numbers within bounds, both included."""

    def parse(text: str) -> float:
        value = _parse_float(text)
        if not minimum <= value <= maximum:
            raise BadValue("is out of range")
        return value

    return Parser("NUMBER", f"a number from {minimum:g} to {maximum:g}", parse, repr)


def choice(*names: str) -> Parser[str]:
    """One of a few names."""

    def parse(text: str) -> str:
        if text not in names:
            raise BadValue("is not one of them")
        return text

    return Parser("|".join(names), ", ".join(names), parse)


def url(*schemes: str) -> Parser[Url]:
    """One URL with one of `schemes` (none given: any)."""
    allowed = " or ".join(f"{scheme}://…" for scheme in schemes) or "scheme://host:port"
    return Parser("URL", allowed, lambda text: parse_url(text, schemes), lambda value: value.text)


def urls(*schemes: str) -> Parser[tuple[Url, ...]]:
    """URLs separated by commas, at least one."""
    one = url(*schemes)

    def parse(text: str) -> tuple[Url, ...]:
        found = tuple(one.parse(part) for part in _non_empty(text))
        if not found:
            raise BadValue("is empty")
        return found

    return Parser("URL,URL", f"{one.allowed}, separated by commas", parse, lambda v: ",".join(u.text for u in v))
