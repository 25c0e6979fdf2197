"""Messages and effects of the dispatcher, made and read in one line."""

from __future__ import annotations

from collections.abc import Hashable
from types import MappingProxyType
from typing import Any

from scardface._enums import Lengths, ShareMode, StateFlag
from scardface._pcsc.events import Reading, Snapshot
from scardface._session.card_request import ANY_PROTOCOL, CardRequest
from scardface._waiting.dispatcher import Dispatcher
from scardface._waiting.messages import Effect, End, Joined, Offer, SnapshotTaken, Waiter
from scardface.errors import SHARING_VIOLATION, error_for

PRESENT, EMPTY = int(StateFlag.PRESENT), int(StateFlag.EMPTY)
HELD = error_for(SHARING_VIOLATION, "SCardConnect", "A")


def card_request(
    readers: Any = None,
    share: ShareMode = ShareMode.EXCLUSIVE,
    *,
    timeout: float | None = None,
    atr: bytes | None = None,
    **more: Any,
) -> CardRequest:
    return CardRequest.from_arguments(readers, None, timeout, atr, False, share, ANY_PROTOCOL, Lengths.AUTO, **more)


def make_waiter(number: int, request: CardRequest, owner: Hashable = "owner", deadline: float = float("inf")) -> Waiter:
    made: Any = Waiter()
    made.number, made.request, made.owner, made.deadline, made.service_may_be_absent = number, request, owner, deadline, False
    return made


def snapshot_taken(number: int = 1, error: Any = None, life: int = 1, groups: Any = None, **readers: Reading) -> SnapshotTaken:
    return SnapshotTaken(Snapshot(number, life, error, MappingProxyType(readers), MappingProxyType(groups or {})))


def offers(effects: list[Effect]) -> list[tuple[int, str]]:
    return [(effect.waiter.number, effect.reader) for effect in effects if isinstance(effect, Offer)]


def first_offer(effects: list[Effect]) -> Offer:
    return next(effect for effect in effects if isinstance(effect, Offer))


def ends(effects: list[Effect]) -> list[Any]:
    return [effect.error for effect in effects if isinstance(effect, End)]


def waiting(*waiters: Waiter, **readers: Reading) -> tuple[Dispatcher, list[Effect]]:
    """A dispatcher with these waiters, after the first query found these readers; the effects of that."""
    dispatcher = Dispatcher()
    for one in waiters:
        dispatcher.handle(Joined(one), 0.0)
    return dispatcher, dispatcher.handle(snapshot_taken(dispatcher.query_wanted, **readers), 0.0)
