"""The arguments of a pool, checked once, before any I/O; and its figures.

Rules:

- Wrong arguments are a TypeError or ValueError that names the argument; nothing has been sent or started then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

from .._pcsc.backend import Backend
from .._session.card_request import CardRequest
from .card import CardT


class PoolStats(NamedTuple):
    """What a pool has at one moment, and what it has done since it was opened.

    Attributes:
        cards: open cards: idle, lent and preparing.
        idle: those that are ready to be lent.
        lent: those that are lent.
        preparing: those that are being made ready, and those whose loan has left a command that is still under way.
        set_aside: cards that are in a reader, and that the pool does not touch; see `CardPool.set_aside`.
        waiting: loans that wait for a card.
        loans: how many loans have got a card.
        waited: how many loans had to wait, those included that wait now and those that have got none.
        timed_out: how many loans have got none in time.
        prepared: how often a card was made ready.
        lost: cards that went while the pool had them open: taken out, or lost with their reader or the service.
        pins_refused: how many times a card was set aside because it had refused a PIN.
    """

    cards: int
    idle: int
    lent: int
    preparing: int
    set_aside: int
    waiting: int
    loans: int
    waited: int
    timed_out: int
    prepared: int
    lost: int
    pins_refused: int


@dataclass(frozen=True, slots=True)
class PoolRequest(Generic[CardT]):
    """The arguments of a pool, checked.

    Attributes:
        card: which cards, and how they are opened.
        timeout: seconds for each loan that says nothing else, and for the start; None: for ever.
        match: chooses a card by what is on it; None: any.
        prepare: makes a card ready; None: nothing has to be done.
        backend: the PC/SC; None: the default one at the start.
        min_cards: how many have to be ready before the start is over; these stay open when they are idle.
        max_cards: how many are open at most; None: all that there are.
        max_idle: seconds after which an idle card is closed; None: it stays open.
        max_uses: loans after which a card is closed, opened and prepared anew; None: never.
        reset_on_return: whether a card is reset and prepared anew after each loan.
    """

    card: CardRequest
    timeout: float | None
    match: Callable[[CardT], Any] | None
    prepare: Callable[[CardT], Any] | None
    backend: Backend | None
    min_cards: int
    max_cards: int | None
    max_idle: float | None
    max_uses: int | None
    reset_on_return: bool


def number_of(name: str, value: Any, least: int) -> int:
    """`value`, a number of cards or uses; a TypeError or ValueError that names the argument if it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: a whole number, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: at least {least}, not {value}")
    return value


def idle_seconds(value: Any) -> float:
    """What the caller gave as `max_idle`; a TypeError or ValueError if it is no time."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"max_idle: seconds as a number, or None, not {type(value).__name__}")
    if not 0 < value <= 1e9:  # NaN is neither
        raise ValueError(f"max_idle: more than 0 seconds, or None for ever, not {value!r}")
    return float(value)
