"""OpenSSL's session cache, which Python's `ssl` gives no access to.

`SSL_CTX_ctrl` is looked up in the libssl that `_ssl` itself is linked to, and gets the SSL_CTX pointer out of CPython's
context object. With another layout the pointer would be a wrong one, so this is done only with the versions of CPython
whose layout is known. Elsewhere, and where a build hides the symbol, nothing is changed: `tls.server_context` refuses
resumed handshakes by its callback, which is enough. It makes a difference to clients of TLS 1.2 that resume by session
ID: without the cache they get a full handshake, with it they are refused.

Sources: openssl/ssl.h; CPython's Modules/_ssl.c, PySSLContext.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
import sys
import sysconfig
from typing import Any, Final

SESSION_CACHE_OFF: Final = 0  # SSL_SESS_CACHE_OFF
_SET_SESSION_CACHE_MODE: Final = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_GET_SESSION_CACHE_MODE: Final = 45  # SSL_CTRL_GET_SESS_CACHE_MODE

KNOWN_LAYOUTS: Final = frozenset(((3, 11),))  # versions of CPython where `SSL_CTX *ctx` follows the object header


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
    call = _find_control() if _is_layout_known() else None
    if call is None:
        return None
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return int(call(pointer, command, SESSION_CACHE_OFF, None))


def _is_layout_known() -> bool:
    """Builds with Py_TRACE_REFS, Py_DEBUG or without the GIL have another object header."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in KNOWN_LAYOUTS:
        return False
    return not any(map(sysconfig.get_config_var, ("Py_DEBUG", "Py_TRACE_REFS", "Py_GIL_DISABLED")))


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
