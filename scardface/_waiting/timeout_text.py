"""What stood between a waiter and a card, in words: for the text of its CardTimeoutError.

Pure functions of what the dispatcher knows. A text names readers, ATRs and what is wrong with each card, at most five of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._enums import StateFlag
from .._pcsc.backend import why_left_out
from .._pcsc.events import Reading, Snapshot
from .messages import Summary, Waiter
from .slots import Queue, Slot

_MAX_LISTED = 5
_SHARING = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)


def describe(waiter: Waiter, slots: dict[str, Slot], last: Snapshot) -> Summary:
    """What `waiter` has found so far, by the last snapshot, and the error of the last card that it could not open."""
    if last.error is not None:
        return "the PC/SC service is not available", last.error
    offer = waiter._offer
    if waiter._summary is not None and last.number < waiter._query_number and offer is None:
        return waiter._summary
    if offer is not None and slots[offer.reader].reading is None:  # a connect from before there was a watcher
        return _connecting(offer.reader, offer.reading), None
    queue = waiter._queue
    if queue is None:
        return "the PC/SC service did not answer", None
    return _describe_all(
        waiter, queue, [slot for slot in slots.values() if queue in slot.queues and slot.reading is not None], last
    )


def left_out(names: Iterable[str]) -> str:
    """The readers that the binding cannot be asked about; starts with "; ", or is empty."""
    by_reason: dict[str, list[str]] = {}
    for name in names:
        by_reason.setdefault(why_left_out(name), []).append(repr(name))
    return "".join(f"; left out, since {reason}: {', '.join(listed)}" for reason, listed in by_reason.items())


def _describe_all(waiter: Waiter, queue: Queue, slots: list[Slot], last: Snapshot) -> Summary:
    texts, cause = [], None
    for slot in slots:
        text, error = _describe_slot(slot, waiter, queue)
        if text:
            texts.append(text)
        cause = cause or error
    more = [f"and {len(texts) - _MAX_LISTED} more"] if len(texts) > _MAX_LISTED else []
    text = "; ".join(texts[:_MAX_LISTED] + more) or ("no card" if slots else "no reader")
    return text + left_out(filter(waiter.request.readers.accepts, last.left_out)), cause


def _describe_slot(slot: Slot, waiter: Waiter, queue: Queue) -> Summary:
    """Why the card in `slot` is not the waiter's; no text: there is none."""
    reading, where = slot.reading, f"in reader {slot.name!r}"
    if reading is None or not reading.present:
        removed = slot.last_removed
        if removed is not None and removed[0] >= waiter._started and not queue.matches(removed[1]):
            return f"a card whose ATR did not match ({removed[1].hex(' ')}), {where}, taken out again", None
        return "", None
    if reading.mute:
        return f"a card that does not answer, {where}", None
    if not queue.matches(reading.atr):
        return f"a card whose ATR did not match ({reading.atr.hex(' ')}), {where}", None
    failed_card, refusal = slot.failure or (0, None)
    if refusal is not None and failed_card == slot.card and refusal.applies_to(queue):
        return f"a card that could not be opened ({refusal.error}), {where}", refusal.error
    if slot.offer is not None and slot.offer.waiter is waiter and slot.refused_card != slot.card:
        return _connecting(slot.name, reading), None
    if slot.connects or (slot.offer is not None and slot.offer.waiter is not waiter):
        return f"a card that another SCard of this program is opening, {where}", None
    if slot.holders:
        return f"a card held by another SCard of this program, {where}", None
    if slot.refused_card == slot.card or any(refusal.is_sharing_violation for refusal in slot.refusals):
        return f"a card held by another program, {where}", None
    if waiter._known_cards and waiter._known_cards.get(slot.name) == slot.card:
        return f"a card that was in before, {where}", None
    return f"a card that could not be opened, {where}", None


def _connecting(reader: str, reading: Reading) -> str:
    state = "blocked by another program's transaction" if reading.flags & _SHARING else "not answered by PC/SC"
    return f"a connect still {state}, in reader {reader!r}"
