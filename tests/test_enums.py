"""The vocabularies: their numbers are PC/SC's own, as pyscard has them from PC/SC's headers."""

from __future__ import annotations

import enum

import pytest
from smartcard import scard

from scardface._enums import Disposition, Lengths, Protocol, ShareMode, StateFlag

THEIRS: list[tuple[enum.IntEnum | enum.IntFlag, str]] = [
    (Protocol.UNDEFINED, "SCARD_PROTOCOL_UNDEFINED"),
    (Protocol.T0, "SCARD_PROTOCOL_T0"),
    (Protocol.T1, "SCARD_PROTOCOL_T1"),
    (Protocol.RAW, "SCARD_PROTOCOL_RAW"),
    (ShareMode.EXCLUSIVE, "SCARD_SHARE_EXCLUSIVE"),
    (ShareMode.SHARED, "SCARD_SHARE_SHARED"),
    (ShareMode.DIRECT, "SCARD_SHARE_DIRECT"),
    (Disposition.LEAVE, "SCARD_LEAVE_CARD"),
    (Disposition.RESET, "SCARD_RESET_CARD"),
    (Disposition.UNPOWER, "SCARD_UNPOWER_CARD"),
    (Disposition.EJECT, "SCARD_EJECT_CARD"),
    *((flag, f"SCARD_STATE_{name}") for name, flag in StateFlag.__members__.items()),
]


@pytest.mark.parametrize(("ours", "theirs"), THEIRS, ids=[theirs for _, theirs in THEIRS])
def test_the_numbers_are_pcscs(ours: enum.IntEnum | enum.IntFlag, theirs: str) -> None:
    assert int(ours) == getattr(scard, theirs) & 0xFFFFFFFF


def test_every_number_is_compared() -> None:
    kinds = (Protocol, ShareMode, Disposition, StateFlag)
    assert {ours for ours, _ in THEIRS} == {member for kind in kinds for member in kind.__members__.values()}


def test_flags_combine() -> None:
    assert Protocol(3) == Protocol.T0 | Protocol.T1
    assert isinstance(Protocol.T0 | Protocol.T1, Protocol)
    assert StateFlag.PRESENT in StateFlag.PRESENT | StateFlag.INUSE


def test_the_flags_fit_the_lower_half_of_a_state() -> None:
    """The upper half of a state is its event counter (fact 10)."""
    assert all(flag < 0x10000 for flag in StateFlag)


def test_lengths_are_told_by_their_names() -> None:
    assert {member.name.lower(): member.value for member in Lengths} == {member.value: member.value for member in Lengths}
    assert set(Lengths.__members__) == {"AUTO", "EXTENDED", "CHAINING", "ENVELOPE", "SHORT"}
