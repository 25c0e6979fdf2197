"""A program that is interrupted by Ctrl-C of another process, again and again, each time at another moment of the same call.

`python -m tests.support.interrupted CALL COUNT WHERE`, with WHERE "simulation", or a reader of the pcscd that the environment
names.
It prints what went wrong, or how often it was interrupted in how many calls. After each interrupt the card must be usable at once:
from another thread, by another program, and where it was closed, by the next SCard.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from scardface import C_APDU, Protocol, SCardError, ShareMode
from scardface._pcsc.backend import Backend, Context
from scardface._pcsc.binding_choice import default_backend, system_pcsc
from scardface.sync import SCard
from scardface.testing import SimulatedPCSC
from tests.support.cards import ECHO, LogCard

BOUND = 60.0
"""Seconds that a hang exceeds on the busiest machine: by then all must be well again."""
AGAIN = 1.0
"""Seconds until somebody presses Ctrl-C again."""
LONGEST = {"simulation": 0.002}
"""Seconds after which an interrupt comes at the latest, by place."""
SAY = C_APDU(0, ECHO, 0, 0, b"x", 256)

SHOOTER = """
import os, random, signal, sys, time
while os.read(0, 1):
    end = time.perf_counter() + random.random() * float(sys.argv[2])
    while time.perf_counter() < end: pass
    os.kill(int(sys.argv[1]), signal.SIGINT)
    os.write(1, b".")
"""


wanted: list[bool] = []
"""Not empty while an interrupt is wanted: to be emptied where one is handled, since on a busy machine another may be on its way."""


def interrupt_if_wanted(*_: object) -> None:
    """A signal's handler."""
    if wanted:
        raise KeyboardInterrupt


def send(card: SCard) -> None:
    card.send(SAY)


def send_several(card: SCard) -> None:
    card.send(SAY, SAY, callback=lambda *_: None)


def send_in_time(card: SCard) -> None:
    card.send(SAY, timeout=BOUND)


def send_several_in_time(card: SCard) -> None:
    card.send(SAY, SAY, callback=lambda *_: None, timeout=BOUND)


def present(card: SCard) -> None:
    with card.while_present():
        card.send(SAY)


def transmit(card: SCard) -> None:
    card.transmit(bytes(SAY))


def transaction(card: SCard) -> None:
    with card.transaction():
        card.send(SAY)
        with card.transaction():
            card.transmit(bytes(SAY))


CALLS: dict[str, Callable[[SCard], None]] = {
    "send": send,
    "send_several": send_several,
    "send_in_time": send_in_time,
    "send_several_in_time": send_several_in_time,
    "present": present,
    "transmit": transmit,
    "transaction": transaction,
}


class Neighbour:
    """Another program's handle on the card, which tells whether somebody keeps it out."""

    def __init__(self, backend: Backend, reader: str) -> None:
        self._context: Context = backend.establish()
        self._handle = self._context.connect(reader, ShareMode.SHARED, Protocol.T0 | Protocol.T1)

    def close(self) -> None:
        """Leave."""
        self._context.release()

    def reach(self) -> None:
        """Reach the card, within a moment."""
        end = time.monotonic() + BOUND
        while True:
            try:
                self._handle.begin_transaction()
                self._handle.end_transaction(0)  # type: ignore[arg-type]  # LEAVE
                return
            except SCardError:
                assert time.monotonic() < end, "kept out"


def in_another_thread(what: Callable[[], object], words: str) -> None:
    """Whether `what` works in a thread of its own, within the bound."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            what()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(BOUND)
    if thread.is_alive():
        raise AssertionError(f"{words}: it hangs")
    if failures:
        raise AssertionError(f"{words}: {failures[0]!r}")


class Shooter:
    """A process that presses Ctrl-C at a random moment each time that it is asked to."""

    def __init__(self, longest: float) -> None:
        command = [sys.executable, "-c", SHOOTER, str(os.getpid()), str(longest)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._ask, self._hear = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._asked = self._fired = 0

    def shoot(self) -> None:
        """Ask it to."""
        self._asked += 1
        os.write(self._ask, b"x")

    def be_missed(self) -> None:
        """Return when it has pressed as often as it was asked to; one that was interrupted already does not notice the rest."""
        while self._fired < self._asked:
            self._fired += len(os.read(self._hear, 64))

    def __enter__(self) -> Shooter:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def interrupt(shooter: Shooter, do: Callable[[], object]) -> int:
    """Do it until an interrupt comes; how often it was done. Python drops one that meets it in a finalizer: then comes another."""
    done: list[None] = []
    try:
        wanted.append(True)
        shooter.shoot()
        _repeat(shooter, do, done)
    except KeyboardInterrupt:
        wanted.clear()
        shooter.be_missed()
    return len(done)


def _repeat(shooter: Shooter, do: Callable[[], object], done: list[None]) -> None:
    """A function, since CPython 3.13 and 3.14 may leave a loop without the `except` around it, see scardface/_threads.py."""
    again = time.monotonic() + AGAIN
    while True:
        do()
        done.append(None)
        if time.monotonic() > again:
            again += AGAIN
            shooter.shoot()


def interrupt_calls(call: Callable[[SCard], None], count: int, reader: str, longest: float) -> int:
    """Interrupt calls on one open card, shared and exclusive in turn."""
    return sum(_interrupt_calls(call, count // 2, reader, longest, share) for share in (ShareMode.SHARED, ShareMode.EXCLUSIVE))


def _interrupt_calls(call: Callable[[SCard], None], count: int, reader: str, longest: float, share: ShareMode) -> int:
    done = 0
    with Shooter(longest) as shooter, SCard(reader, timeout=BOUND, share=share) as card:
        neighbour = Neighbour(default_backend(), reader) if share is ShareMode.SHARED else None
        for number in range(count):
            done += interrupt(shooter, lambda: call(card))
            words = f"after {number + 1} interrupts, {share.name}"
            in_another_thread(lambda: card.send(SAY).check(), words)
            if neighbour is not None:
                in_another_thread(neighbour.reach, f"{words}, another program")
        if neighbour is not None:
            neighbour.close()
    return done


def interrupt_closes(count: int, reader: str, longest: float) -> int:
    """Interrupt the close of a card; then the next SCard has it."""
    done = 0
    with Shooter(longest) as shooter:
        for number in range(count):
            share = random.choice((ShareMode.SHARED, ShareMode.EXCLUSIVE))
            done += _interrupt_close([SCard(reader, timeout=BOUND, share=share)], shooter)
            words = f"after {number + 1} interrupts, the next"
            in_another_thread(lambda: SCard(reader, timeout=BOUND).close(), words)
    return done


def _interrupt_close(cards: list[SCard], shooter: Shooter) -> bool:
    """Whether the close had ended before. Nobody holds the card after it, as in a program that goes on with something else."""
    return interrupt(shooter, lambda: cards.pop().close() if cards else time.sleep(0.001)) > 0


def main(call: str, count: int, where: str) -> str:
    """What went wrong, or the figures."""
    signal.signal(signal.SIGINT, interrupt_if_wanted)
    longest = LONGEST.get(where, 0.005)
    with contextlib.ExitStack() as stack:
        if where == "simulation":
            pcsc: Any = stack.enter_context(SimulatedPCSC())
            pcsc.add_reader("A")
            pcsc.insert("A", LogCard())
            where = "A"
        else:
            assert default_backend() is system_pcsc()
        interrupts = interrupt_closes if call == "close" else partial(interrupt_calls, CALLS[call])
        done = interrupts(count, where, longest)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return f"{count} interrupts of {call}, of which {done} calls had ended"


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]), flush=True)
