"""One health question to a part, answered within a short time; never raises."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from wharf.cli.embedded.plan import Health

_TIMEOUT = 3.0  # seconds; everything asked is on this machine
_SHOWN = 120  # characters of a bad answer


def ask(health: Health) -> str | None:
    """None when the part is well, else what is wrong in a few words."""
    parts = urlsplit(health.url)
    host, port = parts.hostname or "", parts.port or 0
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=_context(health))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        try:
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            body = answer.read(_SHOWN).decode("utf-8", "replace")
        finally:
            connection.close()
    except ConnectionRefusedError:
        return "does not listen"
    except TimeoutError:
        return f"no answer in {_TIMEOUT:.0f} s"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    if answer.status == http.HTTPStatus.OK:
        return None
    return f"answers {answer.status} {' '.join(body.split())}"


def _context(health: Health) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=health.ca)
    if health.cert is not None:
        context.load_cert_chain(health.cert, health.key)
    return context
