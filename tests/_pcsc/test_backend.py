"""The seam to a PC/SC: which one is meant, what its answers hold, and that the real one fits it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from scardface import NoReaderError, ReaderAdded, sync
from scardface._enums import Protocol
from scardface._pcsc import pyscard as _pcsc
from scardface._pcsc.backend import (
    ATTR_ATR_STRING,
    PNP_READER,
    Backend,
    CardHandle,
    CardStatus,
    Context,
    StatusChange,
    StatusEntry,
    takes_reader_name,
)
from scardface._pcsc.pyscard import PYSCARD
from scardface.testing import FileCard, SimulatedPCSC

ROOT = Path(__file__).resolve().parents[2]


def signatures(kind: Any) -> dict[str, list[tuple[str, Any]]]:
    """The methods of a class and their parameters: name and default."""
    methods = {name: member for name, member in vars(kind).items() if inspect.isfunction(member) and not name.startswith("_")}
    return {
        name: [(parameter.name, parameter.default) for parameter in inspect.signature(method).parameters.values()]
        for name, method in methods.items()
    }


@pytest.mark.parametrize(
    ("seam", "real"),
    [(CardHandle, _pcsc._Handle), (Context, _pcsc._Context), (Backend, type(PYSCARD))],
    ids=["CardHandle", "Context", "Backend"],
)
def test_the_real_one_fits(seam: Any, real: Any) -> None:
    wanted, offered = signatures(seam), signatures(real)
    assert {name: offered.get(name) for name in wanted} == wanted


class OwnNames(SimulatedPCSC):
    """A PC/SC whose binding cannot be called with the name B."""

    def takes_reader_name(self, name: str) -> bool:
        return name != "B"


def test_the_backend_decides_what_a_readers_name_may_be() -> None:
    with OwnNames() as pcsc:
        for reader in ("A", "B", "C"):
            pcsc.add_reader(reader)
        pcsc.insert("B", FileCard())
        assert list(sync.states()) == ["A", "C"]
        for timeout in (0, 0.1):
            with pytest.raises(NoReaderError, match=r"left out, .*: 'B'"):
                sync.SCard("B", timeout=timeout)
        with sync.ReaderMonitor() as monitor:
            assert [next(monitor), next(monitor)] == [ReaderAdded("A", initial=True), ReaderAdded("C", initial=True)]


def test_without_a_word_of_the_backend_names_are_what_pyscard_takes() -> None:
    assert not hasattr(SimulatedPCSC, "takes_reader_name")
    with SimulatedPCSC() as pcsc:
        taken = [name for name in ("A", "L\u00e9", "A\0B", "") if takes_reader_name(pcsc, name)]
        assert taken == ["A", ""]
        assert taken == [name for name in ("A", "L\u00e9", "A\0B", "") if takes_reader_name(PYSCARD, name)]


def test_answers_are_told_by_name() -> None:
    entry = StatusEntry("Reader", 0x00010022, b"\x3b\x00")
    assert (entry.reader, entry.state, entry.atr) == ("Reader", 0x00010022, b"\x3b\x00")
    change = StatusChange(False, [entry])
    assert not change.timed_out
    assert change.entries[0] is entry
    status = CardStatus("Reader", 0x00010022, Protocol.T1, b"\x3b\x00")
    assert (status.reader, status.state, status.protocol, status.atr) == ("Reader", 0x00010022, Protocol.T1, b"\x3b\x00")


def test_names_and_numbers_of_pcsc() -> None:
    """Fact 19, and PC/SC part 3 (SCARD_ATTR_ATR_STRING), as pyscard has them."""
    from smartcard import scard

    assert PNP_READER == r"\\?PnP?\Notification"
    assert ATTR_ATR_STRING == scard.SCARD_ATTR_ATR_STRING
