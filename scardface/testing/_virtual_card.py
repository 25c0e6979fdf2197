"""The card side of a test: what a card answers, without saying which reader it is in.

Rules:

- A reader calls a card from one thread of that reader, one call at a time; a card needs no lock of its own.
- A mistake in a card's code must not look like a broken reader: the reader answers 6F00, goes on, and keeps the exception in
  `VirtualCard.error`, from where taking the card out raises it.
"""

from __future__ import annotations

import abc
import logging

__all__ = ["VirtualCard"]

_logger = logging.getLogger("scardface.testing")


class VirtualCard(abc.ABC):
    """A smart card made of Python; derive from it and write `process`.

    Attributes:
        atr: the Answer-To-Reset (ISO 7816-3:2006, 8.2), 2 to 33 bytes. The one given here belongs to a card that speaks T=1
            only and says nothing else. The reader asks for it again at every power-on and reset, and looks at it every 0.4 s
            to see whether the card is still there. Empty: a card that is in, but mute.
        error: the first exception that left `process` or one of the hooks since the card was inserted, with its traceback;
            None if there was none. Each is logged at ERROR by "scardface.testing" when it happens, and the first is raised to
            whoever takes the card out.
    """

    atr: bytes = b"\x3b\x80\x01\x81"
    error: BaseException | None = None

    @abc.abstractmethod
    def process(self, command: bytes) -> bytes:
        """Answer one command.

        Args:
            command: what the terminal sent, verbatim, 2 bytes or more; normally a C-APDU.

        Returns:
            The R-APDU: data, then the two status bytes; at most 65,535 bytes. What is shorter than two bytes goes out as well,
            as a broken card's would. An answer of no bytes at all makes the reader's driver wait until the card is taken out:
            a hung reader.
        """

    def power_on(self) -> None:  # noqa: B027  a card may well have nothing to forget
        """The reader switched the card on (a cold reset): what a card forgets without power is to be forgotten now."""

    def power_off(self) -> None:  # noqa: B027  as above
        """The card lost its power: the reader switched it off, or it was taken out."""

    def reset(self) -> None:
        """The reader reset the card (a warm reset). Does what `power_on` does, unless overridden."""
        self.power_on()


def keep_error(card: VirtualCard, error: BaseException) -> None:
    """Remember and log a mistake in a card's code."""
    _logger.error("%s failed", type(card).__name__, exc_info=error)
    if card.error is None:
        card.error = error


def raise_kept(*cards: VirtualCard) -> None:
    """Raise the first error that one of the cards kept, once."""
    for card in cards:
        error, card.error = card.error, None
        if error is not None:
            raise error
