"""Socket files to listen on: for their own user only, replaced when their process is gone, removed at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from wharf.wire.tcp import ListenError

_MODE = 0o600  # who may connect may do everything that the listener offers


def bind_unix(path: str) -> socket.socket:
    """A bound, non-blocking socket at `path`. A socket file that no process serves any more is replaced.

    ListenError names the path: EADDRINUSE when a process serves it, EEXIST when the file is no socket.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX)
    os.fchmod(sock.fileno(), _MODE)  # Linux gives a socket file the mode of its socket: there is no moment of another
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise _listen_error(error.errno, path, error.strerror) from error
    sock.setblocking(False)
    return sock


def remove_socket_file(path: str, inode: int) -> None:
    """Remove the file if it is still this one: another process may have made its own there meanwhile."""
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _listen_error(error.errno, path, error.strerror) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise _listen_error(errno.EEXIST, path, "the file is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer != errno.ECONNREFUSED:
        raise _listen_error(errno.EADDRINUSE, path, "a running process serves it or may serve it")
    remove_socket_file(path, found.st_ino)


def _listen_error(number: int | None, path: str, reason: str | None) -> ListenError:
    return ListenError(number, "", 0, reason, path)
