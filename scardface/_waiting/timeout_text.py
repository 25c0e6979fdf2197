"""What stood between a waiter and a card, in words: for the text of its CardTimeoutError.

Pure functions of what the dispatcher knows. A text names readers, ATRs and what is wrong with each card, at most five of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .._enums import StateFlag
from .._pcsc.backend import why_left_out
from .._pcsc.events import Reading, Snapshot, still_in
from .dispatcher_state import TrackedReader, WaiterQueue
from .messages import Summary, Waiter

_DIGITS = re.compile(rb"\^?3[BbFf]( ?[0-9A-Fa-f.]{2})+\$?")

_MAX_LISTED = 5
_SHARING = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)


def describe(waiter: Waiter, readers: dict[str, TrackedReader], last: Snapshot) -> Summary:
    """What `waiter` has found so far, by the last snapshot, and the error of the last card that it could not open."""
    if last.error is not None:
        return "the PC/SC service is not available", last.error
    offer = waiter._offer
    if waiter._summary is not None and last.number < waiter._query_number and offer is None:
        return waiter._summary
    if offer is not None and readers[offer.reader].reading is None:  # a connect from before there was a watcher
        return _connecting(offer.reader, offer.reading), None
    queue = waiter._queue
    if queue is None:
        return "the PC/SC service did not answer", None
    return _describe_all(
        waiter, queue, [reader for reader in readers.values() if queue in reader.queues and reader.reading is not None], last
    )


def left_out(names: Iterable[str]) -> str:
    """The readers that the binding cannot be asked about; starts with "; ", or is empty."""
    by_reason: dict[str, list[str]] = {}
    for name in names:
        by_reason.setdefault(why_left_out(name), []).append(repr(name))
    return "".join(f"; left out, since {reason}: {', '.join(listed)}" for reason, listed in by_reason.items())


def _describe_all(waiter: Waiter, queue: WaiterQueue, readers: list[TrackedReader], last: Snapshot) -> Summary:
    texts, cause = [], None
    for reader in readers:
        text, error = _describe_reader(reader, waiter, queue)
        if text:
            texts.append(text)
        cause = cause or error
    more = [f"and {len(texts) - _MAX_LISTED} more"] if len(texts) > _MAX_LISTED else []
    text = "; ".join(texts[:_MAX_LISTED] + more) or ("no card" if readers else "no reader")
    return text + left_out(filter(waiter.request.readers.accepts, last.left_out)), cause


def atr_mismatch(atr: bytes, pattern: re.Pattern[bytes] | None) -> str:
    """That a card's ATR did not match; one whose pattern looks like the digits of an ATR is told what a pattern is."""
    written = getattr(pattern, "pattern", None)  # a program's own kind of pattern need not have it
    is_digits = isinstance(written, bytes) and _DIGITS.fullmatch(written)
    hint = r"; atr= is a pattern of bytes, not of their digits: rb'^\x3b\x87'" if is_digits else ""
    return f"a card whose ATR did not match ({atr.hex(' ')}{hint})"


def _describe_reader(reader: TrackedReader, waiter: Waiter, queue: WaiterQueue) -> Summary:
    """Why the card in `reader` is not the waiter's; no text: there is none."""
    reading, where = reader.reading, f"in reader {reader.name!r}"
    if reading is None or not reading.present:
        removed = reader.last_removed
        if removed is not None and removed[0] >= waiter._started and not queue.matches(removed[1]):
            return f"{atr_mismatch(removed[1], queue.pattern)}, {where}, taken out again", None
        return "", None
    if reading.mute:
        return f"a card that does not answer, {where}", None
    if not queue.matches(reading.atr):
        return f"{atr_mismatch(reading.atr, queue.pattern)}, {where}", None
    failed_card, refusal = reader.failure or (0, None)
    if refusal is not None and failed_card == reader.card and refusal.applies_to(queue):
        return f"a card that could not be opened ({refusal.error}), {where}", refusal.error
    if reader.offer is not None and reader.offer.waiter is waiter and reader.refused_card != reader.card:
        return _connecting(reader.name, reading), None
    if reader.connects or (reader.offer is not None and reader.offer.waiter is not waiter):
        return f"a card that another SCard of this program is opening, {where}", None
    if reader.holders:
        return f"a card held by another SCard of this program, {where}", None
    if reader.refused_card == reader.card or any(refusal.is_sharing_violation for refusal in reader.refusals):
        return f"a card held by another program, {where}", None
    if reader.name in waiter._refused and still_in(waiter._refused[reader.name], reading):
        return f"a card that was refused, or had its turn before, {where}", None
    if waiter._known_cards and waiter._known_cards.get(reader.name) == reader.card:
        return f"a card that was in before, {where}", None
    return f"a card that could not be opened, {where}", None


def _connecting(reader: str, reading: Reading) -> str:
    state = "blocked by another program's transaction" if reading.flags & _SHARING else "not answered by PC/SC"
    return f"a connect still {state}, in reader {reader!r}"
