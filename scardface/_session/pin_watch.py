"""PINs and keys that a card refuses, and cards that may have refused one before: for those who keep cards and must not block them.

Rules:

- Reference data is what VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, ENABLE and DISABLE VERIFICATION REQUIREMENT and
  EXTERNAL AUTHENTICATE carry (ISO/IEC 7816-4:2020, 11). A card counts what it refuses, and blocks itself in the end.
- The last word counts: what was refused, and then accepted, is not refused. Where there was no word, since the card went or failed
  meanwhile, it may have been refused.
- A card that may be one which has refused before is asked for its counter, by a VERIFY without data (ISO/IEC 7816-4:2020, 11.6.6).
  Only if it says that more tries are left than the other one had, or that none is needed, is it another one, or one that somebody
  has used rightly since; else nothing is sent. After no word at all three tries will do, which is what cards mostly have, and a
  card that does not tell is given the benefit of the doubt.
- No PIN is kept here, and none is in an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from ..errors import SECURITY_VIOLATION, CardResetError, SCardError
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._pin import tries_left

Reference: TypeAlias = "tuple[int, int, int]"
"""What is verified: the instruction without its lowest bit, P1 and P2."""

_VERIFY = 0x20
REFERENCE_DATA = frozenset({_VERIFY, 0x21, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2C, 0x2D, 0x82, 0x83})
"""The instructions that carry it; no others need be told of."""
_TAKEN = frozenset({0x61, 0x62, 0x90, 0x91, 0x9F})
"""SW1 of a card that has taken it: success, data to fetch, warnings; 91xx and 9Fxx are those of SIMs (TS 51.011, 9.4)."""
_OF_THE_READER = 0xFF
_USUAL_TRIES = 3


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
        suspects: those of other cards that this one may be, when it is asked.

    Attributes:
        refused: what this card has refused last, by what is verified.
        unanswered: what it has not answered.
    """

    __slots__ = ("_cleared", "_suspects", "refused", "unanswered")

    def __init__(self, suspects: Callable[[], Iterable[PinWatch]] = tuple) -> None:
        self._suspects = suspects
        self._cleared: set[Reference] = set()
        self.refused: dict[Reference, Refusal] = {}
        self.unanswered: set[Reference] = set()

    @property
    def has_seen_any(self) -> bool:
        """Whether the card has refused something, or may have."""
        return bool(self.refused or self.unanswered)

    def check(self, command: C_APDU, ask: Callable[[C_APDU], R_APDU] | None, reader: str) -> None:
        """Called before a command goes out.

        Args:
            ask: sends a command; None: it cannot be, since a layer is in use.
            reader: for the text.

        Raises:
            PinRefusedError: it must not go out.
        """
        reference = _reference(command)
        if reference is None or reference in self._cleared:
            return
        suspects = [self, *self._suspects()]
        before = [each.refused[reference] for each in suspects[1:] if reference in each.refused]
        unanswered = any(reference in each.unanswered for each in suspects)
        if not before and not unanswered:
            return
        told = ""
        if ask is not None and reference[0] == _VERIFY and all(refusal.left is not None for refusal in before):
            answer = ask(C_APDU(command.cla, _VERIFY, command.p1, command.p2))
            left = tries_left(answer)
            if answer.sw == 0x9000 or _is_another(left, before, unanswered):
                self._cleared.add(reference)
                return
            told = f", and answers {answer.sw:04X} to the question how many tries are left"
        what = f"refused one ({before[0].status:04X})" if before else "not answered one"
        raise PinRefusedError(
            f"the PIN or key was not sent: a card with the ATR of that in reader {reader!r} has {what}, and this one may be the "
            f"same{told}",
            SECURITY_VIOLATION,
            "",
            reader,
        )

    def take(self, command: C_APDU, response: R_APDU) -> None:
        """Called after a command was answered."""
        reference = _reference(command)
        if reference is not None:
            self.unanswered.discard(reference)
            if response.sw1 in _TAKEN:
                self.refused.pop(reference, None)
                self._cleared.discard(reference)
            else:
                self.refused[reference] = Refusal(reference, response.sw, tries_left(response))

    def lose(self, command: C_APDU, error: SCardError) -> None:
        """Called after a command has failed."""
        reference = _reference(command)
        if reference is not None and not isinstance(error, (CardResetError, PinRefusedError)):  # these were not carried out
            self.unanswered.add(reference)
            self._cleared.discard(reference)


def _is_another(left: int | None, before: list[Refusal], unanswered: bool) -> bool:
    """Whether a card with so many tries left is none of those that have refused, and has not refused what it did not answer."""
    if left is None:
        return not before
    return all(refusal.left is not None and left > refusal.left for refusal in before) and (not unanswered or left >= _USUAL_TRIES)


def _reference(command: C_APDU) -> Reference | None:
    """What a command verifies; None: nothing."""
    if command.ins not in REFERENCE_DATA or not command.data or command.cla == _OF_THE_READER:
        return None
    return command.ins & 0xFE, command.p1, command.p2
