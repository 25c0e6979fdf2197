"""The transaction on a card's handle (SCardBeginTransaction), and the caller's blocks that share it. Blocking.

Rules:

- PC/SC is called for the first that begins and for the last that ends: one end too many does no harm, one too few locks other
  programs out.
- A begin is recorded before it is done, an end after: whatever interrupts either, it can be ended again.
- Only the session that owns it calls it, inside its lock. Any thread may put into the queue `abandoned_ids` at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue

from .._enums import Disposition
from .._pcsc.backend import CardHandle
from ..errors import CardResetError, SCardError

logger = logging.getLogger("scardface.session")

_MAX_RESETS = 3
"""How many resets by other programs in a row a begin survives where they do not matter."""


class Transactions:
    """The transactions of one session; see the module's docstring.

    Args:
        handle: the card's.
        translate: turns an error of the handle into the one to raise for an open card (`card_errors.translate`).
        reconnect: reconnects after another program's reset.

    Attributes:
        open: the caller's transactions that have not ended.
        abandoned_ids: those whose block was thrown away, which the next call ends.
        held: whether this handle holds PC/SC's transaction.
        end_refused: whether PC/SC has refused to end it because of a reset: pcsc-lite keeps the lock then, until it is ended after
            a reconnect.
    """

    def __init__(self, handle: CardHandle, translate: Callable[[SCardError], SCardError], reconnect: Callable[[], None]) -> None:
        self._handle = handle
        self._translate = translate
        self._reconnect_after_reset = reconnect
        self.open: list[object] = []
        self.abandoned_ids: SimpleQueue[object] = SimpleQueue()
        self.held = False
        self.end_refused = False

    def begin(self, transaction: object, ignore_reset: bool) -> None:
        """Begin a transaction of the caller; `ignore_reset` as for `acquire`."""
        self.open.append(transaction)
        try:
            self.acquire(ignore_reset)
        except Exception:
            self.open.remove(transaction)
            raise

    def acquire(self, ignore_reset: bool = False) -> None:
        """Begin PC/SC's transaction, unless it is held; waits for another program's to end.

        Args:
            ignore_reset: whether to reconnect and try again after a reset by another program.
        """
        left = _MAX_RESETS if ignore_reset else 0
        while not self.held:
            try:
                self.held = True
                self._handle.begin_transaction()
            except SCardError as error:
                self.held = False
                failure = self._translate(error)
                if not (left and isinstance(failure, CardResetError)):
                    raise failure  # noqa: B904  it has its cause
                left -= 1
                self._reconnect_after_reset()

    def release(self) -> SCardError | None:
        """End PC/SC's transaction, unless one of the caller is open; PC/SC's error, if it refuses."""
        if not self.held or self.open:
            return None
        refusal = None
        try:
            self._handle.end_transaction(Disposition.LEAVE)
        except SCardError as error:
            logger.debug("at the end of a transaction: %s", error)
            self.end_refused = isinstance(error, CardResetError)
            refusal = error
        self.held = False
        return refusal

    def end_abandoned(self) -> None:
        """End the caller's transactions that were abandoned."""
        while self.open and not self.abandoned_ids.empty():
            transaction = self.abandoned_ids.get()
            if transaction in self.open:
                self.open.remove(transaction)
        self.release()
