"""The transaction on a card's handle (SCardBeginTransaction), and the blocks of the caller's that share it. Blocking.

Rules of this room:

- PC/SC is told of the first that begins and of the last that ends: an end too many does no harm, one too few locks others out.
- What is noted comes before what is done at a begin, and after it at an end: whatever interrupts either, it can be ended again.
- Who may call it: the session that owns it, inside its lock. Into the queue `given_up` anybody may put, at any moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue

from .._enums import Disposition
from .._pcsc.backend import CardHandle
from ..errors import CardResetError, SCardError

logger = logging.getLogger("scardface.session")

_RESETS = 3
"""How many resets by others, in a row, a begin outlasts where they do not matter."""


class Transactions:
    """See the head of this file.

    Args:
        handle: the card's.
        translate: a failure of it as it is for an open card.
        come_back: reconnects after a reset by another.

    Attributes:
        begun: the caller's that have not ended.
        given_up: those that nobody will end any more.
        held: whether PC/SC's transaction is ours.
        owed: whether PC/SC has refused to end it because of a reset: pcsc-lite keeps the lock then, for after a reconnect.
    """

    def __init__(self, handle: CardHandle, translate: Callable[[SCardError], SCardError], come_back: Callable[[], None]) -> None:
        self._handle = handle
        self._translate = translate
        self._come_back = come_back
        self.begun: list[object] = []
        self.given_up: SimpleQueue[object] = SimpleQueue()
        self.held = False
        self.owed = False

    def begin(self, transaction: object, recovers: bool) -> None:
        """One of the caller's."""
        self.begun.append(transaction)
        try:
            self.hold(recovers)
        except Exception:
            self.begun.remove(transaction)
            raise

    def hold(self, recovers: bool = False) -> None:
        """Have PC/SC's transaction; waits for another's to end.

        Args:
            recovers: a reset by another is no matter.
        """
        left = _RESETS if recovers else 0
        while not self.held:
            try:
                self.held = True
                self._handle.begin_transaction()
            except SCardError as error:
                self.held = False
                failure = self._translate(error)
                if not (left and isinstance(failure, CardResetError)):
                    if failure is error:
                        raise
                    raise failure from error
                left -= 1
                self._come_back()

    def let_go(self) -> SCardError | None:
        """End PC/SC's transaction, unless one of the caller's lasts; what it says to that, if it is not content."""
        if not self.held or self.begun:
            return None
        refusal = None
        try:
            self._handle.end_transaction(Disposition.LEAVE)
        except SCardError as error:
            logger.debug("at the end of a transaction: %s", error)
            self.owed = isinstance(error, CardResetError)
            refusal = error
        self.held = False
        return refusal

    def end_given_up(self) -> None:
        """End those that nobody else will."""
        while self.begun and not self.given_up.empty():
            transaction = self.given_up.get()
            if transaction in self.begun:
                self.begun.remove(transaction)
        self.let_go()
