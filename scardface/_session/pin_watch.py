"""PINs and keys that a card refuses, and cards that may have refused one before: for those who keep cards and must not block them.

Rules:

- Reference data is what VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, ENABLE and DISABLE VERIFICATION REQUIREMENT and
  EXTERNAL AUTHENTICATE carry (ISO/IEC 7816-4:2020, 11). A card counts what it refuses, and blocks itself in the end.
- The last word counts: what was refused, and then accepted, is not refused.
- A card that may be one which has refused before is asked for its counter, by a VERIFY without data (ISO/IEC 7816-4:2020, 11.6.6).
  Only if it says that more tries are left than the other one had, or that none is needed, is it another one, or one that somebody
  has used rightly since; else nothing is sent.
- No PIN is kept here, and none is in an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from ..errors import SECURITY_VIOLATION, SCardError
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._pin import tries_left

Reference: TypeAlias = "tuple[int, int, int]"
"""What is verified: the instruction without its lowest bit, P1 and P2."""

_VERIFY = 0x20
_REFERENCE_DATA = frozenset({_VERIFY, 0x24, 0x26, 0x28, 0x2C, 0x82})
_TAKEN = frozenset({0x61, 0x62, 0x90, 0x91, 0x9F})
"""SW1 of a card that has taken it: success, data to fetch, warnings; 91xx and 9Fxx are those of SIMs (TS 51.011, 9.4)."""
_OF_THE_READER = 0xFF


class PinRefusedError(SCardError):
    """A PIN or key that was not sent: this may be a card that has refused it before."""


class Refusal(NamedTuple):
    """A card has refused reference data.

    Attributes:
        reference: which.
        status: the status word.
        left: how many tries it had left then; None: it did not say.
    """

    reference: Reference
    status: int
    left: int | None


class PinWatch:
    """Follows the commands to one card.

    Args:
        before: what was refused before by cards that this one may be.

    Attributes:
        refused: what this card has refused last, by what is verified.
    """

    __slots__ = ("_before", "refused")

    def __init__(self, before: Iterable[Refusal] = ()) -> None:
        self._before = {refusal.reference: refusal for refusal in before}
        self.refused: dict[Reference, Refusal] = {}

    def check(self, command: C_APDU, ask: Callable[[C_APDU], R_APDU] | None, reader: str) -> None:
        """Called before a command goes out.

        Args:
            ask: sends a command; None: it cannot be, since a layer is in use.
            reader: for the text.

        Raises:
            PinRefusedError: it must not go out.
        """
        if not self._before or not command.data or command.ins & 0xFE not in _REFERENCE_DATA:
            return
        before = self._before.get(_reference(command))
        if before is None:
            return
        told = ""
        if ask is not None and before.reference[0] == _VERIFY and before.left is not None:
            answer = ask(C_APDU(command.cla, _VERIFY, command.p1, command.p2))
            left = tries_left(answer)
            if answer.sw == 0x9000 or (left is not None and left > before.left):
                del self._before[before.reference]
                return
            told = f", and answers {answer.sw:04X} to the question how many tries are left"
        raise PinRefusedError(
            f"the PIN or key was not sent: a card with the ATR of that in reader {reader!r} has refused it before "
            f"({before.status:04X}), and this one may be the same{told}",
            SECURITY_VIOLATION,
            "",
            reader,
        )

    def take(self, command: C_APDU, response: R_APDU) -> None:
        """Called after a command was answered."""
        if command.ins & 0xFE in _REFERENCE_DATA and command.data and command.cla != _OF_THE_READER:
            reference = _reference(command)
            if response.sw1 in _TAKEN:
                self.refused.pop(reference, None)
            else:
                self.refused[reference] = Refusal(reference, response.sw, tries_left(response))


def _reference(command: C_APDU) -> Reference:
    return command.ins & 0xFE, command.p1, command.p2
