"""OpenSSL's session cache, which Python's `ssl` gives no access to.

`SSL_CTX_ctrl` is looked up in the libssl that `_ssl` itself is linked to. Where a build of Python hides that symbol,
nothing is changed; `tls.server_context` then refuses resumed handshakes by its callback. Source: openssl/ssl.h.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
from typing import Any, Final

SESSION_CACHE_OFF: Final = 0  # SSL_SESS_CACHE_OFF
_SET_SESSION_CACHE_MODE: Final = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_GET_SESSION_CACHE_MODE: Final = 45  # SSL_CTRL_GET_SESS_CACHE_MODE


def disable_session_cache(context: ssl.SSLContext) -> bool:
    """Turn the cache of sessions off; False when this build of Python gives no way to do so."""
    if session_cache_mode(context) is None:
        return False
    _control(context, _SET_SESSION_CACHE_MODE)
    return session_cache_mode(context) == SESSION_CACHE_OFF


def session_cache_mode(context: ssl.SSLContext) -> int | None:
    """The SSL_SESS_CACHE_* bits of a context; None when they cannot be read."""
    return _control(context, _GET_SESSION_CACHE_MODE)


def _control(context: ssl.SSLContext, command: int) -> int | None:
    call = _find_control()
    if call is None:
        return None
    # CPython's context object is the object header followed by its SSL_CTX pointer.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return int(call(pointer, command, SESSION_CACHE_OFF, None))


@functools.cache
def _find_control() -> Any:
    try:
        import _ssl  # noqa: PLC0415 - its file names the libssl in use

        call = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl
    except (AttributeError, ImportError, OSError):
        return None
    call.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    call.restype = ctypes.c_long
    return call
