"""PIN entry on a reader's keypad: the control commands for it and its result (PC/SC part 10, 2.02.09, 2.5), without I/O.

Rules:

- The PIN goes from the keypad to the card and never reaches this program. The result is the card's status word, or the reader's
  own if no command went to the card: 6400 no entry in time, 6401 cancelled, 6402 the new PINs differ, 6403 too short or too long,
  6B80 the structure is not accepted; 6404 from readers that only pass PINs from their keypad, usually to a plain `send`. A card
  could answer these, too; none is known that does so to a VERIFY.
- VERIFY_PIN_DIRECT does it in one call. A reader that has only START and FINISH gets the structure by START; FINISH waits and
  returns the answer. MODIFY likewise. FEATURE_ABORT is not used, since the only thread that could send it waits in the reader.
- SCardControl blocks until the entry has ended: libccid waits 90 s at least, whatever the time-out in the structure.
- A reader without these features: an SCardError with SCARD_E_UNSUPPORTED_FEATURE, which says what to do instead.
- An answer of less than two bytes: CardCommunicationError.
"""

from __future__ import annotations

from ..errors import UNSUPPORTED_FEATURE, SCardError
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._status import status_meaning
from .control_exchange import ControlExchange
from .features import Feature, malformed, query_features
from .pin_entry import PinEntry, modify_structure, verify_structure

__all__ = ["PadResult", "modify", "verify"]

_VERIFY = 0x20
_BLOCKED = 0x6983

_TIMED_OUT, _CANCELLED, _DIFFERENT, _WRONG_LENGTH, _FIREWALL, _REFUSED = 0x6400, 0x6401, 0x6402, 0x6403, 0x6404, 0x6B80
_READER_MEANINGS = {
    _TIMED_OUT: "no PIN was entered in time",
    _CANCELLED: "the entry was cancelled on the reader's keypad",
    _DIFFERENT: "the new PIN and its repetition differ",
    _WRONG_LENGTH: "the PIN is too short or too long",
    _FIREWALL: "the reader lets no such command pass",
    _REFUSED: "the reader does not ask for a PIN in this way: it refuses the structure",
}


class PadResult(R_APDU):
    """The result of a PIN entry on a reader's keypad: the status word, which is the card's or the reader's own.

    It is an `R_APDU`: `is_successful()` if the card took the PIN, `check()` raises `StatusError` otherwise, `meaning` says it in
    words.
    """

    __slots__ = ()

    @property
    def entered(self) -> bool:
        """Whether a PIN was entered and went to the card, which then answered."""
        return self.sw not in _READER_MEANINGS

    @property
    def cancelled(self) -> bool:
        """Whether the user pressed the cancel key."""
        return self.sw == _CANCELLED

    @property
    def timed_out(self) -> bool:
        """Whether no PIN was entered in time."""
        return self.sw == _TIMED_OUT

    @property
    def different(self) -> bool:
        """Whether the new PIN and its repetition differ."""
        return self.sw == _DIFFERENT

    @property
    def wrong_length(self) -> bool:
        """Whether the PIN was too short or too long, so that the reader kept it to itself."""
        return self.sw == _WRONG_LENGTH

    @property
    def blocked(self) -> bool:
        """Whether the PIN is blocked."""
        return self.tries_left == 0

    @property
    def tries_left(self) -> int | None:
        """How many tries are left after a wrong PIN; None if the card does not say."""
        if self.sw & 0xFFF0 == 0x63C0:
            return self.sw2 & 0x0F
        return 0 if self.sw == _BLOCKED else None

    @property
    def meaning(self) -> str:
        """The status word in words."""
        if (text := _READER_MEANINGS.get(self.sw)) is not None:
            return text
        if self.sw & 0xFFF0 == 0x63C0:
            left = self.sw2 & 0x0F
            return f"wrong PIN, {left} {'try' if left == 1 else 'tries'} left" + ("" if left else ": blocked")
        if self.sw == _BLOCKED:
            return "the PIN is blocked"
        return status_meaning(self.sw1, self.sw2, _VERIFY)


def verify(command: C_APDU, entry: PinEntry) -> ControlExchange[PadResult]:
    """Have the user enter a PIN on the reader, and the card compare it; see `SCard.verify_pin_on_pad`."""
    structure = verify_structure(command, entry)  # checked now, so that a wrong argument sends nothing
    return _enter_pin(structure, Feature.VERIFY_PIN_DIRECT, Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH)


def modify(
    command: C_APDU, entry: PinEntry, *, ask_current: bool, confirm: bool, current_offset: int, new_offset: int | None
) -> ControlExchange[PadResult]:
    """Have the user enter a new PIN on the reader, and the card take it; see `SCard.modify_pin_on_pad`."""
    structure = modify_structure(
        command, entry, ask_current=ask_current, confirm=confirm, current_offset=current_offset, new_offset=new_offset
    )
    return _enter_pin(structure, Feature.MODIFY_PIN_DIRECT, Feature.MODIFY_PIN_START, Feature.MODIFY_PIN_FINISH)


def _enter_pin(structure: bytes, direct: Feature, start: Feature, finish: Feature) -> ControlExchange[PadResult]:
    found = yield from query_features()
    if direct in found:
        answer = yield found[direct], structure
    elif start in found and finish in found:
        answer = yield found[start], structure
        if answer in (b"", b"\x90\x00"):  # else it was refused at once
            answer = yield found[finish], b""
    else:
        raise SCardError(
            f"the reader has no keypad that PC/SC can use for this (no {direct.name}): ask for the PIN yourself, and send it "
            "with the command",
            UNSUPPORTED_FEATURE,
            "SCardControl",
        )
    if len(answer) < 2:
        raise malformed(f"the PIN entry was answered with {len(answer)} bytes, and a status word has two")
    return PadResult(answer[:-2], answer[-2], answer[-1])
