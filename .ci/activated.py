"""One program of .ci/socket_activation: starts pcscd as systemd does, when somebody calls, and calls around the second of its exit.

`activated.py NUMBER OF`: the call comes by NUMBER of OF parts of a second and a half that begins half a second before the exit.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

from scardface.sync import readers

EXIT = 60.0
"""Seconds after its last user has left that pcscd ends (TIME_BEFORE_SUICIDE in its pcscd.h.in)."""
PCSCD = "/usr/sbin/pcscd"

warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork in a program with threads: the child executes pcscd at once
starts: list[float] = []


def serve(listener: socket.socket) -> None:
    """Start pcscd whenever somebody calls while none runs, with the listening socket as its descriptor 3 (sd_listen_fds(3))."""
    while True:
        select.select([listener], [], [])
        starts.append(time.monotonic())
        child = os.fork()
        if not child:
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)  # where it was 3 already
            environment = {"PATH": "/usr/sbin:/usr/bin", "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
            os.execve(PCSCD, [PCSCD, "--foreground", "--auto-exit", *sys.argv[3:]], environment)
        os.waitpid(child, 0)


def main(number: int, of: int) -> None:
    Path("/run/pcscd").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/run/pcscd/pcscd.comm")
    listener.listen()
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    first = readers()
    left = time.monotonic()
    after = EXIT - 0.5 + 1.5 * number / of
    time.sleep(left + after - time.monotonic())
    try:
        second = readers()
    except Exception as error:
        sys.exit(f"{after:.3f} s after the last call: {type(error).__name__}: {error}")
    if second != first or not first:
        sys.exit(f"{after:.3f} s after the last call: {second}, first {first}")
    print(f"{after:.3f} s after the last call: answered, by {'a new' if len(starts) > 1 else 'the same'} pcscd")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
