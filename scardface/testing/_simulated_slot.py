"""A card in a reader of the simulated PC/SC, and the thread in which all of its code runs.

Rules:

- Methods are called under the service's lock. Those that exchange with the card release it until the card has answered.
- There is one exchange at a time; other calls wait until it is over.
- When the card is removed, all waits for it end at once, however long its code takes; a later answer is lost.
- An empty answer counts as none: the call waits until the card is removed, as vpcd does, the driver of the virtual readers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .._threads import Worker
from . import _card_calls
from ._virtual_card import VirtualCard

logger = logging.getLogger("scardface.testing")

_JOIN_TIMEOUT = 1.0
"""Seconds that taking a card out waits for the card's own code to return."""


class SlotEmptyError(Exception):
    """There is no card in the slot: it was removed before or during the call."""


class CardSlot:
    """See the head of this module.

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
        """Switch the card on; its ATR, empty if it is mute. Raises SlotEmptyError."""
        self._powered = True
        return self._exchange(lambda: _card_calls.power_on(self._card))

    def reset(self) -> bytes:
        """Reset the card; its ATR, empty if it is mute. Raises SlotEmptyError."""
        self._powered = True
        return self._exchange(lambda: _card_calls.reset(self._card))

    def power_off(self) -> None:
        """Switch the card off, after its present call; nobody waits for that."""
        if self._powered:
            self._powered = False
            self._worker.submit(lambda: _card_calls.power_off(self._card))

    def exchange(self, command: bytes) -> bytes:
        """The card's answer. Raises SlotEmptyError."""
        return self._exchange(lambda: _card_calls.answer(self._card, command) or None)

    def wait_until_free(self) -> None:
        """Return when no exchange is in progress. Raises SlotEmptyError."""
        while self._busy and not self.out:
            self._changed.wait()
        if self.out:
            raise SlotEmptyError

    def _exchange(self, job: Callable[[], bytes | None]) -> bytes:
        self.wait_until_free()
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
            raise SlotEmptyError
        return answers[0]

    def _run(self, job: Callable[[], bytes | None], answers: list[bytes]) -> None:
        answer = job()
        if answer is not None:
            with self._changed:
                answers.append(answer)
                self._changed.notify_all()

    def remove_card(self) -> None:
        """The card is removed: it loses power, and its thread ends when its code has returned."""
        self.power_off()
        self._worker.finish()
        self.out = True
        self._changed.notify_all()

    def join(self) -> None:
        """Wait briefly for the thread of a removed card. Not under the lock; called by the card's own code, it does nothing."""
        thread = self._worker.thread
        if thread is threading.current_thread():
            return
        thread.join(_JOIN_TIMEOUT)
        if thread.is_alive():
            logger.warning("%s: taken out while its code runs, which does not return", type(self._card).__name__)
