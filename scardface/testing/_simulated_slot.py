"""A card in a reader of the simulated PC/SC, and the thread that all of its code runs in.

Rules:

- Methods are called under the service's lock. Those that talk to the card let go of it until the card has answered.
- The reader talks to the card about one thing at a time; others wait for their turn.
- Once the card is out, whoever waits for it is freed at once, however long its code takes; what it answers then is lost.
- An answer of no bytes at all is none: it is waited for until the card is out, as vpcd, the driver of the virtual readers, does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .._threads import Worker
from . import _card_calls
from ._virtual_card import VirtualCard

logger = logging.getLogger("scardface.testing")

_PATIENCE = 1.0
"""Seconds that taking a card out waits for the card's own code to return."""


class CardGone(Exception):
    """The card is out, or went out while it was spoken to."""


class CardSlot:
    """See the head of this file.

    Args:
        changed: a condition of the service's lock, notified when the card has answered or is out.
    """

    def __init__(self, card: VirtualCard, changed: threading.Condition) -> None:
        self._card = card
        self._changed = changed
        self._worker = Worker(f"scardface-{type(card).__name__}")
        self._busy = False
        self._powered = False
        self.out = False

    def power_on(self) -> bytes:
        """Switch the card on; its ATR, empty if it is mute. Raises CardGone."""
        self._powered = True
        return self._talk(lambda: _card_calls.power_on(self._card))

    def reset(self) -> bytes:
        """Reset the card; its ATR, empty if it is mute. Raises CardGone."""
        self._powered = True
        return self._talk(lambda: _card_calls.reset(self._card))

    def power_off(self) -> None:
        """Switch the card off, after what it does just now; nobody waits for that."""
        if self._powered:
            self._powered = False
            self._worker.submit(lambda: _card_calls.power_off(self._card))

    def exchange(self, command: bytes) -> bytes:
        """The card's answer. Raises CardGone."""
        return self._talk(lambda: _card_calls.answer(self._card, command) or None)

    def wait_for_turn(self) -> None:
        """Return when nobody talks to the card. Raises CardGone."""
        while self._busy and not self.out:
            self._changed.wait()
        if self.out:
            raise CardGone

    def _talk(self, job: Callable[[], bytes | None]) -> bytes:
        self.wait_for_turn()
        answers: list[bytes] = []
        self._busy = True
        self._worker.submit(lambda: self._run(job, answers))
        try:
            while not answers and not self.out:
                self._changed.wait()
        finally:
            self._busy = False
            self._changed.notify_all()
        if self.out:
            raise CardGone
        return answers[0]

    def _run(self, job: Callable[[], bytes | None], answers: list[bytes]) -> None:
        answer = job()
        if answer is not None:
            with self._changed:
                answers.append(answer)
                self._changed.notify_all()

    def take_out(self) -> None:
        """The card is out: it loses its power, and its thread ends when its code has returned."""
        self.power_off()
        self._worker.finish()
        self.out = True
        self._changed.notify_all()

    def join(self) -> None:
        """Wait a moment for the thread of a card that is out. Not under the lock; from the card's own code it does nothing."""
        thread = self._worker.thread
        if thread is threading.current_thread():
            return
        thread.join(_PATIENCE)
        if thread.is_alive():
            logger.warning("%s: taken out while its code runs, which does not return", type(self._card).__name__)
