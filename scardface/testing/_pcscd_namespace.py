"""The process that keeps a private pcscd in namespaces of its own. It is run as a program and imports nothing of the package.

Rules:

- `unshare` starts it in new mount and network namespaces. There, the owner's folder is /run, and the folder of the reader drivers
  holds only copies of vpcd's, so that this pcscd never uses a real reader.
- vpcd listens on all interfaces. The network namespace has the loopback interface only, so nothing outside can connect.
- The owner can: standard input is a socket to it (SOCK_SEQPACKET). The daemon's pid is sent first. Each "socket" is answered with a
  TCP socket made here, which belongs to this network wherever it is used. "terminate" and "kill" send signals to the daemon.
- End of file means that the owner has ended, in whatever way: the daemon is killed and the folder removed.
- The daemon ends with this process, and this process with the daemon.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)
_IFREQ = struct.Struct("16sH22x")


def raise_loopback() -> None:
    """Switch on the loopback interface of this network namespace, which is down at first."""
    import fcntl  # Unix alone has it, and every module can be imported everywhere

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        _, flags = _IFREQ.unpack(answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


def lay_out(folder: str, driver: Path, copies: int) -> None:
    """Mount the owner's folder as /run, and `copies` of the driver (0.so, 1.so, ...) over the folder of all drivers."""
    content = driver.read_bytes()
    drivers = driver.parent.parent
    subprocess.run(["mount", "--bind", folder, "/run"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(drivers)], check=True)
    for number in range(copies):
        (drivers / f"{number}.so").write_bytes(content)


def serve(owner: socket.socket, daemon: subprocess.Popen[bytes]) -> None:
    """Do what the owner asks, until it ends."""
    with contextlib.suppress(OSError):  # a broken connection means the same as its end
        while request := owner.recv(16):
            if request == b"socket":
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made_here:
                    socket.send_fds(owner, [request], [made_here.fileno()])
            elif request == b"terminate":
                daemon.terminate()
            elif request == b"kill":
                daemon.kill()


def main(folder: str, driver: str, copies: str, *command: str) -> None:
    """Prepare the namespaces, run the daemon's `command` in them, serve the owner, end with the daemon."""
    try:
        raise_loopback()
        lay_out(folder, Path(driver), int(copies))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"namespace: {error}")
    with socket.socket(fileno=sys.stdin.fileno()) as owner:
        daemon = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
        owner.send(str(daemon.pid).encode())
        owner_gone = threading.Event()

        def follow_owner() -> None:
            serve(owner, daemon)
            owner_gone.set()
            daemon.kill()

        follower = threading.Thread(target=follow_owner)
        follower.start()
        daemon.wait()
        nobody_cleans_up = owner_gone.is_set()
        owner.shutdown(socket.SHUT_RDWR)
        follower.join()
    if nobody_cleans_up:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
