"""Another program that uses the same PC/SC service: a child process that makes PC/SC calls on request.

Rules:

- Requests and answers are lines of JSON on the child's standard input and output; it does one at a time, in order.
- The child calls `smartcard.scard` alone, nothing of scardface, so that it is as foreign as a program can be.
- It is ended by its process id: `close` lets it release what it holds, `kill` does not.
- Every answer is waited for with a bound.

Run as a program (`python foreign.py`) this file is the child.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

BOUND = 30.0
"""Seconds that an answer may take."""

EXCLUSIVE, SHARED, DIRECT = 1, 2, 3
LEAVE, RESET, UNPOWER = 0, 1, 2


class ForeignError(Exception):
    """A PC/SC call of the other program failed; `code` is PC/SC's, unsigned."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call} of the other program: 0x{code:08X}")
        self.code = code


class Foreign:
    """The other program. Its methods block until it has answered; `ask` and `answer` are for calls that themselves wait."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="foreign program", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The other program's process id."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, call: str, **arguments: Any) -> None:
        """Sends a request and does not wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")

    def answer(self, timeout: float = BOUND) -> Any:
        """The next answer; ForeignError if the call failed, queue.Empty if it did not answer in time."""
        line = self._answers.get(timeout=timeout)
        assert line, "the other program has ended"
        answer = json.loads(line)
        if answer["code"]:
            raise ForeignError(answer["call"], answer["code"])
        return answer["value"]

    def do(self, call: str, **arguments: Any) -> Any:
        """A request and its answer."""
        self.ask(call, **arguments)
        return self.answer()

    def establish(self) -> None:
        """SCardEstablishContext."""
        self.do("establish")

    def connect(self, reader: str, share: int = EXCLUSIVE, protocols: int = 3) -> int:
        """SCardConnect; the protocol it settled on. Establishes a context first if there is none."""
        protocol: int = self.do("connect", reader=reader, share=share, protocols=protocols)
        return protocol

    def begin(self) -> None:
        """SCardBeginTransaction."""
        self.do("begin")

    def end(self, disposition: int = LEAVE) -> None:
        """SCardEndTransaction."""
        self.do("end", disposition=disposition)

    def transmit(self, data: bytes) -> bytes:
        """SCardTransmit with the protocol of the connection."""
        return bytes.fromhex(self.do("transmit", data=data.hex()))

    def reconnect(self, disposition: int = RESET, share: int = SHARED, protocols: int = 3) -> None:
        """SCardReconnect; resets the card unless told otherwise."""
        self.do("reconnect", disposition=disposition, share=share, protocols=protocols)

    def disconnect(self, disposition: int = LEAVE) -> None:
        """SCardDisconnect."""
        self.do("disconnect", disposition=disposition)

    def release(self) -> None:
        """SCardReleaseContext."""
        self.do("release")

    def kill(self) -> None:
        """Ends the program at once, with all that it holds."""
        self._process.kill()
        self._finish()

    def close(self) -> None:
        """Lets the program end as programs do; kills it if it does not within the bound. Once ended, does nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._finish()

    def _finish(self) -> None:
        self._process.wait(BOUND)
        self._reader.join(BOUND)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def running() -> Iterator[Foreign]:
    """A foreign program for the length of a block."""
    program = Foreign()
    try:
        yield program
    finally:
        program.close()


def _serve() -> None:
    """The child: does what it is asked until its input ends, then releases what it holds."""
    from smartcard import scard

    context = card = protocol = 0
    for line in sys.stdin:
        request = json.loads(line)
        call, code, value = request["call"], 0, None
        if call in ("establish", "connect") and not context:
            code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if call == "connect" and not code & 0xFFFFFFFF:
            code, card, protocol = scard.SCardConnect(context, request["reader"], request["share"], request["protocols"])
            value = protocol
        elif call == "begin":
            code = scard.SCardBeginTransaction(card)
        elif call == "end":
            code = scard.SCardEndTransaction(card, request["disposition"])
        elif call == "transmit":
            pci = {1: scard.SCARD_PCI_T0, 2: scard.SCARD_PCI_T1}[protocol]
            code, answer = scard.SCardTransmit(card, pci, list(bytes.fromhex(request["data"])))
            value = "" if code else bytes(answer).hex()
        elif call == "reconnect":
            code, protocol = scard.SCardReconnect(card, request["share"], request["protocols"], request["disposition"])
        elif call == "disconnect":
            code = scard.SCardDisconnect(card, request["disposition"])
        elif call == "release":
            code = scard.SCardReleaseContext(context)
            context = 0
        print(json.dumps({"call": call, "code": code & 0xFFFFFFFF, "value": value}), flush=True)
    if context:
        scard.SCardReleaseContext(context)


if __name__ == "__main__":
    _serve()
