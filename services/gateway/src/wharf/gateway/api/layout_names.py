"""The kinds of names in documents: hosts, objects, rule values, materials. Patterns mean the same in RE2 and Python."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final

from wharf.gateway.api.fields import Constraint, Field, Problem, Shape, Text, Values
from wharf.gateway.api.pem import CHECKS
from wharf.gateway.api.shapes import Address, Material

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
PEM_LONGEST: Final = 65_536
USUAL_KEYS: Final[Mapping[str, str]] = {
    "certificate": "tls.crt",
    "key": "tls.key",
    "ca": "ca.crt",
    "token": "token",
}


def _address(text: str) -> Address:
    found = ip_address(text)
    mapped = isinstance(found, IPv6Address) and (found.ipv4_mapped is not None or found.scope_id is not None)
    if mapped or str(found) != text:
        raise ValueError(text)
    return found


HOSTNAME: Final = Text(
    rf"^(\*\.)?{_SUBDOMAIN}$", "a lower-case DNS name, or one whose first label is *", longest=253, shortest=1
)
DNS_NAME: Final = Text(rf"^{_SUBDOMAIN}$", "a lower-case DNS name", shortest=1)
ADDRESS: Final = Text(
    "",
    "an IP address in its shortest form",
    longest=45,
    shortest=2,
    convert=_address,
    cel="isIP(self) && ip.isCanonical(self)",
)
OBJECT: Final = Text(rf"^{_SUBDOMAIN}$", "a Kubernetes name (lower-case DNS name)", shortest=1)
NAMESPACE: Final = Text(rf"^{_LABEL}$", "a namespace (lower-case DNS label)", longest=63, shortest=1)
NAME: Final = Text(
    r"^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$", "letters, digits and inner - _ . :", longest=128, shortest=1
)
SERVER_NAME: Final = Text(
    r"^[A-Za-z0-9\[]([-A-Za-z0-9_.:\]]*[A-Za-z0-9\]])?$", "a server's name: host:port, or a word", 263, 1
)
SECRET_KEY: Final = Text(r"^[-._a-zA-Z0-9]+$", "an entry of a Secret", longest=253, shortest=1)
PORT: Final = Text(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)$", "a port's name or number", longest=15, shortest=1)
ZONE: Final = Text(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", "a zone (a label value)", longest=63, shortest=1)
SERVER_URL: Final = Text(
    r"^https?://([a-z0-9]([-a-z0-9.]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?$",
    "https://host:port (or http://), in lower case and without a path",
    longest=300,
    shortest=8,
)
PATH: Final = Text(r"^/[!-~]*$", "an absolute path of visible ASCII characters", longest=1024, shortest=1)
MESSAGE: Final = Text(r"^[^\x00-\x1f\x7f]*$", "one line of text", longest=1024)
WORD: Final = Text(r"^[A-Za-z][A-Za-z0-9_]*$", "a word", longest=63, shortest=1)
AUDIENCE: Final = Text(r"^[!-~]+$", "visible ASCII characters", longest=253, shortest=1)

_VERBS: Final = "get|list|watch|create|update|patch|delete|deletecollection|proxy|post|put|head|options|connect|trace"
_RESOURCE: Final = _LABEL
VERB: Final = Text(
    rf"^(\*|-?({_VERBS}))$", "a verb of Kubernetes, or a method in lower case; - before it excludes", longest=20
)
API_GROUP: Final = Text(rf"^(\*|-?({_SUBDOMAIN})?)$", 'an API group ("" is the core group), * or -group')
RESOURCE: Final = Text(
    rf"^(\*|-?({_RESOURCE}(/({_RESOURCE}|\*))?|\*/{_RESOURCE}))$",
    "a resource: pods, pods/log, pods/*, */status, * or - before one of them",
    shortest=1,
)
_ANY: Final = r"^(\*|[^-*\x00-\x1f][^*\x00-\x1f]*\*?|-[^*\x00-\x1f]+\*?)$"
RESOURCE_NAME: Final = Text(_ANY, "a name, a prefix*, * or - before one of them", shortest=1)
PRINCIPAL: Final = Text(_ANY, "a name, a prefix*, * or - before one of them", shortest=1, longest=512)
RULE_NAMESPACE: Final = Text(
    r"^(\*|-?[a-z0-9][-a-z0-9]*\*?|-?)$", 'a namespace, a prefix*, "" for what has none, * or - before one', longest=64
)
SERVICE_ACCOUNT: Final = Text(
    r"^(\*|-?[a-z0-9][-a-z0-9]*/(\*|[a-z0-9][-a-z0-9.]*\*?))$",
    "namespace/name, namespace/prefix*, namespace/*, * or - before one of them",
    shortest=1,
    longest=320,
)
URL: Final = Text(
    r"^(\*|-?/[^*\x00-\x20?#]*\*?)$", "a path, a path prefix*, * or - before one of them", shortest=1, longest=512
)


def material(what: str) -> Shape:
    """A certificate, key, CA or token: inline, from a Secret, or from a file where documents are files."""
    inline = "value" if what == "token" else "pem"
    usual = USUAL_KEYS[what]

    def made(text: bytes = b"", secret: tuple[str, str, str] = ("", "", ""), file: str = "") -> Material:
        namespace, name, key = secret
        reference = (namespace, name) if name else None
        return Material(text, reference, (key or usual) if name else "", file)

    return Shape(
        (
            Field(inline, _inline(what), f"The {what} itself{'' if what == 'token' else ', PEM'}.", attribute="text"),
            Field(
                "secretRef", _secret_reference(usual), "An entry of a Secret of the home cluster.", attribute="secret"
            ),
            Field("file", Text("", longest=4096, shortest=1), "A file; only in documents of a watched directory."),
        ),
        made,
        (_exactly_one(inline),),
        only_files=frozenset(("file",)),
    )


def _inline(what: str) -> Text:
    check = CHECKS[what]

    def convert(text: str) -> bytes:
        encoded = text.encode().strip() if what == "token" else text.encode()
        check(encoded)
        return encoded

    if what == "token":
        return Text(r"^\s*[!-~]+\s*$", "a token", PEM_LONGEST, 1, convert, secret=True)
    return Text("", "", PEM_LONGEST, 1, convert, cel="self.contains('-----BEGIN ')", secret=True)


def _secret_reference(usual: str) -> Shape:
    def made(namespace: str, name: str, key: str = "") -> tuple[str, str, str]:
        return namespace, name, key

    return Shape(
        (
            Field("namespace", NAMESPACE, "Namespace of the Secret.", required=True),
            Field("name", OBJECT, "Name of the Secret.", required=True),
            Field("key", SECRET_KEY, "Entry of the Secret.", shown_default=usual),
        ),
        made,
    )


def _exactly_one(inline: str) -> Constraint:
    message = f"needs exactly one of {inline}, secretRef"

    def find(values: Values) -> list[Problem]:
        return [] if len(values) == 1 else [Problem("", f"{message}, file")]

    return Constraint(f"has(self.{inline}) != has(self.secretRef)", message, find)
