"""Storms of threads over one simulated PC/SC: `thread_storms.py [STORMS] [SEED]`, for the Pythons whose threads run at once.

- In each storm some threads, begun at one moment, wait for cards, send, share a card, close it while another sends, cancel waits of
  their own and all waits, watch readers, and pull cards and put them back.
- What a thread is answered is what it asked (each has words of its own, which the card gives back), or an error of the library's.
- After each storm the next one gets each card; at the end nothing is left: no context, no thread of the library's.
- A Python that was started without the GIL must have none at the end.

Exits 1 with what was wrong, 0 otherwise. It bounds no time: 10,000 storms take some minutes.
"""

from __future__ import annotations

import collections
import faulthandler
import random
import sys
import threading
import time
import traceback

from scardface import C_APDU, SCardError
from scardface.sync import ReaderMonitor, SCard, ShareMode, cancel_all
from scardface.testing import SimulatedPCSC, VirtualCard

READERS = ("Reader A", "Reader B", "Reader C")
PATIENCE = 60.0
"""Seconds that the next one may wait for a card, and a thread for its end; more is a hang."""

done: collections.Counter[str] = collections.Counter()
wrong: list[str] = []


class Echo(VirtualCard):
    """Gives back what it is sent."""

    def process(self, command: bytes) -> bytes:
        return command[5 : 5 + command[4]] + b"\x90\x00" if len(command) > 5 else b"\x90\x00"


class Cancellable(SCard):
    """Another thread can cancel it while it waits in its constructor."""

    def __init__(self, made: list[SCard], **kwargs: object) -> None:
        made.append(self)
        super().__init__(**kwargs)  # type: ignore[arg-type]


def ask(card: SCard, rng: random.Random, times: int) -> None:
    for _ in range(times):
        words = rng.randbytes(rng.randint(1, 200))
        answer = card.send(C_APDU(0, 0x10, 0, 0, words, 256))
        if answer.data != words or answer.sw != 0x9000:
            wrong.append(f"asked {words.hex()}, was answered {answer}")
        done["answers"] += 1


def alone(rng: random.Random) -> None:
    with SCard(rng.choice(READERS), timeout=rng.choice((0, 0.01, 1))) as card:
        ask(card, rng, rng.randint(1, 4))


def shared(rng: random.Random) -> None:
    """Two threads in one card; one of them closes it."""
    with SCard(timeout=1, share=ShareMode.SHARED) as card:
        seed = rng.random()
        other = threading.Thread(target=forgiven, args=(lambda own: ask(card, own, 4), random.Random(seed)))
        other.start()
        try:
            with card.transaction():
                ask(card, rng, 2)
        finally:
            card.close()
            other.join(PATIENCE)
            if other.is_alive():
                wrong.append("a thread stays in a closed card")


def cancelled(rng: random.Random) -> None:
    """A wait for a card that never comes is cancelled by another thread."""
    made: list[SCard] = []
    waiter = threading.Thread(target=forgiven, args=(lambda own: Cancellable(made, atr=rb"\Anever", timeout=PATIENCE), rng))
    waiter.start()
    while not made:
        time.sleep(0)
    made[0].cancel()
    waiter.join(PATIENCE)
    if waiter.is_alive():
        wrong.append("a cancelled wait goes on")


def all_cancelled(rng: random.Random) -> None:
    cancel_all()


def watched(rng: random.Random) -> None:
    with ReaderMonitor() as monitor:
        for _ in range(rng.randint(1, 3)):
            next(iter(monitor))  # a monitor begins with the readers there are
            done["events"] += 1


def pulled(rng: random.Random) -> None:
    reader = rng.choice(READERS)
    try:
        card = world.remove(reader)
    except ValueError:  # another thread has it
        return
    world.insert(reader, card)


def forgiven(act, rng: random.Random) -> None:  # type: ignore[no-untyped-def]
    """Run an act; the library's errors are answers, too."""
    try:
        act(rng)
        done[getattr(act, "__name__", "thread")] += 1
    except SCardError as error:
        done[type(error).__name__] += 1
    except RuntimeError as error:
        if "the card is closed" not in str(error):
            wrong.append(traceback.format_exc())
        done["closed"] += 1
    except BaseException:
        wrong.append(traceback.format_exc())


ACTS = (alone, alone, shared, cancelled, all_cancelled, watched, pulled)


def storm(rng: random.Random) -> None:
    start = threading.Barrier(6)

    def begin(act, seed: float) -> None:  # type: ignore[no-untyped-def]
        start.wait()
        forgiven(act, random.Random(seed))

    threads = [threading.Thread(target=begin, args=(rng.choice(ACTS), rng.random()), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            wrong.append(f"{thread.name} hangs")
    for reader in () if wrong else READERS:
        try:
            with SCard(reader, timeout=PATIENCE) as card:
                ask(card, rng, 1)
        except SCardError:
            wrong.append(f"the next one does not get {reader}, of {sorted(world.cards)}: {traceback.format_exc()}")


def main(storms: int = 1000, seed: int = 14) -> None:
    rng = random.Random(seed)
    began, said = time.monotonic(), 0
    for number in range(storms):
        storm(rng)
        if wrong:
            sys.exit(f"storm {number} of seed {seed}: " + "\n".join(wrong))
        if number * 10 // storms > said:
            said = number * 10 // storms
            print(f"{number} storms, {time.monotonic() - began:.0f} s", flush=True)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    python = f"{sys.implementation.name} {sys.version.split()[0]}, GIL {'on' if gil else 'off'}"
    print(f"{storms} storms of 6 threads, {python}: {dict(done)}")


if __name__ == "__main__":
    without_gil = not getattr(sys, "_is_gil_enabled", lambda: True)()
    with SimulatedPCSC() as world:
        for name in READERS:
            world.add_reader(name)
            world.insert(name, Echo())
        main(*map(int, sys.argv[1:]))
        contexts = world.open_contexts
    until = time.monotonic() + PATIENCE
    while (left := threading.enumerate()[1:]) and time.monotonic() < until:
        time.sleep(0.01)
    if left or contexts:
        sys.exit(f"left behind: {left}, {contexts} contexts")
    if without_gil and sys._is_gil_enabled():
        sys.exit("something turned the GIL on")
