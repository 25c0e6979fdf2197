"""How a reader calls a card's code, so that a mistake in it does not look like a broken reader.

Rules:

- If the card's code raises, or answers what no card can, the error is kept in `VirtualCard.error` and the reader goes on: it
  answers 6F00 (ISO 7816-4:2020, table 6: no precise diagnosis), or treats the card as mute.
- Each function is called in the one thread in which all code of that card runs.
"""

from __future__ import annotations

from collections.abc import Callable

from ._virtual_card import VirtualCard, keep_error

MAX_MESSAGE = 0xFFFF
"""Bytes of a command or an answer (fact 36)."""
MAX_ATR = 33
"""Bytes of an Answer-To-Reset (ISO 7816-3:2006, 8.2.1: TS and at most 32 more)."""
INTERNAL_ERROR = b"\x6f\x00"


def answer(card: VirtualCard, command: bytes) -> bytes:
    """The card's answer to one command."""
    try:
        return _checked(card.process(command), MAX_MESSAGE, "process()")
    except BaseException as error:  # including pytest.fail: the thread must go on
        keep_error(card, error)
        return INTERNAL_ERROR


def power_on(card: VirtualCard) -> bytes:
    """Switch the card on; its ATR, empty if it is mute."""
    return _reset(card, card.power_on)


def reset(card: VirtualCard) -> bytes:
    """Reset the card; its ATR, empty if it is mute."""
    return _reset(card, card.reset)


def power_off(card: VirtualCard) -> None:
    """Switch the card off."""
    try:
        card.power_off()
    except BaseException as error:  # including pytest.fail: the thread must go on
        keep_error(card, error)


def _reset(card: VirtualCard, hook: Callable[[], None]) -> bytes:
    try:
        hook()
    except BaseException as error:  # including pytest.fail: the thread must go on
        keep_error(card, error)
    try:
        return _checked(card.atr, MAX_ATR, "atr")
    except BaseException as error:  # including pytest.fail: the thread must go on
        keep_error(card, error)
        return b""


def _checked(value: object, limit: int, what: str) -> bytes:
    if not isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{what} of a card must be bytes, not {type(value).__name__}")
    if len(value) > limit:
        raise ValueError(f"{what} of a card has {len(value)} bytes; at most {limit} can be")
    return bytes(value)
