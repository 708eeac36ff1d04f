"""The manual's table of fields, written from the table that documents are read by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING
from enum import Enum
from typing import Any, Final

from wharf.gateway.api.fields import Field, Listing, Shape, plain
from wharf.gateway.api.layout import SPEC
from wharf.gateway.api.shapes import KIND

FILE: Final = "docs/upstreamcluster.md"
_HEAD: Final = """# UpstreamCluster: every field

<!-- Written by `scripts/gateway_api.py` from the gateway's table of fields; not edited by hand. -->

An `UpstreamCluster` (`proxy.wharf.dev/v1alpha1`, no namespace, short name `uc`) is one cluster behind the gateway. Its
name is its first hostname. The same document is read from the home cluster's API and from files of a watched directory.
Times are seconds, fractions allowed. A field in bold is required. What the fields are for: [gateway.md](gateway.md).
"""
_TAIL: Final = """
## Materials

A certificate, key or CA is given in one of three ways; a token likewise, with `value` for `pem`:

```yaml
ca: {pem: "-----BEGIN CERTIFICATE-----…"}                         # inline
ca: {secretRef: {namespace: wharf, name: blue, key: ca.crt}}      # an entry of a Secret; key defaults to ca.crt,
                                                                  # tls.crt, tls.key or token
ca: {file: blue/ca.crt}                                           # a file beside the documents of a watched directory
```

A change of a Secret or file is taken up at once; connections under way go on. While it is missing or unusable the last
good one stays, and the object's `Accepted` condition says why.

## Rules

All fields of a rule must match, any value of a field will do, any rule of a policy will do, and the first policy that
matches decides. A field that is left out matches everything. `*` is everything, `x*` everything that begins with `x`.
`-x` excludes: a value passes when no exclusion matches it and, if the field has other values too, one of those does. Of
a user's groups one must match and none may be excluded. A rule is either for resources or for `nonResourceURLs`.

With `authentication.tokens: PassThrough` only the server knows whose a bearer token is. A request with one matches no
rule that names users, groups or service accounts (`*` alone names none), neither to include nor to exclude. Therefore a
policy with `deny` may name them only with `tokens: Review`, or to deny exactly `system:anonymous` or
`system:unauthenticated`.

## Status

`kubectl get uc` shows how many servers are ready for every gateway, whether the object is accepted, and whether every
gateway has a server. `status.gateways[]` holds what each gateway sees, server by server; each writes only its own entry
(server-side apply), at most every few seconds, and one that falls silent is removed after some minutes.
When two objects claim the same hostname or address, the older keeps it, and the other's `Accepted` condition is `False`
with reason `Conflict`. Documents of a watched directory have no age. There the cluster that is served already keeps
what it claims; a new document that claims it too, or has the same name, is refused. At a start the first by name keeps
it, and of two documents with one name the one in the first file. `wharf gateway check DIR` names both.
"""


def reference() -> str:
    """docs/upstreamcluster.md."""
    return "\n".join((_HEAD, *_sections(SPEC, "spec", SPEC.of))) + _TAIL


def _sections(shape: Shape, path: str, maker: Callable[..., Any] | None) -> Iterator[str]:
    yield f"## {path}\n"
    if path == "spec":
        yield f"What an {KIND} asks for.\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for one in shape.fields:
        name = f"**{one.name}**" if one.required else one.name
        yield f"| {name} | {_type(one)} | {_default(shape, one, maker)} | {_cell(one.help)} |"
    if shape.constraints:
        yield ""
    for rule in shape.constraints:
        yield f"- {rule.message[0].upper()}{rule.message[1:]}."
    yield ""
    for one in shape.fields:
        inner, suffix = (one.kind.item, "[]") if isinstance(one.kind, Listing) else (one.kind, "")
        if isinstance(inner, Shape) and not _material(inner):
            group = inner.make is None and inner.of is None
            yield from _sections(inner, f"{path}.{one.name}{suffix}", (shape.of or shape.make) if group else None)


def _type(one: Field) -> str:
    inner = one.kind.item if isinstance(one.kind, Listing) else one.kind
    if isinstance(inner, Shape) and _material(inner):
        return "[material](#materials)"
    return one.kind.word


def _material(shape: Shape) -> bool:
    return bool(shape.only_files)


def _default(shape: Shape, one: Field, maker: Callable[..., Any] | None) -> str:
    if one.required:
        return ""
    if one.shown_default:
        return _cell(one.shown_default)
    default = shape.default_of(one, maker)
    if default is MISSING or default in (None, (), ""):
        return ""
    if isinstance(default, Enum):
        return str(default.value)
    return str(default).lower() if isinstance(default, bool) else f"{plain(default)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
