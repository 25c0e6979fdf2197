"""The place of the real measurements: a private pcscd with virtual cards, all of it in processes of their own.

Rules:

- The measured process shares nothing with the cards: neither the interpreter's lock nor an event loop. It has a pipe to the process
  that owns the daemon and the cards, and uses PC/SC as any program does.
- A card takes a constant time for each command, 0 or 5 ms (as a real card does), and answers as many bytes as P1-P2 say.
- A place is opened before the process's first PC/SC call, since libpcsclite settles on a service then; a process has one place.
- What would make it unfair: cards of different speed, cards that compute, a driver that is polled more for one than for another.
  All readers are of the same make, and where it can be, all contenders use the same card.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from scardface.testing import PrivatePcscd, VirtualCard

__all__ = ["Place", "REAL_CARD"]

REAL_CARD = 0.005
"""Seconds that a command takes on a card as they are."""

_ROOT = Path(__file__).resolve().parents[1]
_LONGEST = 65_533


class ConstantCard(VirtualCard):
    """Answers P1-P2 bytes of data (65,533 at most) and 9000, after a constant time."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._answers: dict[bytes, bytes] = {}

    def process(self, command: bytes) -> bytes:
        if self._latency:
            time.sleep(self._latency)
        wanted = command[2:4]
        answer = self._answers.get(wanted)
        if answer is None:
            answer = self._answers[wanted] = bytes(min(int.from_bytes(wanted, "big"), _LONGEST)) + b"\x90\x00"
        return answer


class Place:
    """A private pcscd beside this process: `with Place(2) as place:`, then `insert` and `remove`.

    Attributes:
        readers: the readers' names.
    """

    readers: tuple[str, ...] = ()

    def __init__(self, readers: int = 2) -> None:
        """Prepare it.

        Args:
            readers: an even number up to 16.
        """
        self._count = readers

    def __enter__(self) -> Place:
        command = [sys.executable, "-m", "benchmarks._place", str(self._count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        try:
            opened = self._answer()
        except BaseException:
            self._end()
            raise
        self.readers = tuple(opened["readers"])
        os.environ["PCSCLITE_CSOCK_NAME"] = opened["socket"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._end()

    def insert(self, reader: int, latency: float = 0.0, *, seen: bool = True) -> None:
        """Put a card into a reader.

        Args:
            reader: index in `readers`.
            latency: seconds that each of its commands takes.
            seen: return once PC/SC reports it, rather than at once.
        """
        self._ask(do="insert", reader=reader, latency=latency, seen=seen)

    def remove(self, reader: int, *, seen: bool = True) -> None:
        """Take the card out; `seen` as for `insert`."""
        self._ask(do="remove", reader=reader, seen=seen)

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the place has ended: the reason stands in what it wrote to standard error")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the place: {answer['error']}")
        return answer

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # which ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _serve(readers: int) -> None:
    """The process of the place: do what the lines of standard input say until it ends."""
    with PrivatePcscd(readers) as pcscd:
        print(json.dumps({"readers": pcscd.readers, "socket": os.environ["PCSCLITE_CSOCK_NAME"]}), flush=True)
        for line in sys.stdin:
            print(json.dumps(_done(pcscd, json.loads(line))), flush=True)


def _done(pcscd: PrivatePcscd, request: dict[str, Any]) -> dict[str, Any]:
    reader = request["reader"]
    try:
        if request["do"] == "insert":
            pcscd.insert(reader, ConstantCard(request["latency"]))
            if request["seen"]:
                pcscd.wait_for_card(reader)
        else:
            pcscd.remove(reader)
            if request["seen"]:
                pcscd.wait_for_removal(reader)
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    return {}


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
