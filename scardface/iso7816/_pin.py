"""A PIN verified without using up its last tries.

Rules (ISO/IEC 7816-4:2020, 11.6.6):

- A VERIFY without data compares nothing: a card that knows it answers 63Cx, x tries are left, 6983 if there are none, or 9000 if
  the PIN is verified already. Any other answer does not tell.
- The PIN is sent if more tries are left than are to be kept, if the card does not tell, and if it is verified already: whoever asks
  wants to know whether this is the right PIN.
- No try left is refused in any case; the card would only count the attempt.
- The PIN is in no exception.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, overload

from ._apdu import R_APDU, Buffer, StatusError, octets_of
from ._commands import verify
from ._open_card import AsyncSender, Steps, SyncSender, carry_out

_BLOCKED = 0x6983
LONGEST_PIN = 255
"""What a short command can carry; PINs have 4 to 16 bytes."""


class PinTriesError(StatusError):
    """A PIN that was not sent, to keep the tries that are left.

    Attributes:
        tries_left: how many there are.
        keep: how many were to be kept.
        response: what the card answered when it was asked.
    """

    def __init__(self, response: R_APDU, keep: int) -> None:
        self.response = response
        self.tries_left: int = tries_left(response) or 0
        self.keep: int = keep
        left = f"{self.tries_left or 'no'} {'try' if self.tries_left == 1 else 'tries'}"
        advice = f", and {keep} of them {'is' if keep == 1 else 'are'} kept (keep={keep})" if self.tries_left else ": it is blocked"
        Exception.__init__(self, f"the PIN was not sent: {left} left{advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.response, self.keep)


def tries_left(response: R_APDU) -> int | None:
    """How many tries a response to VERIFY and its like leaves: x of 63Cx, 0 of 6983; None: it does not say.

    Args:
        response: of VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER or EXTERNAL AUTHENTICATE.
    """
    if response.sw & 0xFFF0 == 0x63C0:
        return response.sw2 & 0x0F
    return 0 if response.sw == _BLOCKED else None


@overload
def verify_pin(card: SyncSender, reference: int, pin: Buffer, keep: int = 1) -> R_APDU: ...
@overload
def verify_pin(card: AsyncSender, reference: int, pin: Buffer, keep: int = 1) -> Coroutine[Any, Any, R_APDU]: ...
def verify_pin(card: SyncSender | AsyncSender, reference: int, pin: Buffer, keep: int = 1) -> Any:
    """Verify a PIN, unless that may use one of its last tries (ISO/IEC 7816-4:2020, 11.6.6).

    The card is asked for its counter first. On the async face it is awaited. Both commands go out in one transaction.

    Args:
        card: an open card, its channel or its layer, or a Recorder; of either face.
        reference: which PIN, as in `verify`.
        pin: as the card wants it, filled up if need be; 1 to 255 bytes.
        keep: how many tries are to be left after a wrong PIN, 0 to 15; 0 uses the last one.

    Returns:
        What the card answered to the PIN: 9000, or 63Cx with the tries left, see `tries_left`. `check()` raises unless it is 9000.

    Raises:
        PinTriesError: no more than `keep` are left; the PIN was not sent.
        ValueError: no PIN, or out of these ranges; before anything is sent.
        TypeError: a PIN that is not bytes, or no card. And what the card's `send` raises.
    """
    if isinstance(pin, str):
        raise TypeError("pin is bytes, not str: its digits become what most cards want by .encode(), filled up if need be")
    octets = octets_of("pin", pin, LONGEST_PIN)
    if not octets:
        raise ValueError("pin is empty, and would only ask how many tries are left: that is verify(reference)")
    if not isinstance(keep, int) or isinstance(keep, bool):
        raise TypeError(f"keep is a number, not {type(keep).__name__}")
    if not 0 <= keep <= 15:
        raise ValueError(f"keep is 0 to 15, not {keep}")
    verify(reference)  # refuses a reference that is none, before anything is sent
    return carry_out(card, _verify(reference, octets, keep))


def _verify(reference: int, pin: bytes, keep: int) -> Steps[R_APDU]:
    asked = yield verify(reference)
    left = tries_left(asked)
    if left is not None and (left <= keep or not left):
        raise PinTriesError(asked, keep)
    return (yield verify(reference, pin))
