"""The connections of this process to the daemon, one for each PC/SC context. Only Linux tells: elsewhere there seem to be none."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress


def to_the_service() -> list[int]:
    """Their descriptors."""
    found = []
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
        with suppress(OSError):
            sock = socket.socket(fileno=int(name))
            try:
                if sock.family == socket.AF_UNIX and str(sock.getpeername()).endswith("pcscd.comm"):
                    found.append(int(name))
            finally:
                sock.detach()
    return found


def unread() -> int:
    """Bytes of requests that the daemon has not read yet: where it is stopped, those of calls that wait for an answer."""
    import fcntl
    import termios  # not on Windows

    return sum(int.from_bytes(fcntl.ioctl(each, termios.TIOCOUTQ, bytes(4)), sys.byteorder) for each in to_the_service())
