"""The base class of virtual cards: what a card answers, in whatever reader it is.

Rules:

- A reader calls a card in one thread, one call at a time, so a card needs no lock.
- A mistake in a card's code must not look like a broken reader: the reader answers 6F00 and goes on, and the exception is kept in
  `VirtualCard.error` and raised when the card is taken out.
"""

from __future__ import annotations

import abc
import logging

__all__ = ["VirtualCard"]

_logger = logging.getLogger("scardface.testing")


class VirtualCard(abc.ABC):
    """A smart card in Python: derive from it and implement `process`.

    Attributes:
        atr: the Answer-To-Reset (ISO 7816-3:2006, 8.2), 2 to 33 bytes. By default that of a card that offers T=1 only, without
            historical bytes. The reader reads it at every power-on and reset, and every 0.4 s to see whether the card is still
            there. Empty: the card is inserted, but mute.
        error: the first exception that left `process` or one of the hooks since the card was inserted, with its traceback;
            None if there was none. Each is logged at ERROR by "scardface.testing" when it happens, and the first is raised to
            the one who takes the card out.
    """

    atr: bytes = b"\x3b\x80\x01\x81"
    error: BaseException | None = None

    @abc.abstractmethod
    def process(self, command: bytes) -> bytes:
        """Answer one command.

        Args:
            command: what the terminal sent, verbatim, 2 bytes or more; normally a C-APDU.

        Returns:
            The R-APDU: data, then the two status bytes; at most 65,535 bytes. A single byte is sent as well, as a broken card
            might. An empty answer makes the reader's driver wait until the card is taken out, as a reader that hangs does.
        """

    def power_on(self) -> None:  # noqa: B027  a card may have nothing to forget
        """The reader switched the card on (a cold reset): forget here what a card forgets without power."""

    def power_off(self) -> None:  # noqa: B027  as above
        """The card lost power: the reader switched it off, or it was taken out."""

    def reset(self) -> None:
        """The reader reset the card (a warm reset). Does what `power_on` does, unless overridden."""
        self.power_on()


def keep_error(card: VirtualCard, error: BaseException) -> None:
    """Remember and log a mistake in a card's code."""
    _logger.error("%s failed", type(card).__name__, exc_info=error)
    if card.error is None:
        card.error = error


def raise_kept(*cards: VirtualCard) -> None:
    """Raise the first error that was kept for one of the cards, once."""
    for card in cards:
        error, card.error = card.error, None
        if error is not None:
            raise error
