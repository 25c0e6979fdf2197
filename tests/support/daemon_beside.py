"""A private pcscd for tests that run under Wine: it runs beside them, on the Linux side, and the tests steer it over TCP.

`python -m tests.support.daemon_beside COMMAND...` runs COMMAND with a server of daemons beside it, on a port of the loopback
interface that the environment variable SCARDFACE_DAEMON_BESIDE names, and ends with COMMAND's exit status.

Rules:

- Wine's winscard.dll calls Linux' libpcsclite, which takes the socket of its service from PCSCLITE_CSOCK_NAME. That is set for
  COMMAND, and its daemons have that one name, so COMMAND runs in one process and has one daemon at a time.
- A request is a line of JSON on a connection of its own; the answer is another. After the answer to "connect" the connection is
  that of a virtual card to its reader. So cards are objects of the process that the tests run in, as elsewhere.
- A daemon that is still there when COMMAND ends is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any, Literal

from scardface.testing import PcscdUnavailable, _pcscd_process, _private_pcscd

VARIABLE = "SCARDFACE_DAEMON_BESIDE"
BOUND = 60.0
"""Seconds that a request may take."""


class DaemonBeside:
    """As `scardface.testing._pcscd_process.Daemon`; its methods ask the server."""

    def __init__(self, readers: tuple[str, ...]) -> None:
        answer = _asked("start", readers=readers)
        if "error" in answer:
            raise PcscdUnavailable(answer["error"])
        self.pid: int = answer["pid"]

    def alive(self) -> bool:
        return bool(_asked("alive", pid=self.pid)["alive"])

    def log(self) -> str:
        return str(_asked("log", pid=self.pid)["log"])

    def connect(self, slot: int) -> socket.socket:
        connection, answer = _open("connect", pid=self.pid, slot=slot)
        if "error" in answer:
            connection.close()
            raise ConnectionError(answer["error"])
        connection.settimeout(None)
        return connection

    def end(self, how: Literal["terminate", "kill"]) -> None:
        _asked("end", pid=self.pid, how=how)


def use_it() -> None:
    """In the tests' process: a PrivatePcscd is a daemon beside from now on."""
    _private_pcscd.Daemon = DaemonBeside  # type: ignore[assignment,misc]


def _open(do: str, **arguments: Any) -> tuple[socket.socket, dict[str, Any]]:
    connection = socket.create_connection(("127.0.0.1", int(os.environ[VARIABLE])), BOUND)
    try:
        connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):  # byte by byte: what follows is the card's
            byte = connection.recv(1)
            if not byte:
                raise ConnectionError("the server of daemons has ended")
            line += byte
        answer: dict[str, Any] = json.loads(line)
    except BaseException:
        connection.close()
        raise
    return connection, answer


def _asked(do: str, **arguments: Any) -> dict[str, Any]:
    connection, answer = _open(do, **arguments)
    connection.close()
    return answer


_daemons: dict[int, _pcscd_process.Daemon] = {}


def _do(do: str, pid: int = 0, readers: Iterable[str] = (), slot: int = 0, how: Any = "") -> dict[str, Any]:
    """Do what is asked; the answer. A "socket" in it is a connection to a reader."""
    if do == "start":
        daemon = _pcscd_process.Daemon(tuple(readers))
        _daemons[daemon.pid] = daemon
        return {"pid": daemon.pid}
    daemon = _daemons[pid]
    if do == "alive":
        return {"alive": daemon.alive()}
    if do == "log":
        return {"log": daemon.log()}
    if do == "end":
        daemon.end(how)
        return {}
    return {"socket": daemon.connect(slot)}


class _Request(socketserver.StreamRequestHandler):
    rbufsize = 0  # what follows the line is the card's

    def handle(self) -> None:
        try:
            answer = _do(**json.loads(self.rfile.readline()))
        except (OSError, PcscdUnavailable) as error:
            answer = {"error": str(error)}
        reader: socket.socket | None = answer.pop("socket", None)
        self.wfile.write(json.dumps(answer).encode() + b"\n")
        if reader is not None:
            with reader:
                back = threading.Thread(target=_pass_on, args=(self.connection, reader))
                back.start()
                _pass_on(reader, self.connection)
                back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, at once, up to the end of either."""
    with contextlib.suppress(OSError):
        for each in (source, target):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            part = source.recv(65536)
            if not part:
                break
            target.sendall(part)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def main(*command: str) -> int:
    """Run the command with the server beside it; its exit status."""
    environment = dict(os.environ)
    os.environ["SCARDFACE_BINDING"] = "ctypes"  # here; the command has its own
    _pcscd_process._folder()  # sets the variable for libpcsclite
    with _Server(("127.0.0.1", 0), _Request) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            environment["PCSCLITE_CSOCK_NAME"] = os.environ["PCSCLITE_CSOCK_NAME"]
            environment[VARIABLE] = str(server.server_address[1])
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            server.shutdown()
            for daemon in _daemons.values():
                daemon.end("kill")
            _pcscd_process.remove_folder()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
