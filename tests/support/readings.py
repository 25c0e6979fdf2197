"""Readings of one reader, and snapshots of all readers, made in one call each."""

from __future__ import annotations

from types import MappingProxyType

from scardface._enums import StateFlag
from scardface._pcsc.events import Reading, Snapshot
from scardface.errors import NO_SERVICE, SCardError, error_for

ATR = bytes.fromhex("3B800181")
OTHER_ATR = bytes.fromhex("3F6500")
IN_USE = StateFlag.INUSE | StateFlag.EXCLUSIVE
DOWN = error_for(NO_SERVICE, "SCardGetStatusChange")
"""The error of a service that does not run."""


def card(counter: int = 1, atr: bytes = ATR, flags: int = 0) -> Reading:
    """A reader with a card in it."""
    return Reading(StateFlag.PRESENT | flags, counter, atr)


def empty(counter: int = 0, flags: int = 0) -> Reading:
    """A reader without one."""
    return Reading(StateFlag.EMPTY | flags, counter, b"")


def mute(counter: int = 1) -> Reading:
    """A reader with a card that does not answer."""
    return Reading(StateFlag.PRESENT | StateFlag.MUTE, counter, b"")


def snapshot_of(error: SCardError | None = None, life: int = 1, **readers: Reading) -> Snapshot:
    """A snapshot of these readers, in this order."""
    return Snapshot(1, life, error, MappingProxyType(readers))
