"""One look without a monitor: what it shows, and that its context is gone whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from scardface import ServiceUnavailableError, _looks
from scardface._backend import CardHandle, Context, StatusChange, StatusEntry
from scardface._default import install, uninstall
from scardface._enums import Protocol, ShareMode, StateFlag
from scardface.errors import NO_SERVICE, error_for
from tests.support.cards import T1, LogCard

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

NAMES = ("A", "B", "C")
CARD = 0x00010000 | StateFlag.PRESENT | StateFlag.CHANGED


class Looked:
    """A PC/SC that notes what it is asked; `broken` is a call of it that fails."""

    absent_service_means_no_reader = False

    def __init__(self, broken: str = "") -> None:
        self.max_entries = 2
        self.broken = broken
        self.calls: list[tuple[str, Any]] = []
        self.open = 0

    def note(self, call: str, argument: Any = None) -> None:
        self.calls.append((call, argument))
        if call == self.broken:
            raise error_for(NO_SERVICE, call)

    def establish(self) -> Context:
        self.note("establish")
        self.open += 1
        return LookedContext(self)


class LookedContext:
    """Its context."""

    def __init__(self, pcsc: Looked) -> None:
        self._pcsc = pcsc

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        self._pcsc.note("list_readers", groups)
        return NAMES

    def list_reader_groups(self) -> tuple[str, ...]:
        self._pcsc.note("list_reader_groups")
        return ("G", "H")

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        self._pcsc.note("get_status_change", (timeout, tuple(entries)))
        return StatusChange(False, [StatusEntry(name, CARD, T1) for name, _ in entries])

    def connect(self, reader: str, share: ShareMode, protocols: Protocol) -> CardHandle:
        pytest.fail("a look connects to nothing")

    def cancel(self) -> None:
        pytest.fail("a look does not wait")

    def release(self) -> None:
        self._pcsc.open -= 1


@pytest.fixture
def pcsc() -> Iterator[Looked]:
    pcsc = Looked()
    install(pcsc)
    yield pcsc
    uninstall(pcsc)


LOOKS: dict[str, Callable[[], Any]] = {
    "list_readers": lambda: _looks.list_readers(None),
    "list_reader_groups": _looks.list_groups,
    "get_status_change": _looks.list_states,
}


@pytest.mark.parametrize("call", LOOKS)
@pytest.mark.parametrize("broken", [False, True], ids=["works", "fails"])
def test_every_look_has_its_own_context_and_leaves_none(pcsc: Looked, call: str, broken: bool) -> None:
    pcsc.broken = call if broken else ""
    for _ in range(2):
        if broken:
            with pytest.raises(ServiceUnavailableError, match=call):
                LOOKS[call]()
        else:
            assert LOOKS[call]()
        assert pcsc.open == 0
    calls = [name for name, _ in pcsc.calls]
    assert calls.count("establish") == 2
    assert calls.count(call) >= 2


@pytest.mark.parametrize("call", LOOKS)
def test_no_service(pcsc: Looked, call: str) -> None:
    pcsc.broken = "establish"
    with pytest.raises(ServiceUnavailableError, match="establish"):
        LOOKS[call]()
    assert pcsc.calls == [("establish", None)]


def test_groups_are_passed_on(pcsc: Looked) -> None:
    assert _looks.list_readers(None) == NAMES
    assert _looks.list_readers("G") == NAMES
    assert [argument for call, argument in pcsc.calls if call == "list_readers"] == [None, ["G"]]
    assert _looks.list_groups() == ("G", "H")


@pytest.mark.parametrize("group", [1, b"G", ["G"]])
def test_a_group_is_one_name(pcsc: Looked, group: Any) -> None:
    with pytest.raises(TypeError, match=r"^group: a str"):
        _looks.list_readers(group)
    assert pcsc.calls == []


def test_states_are_asked_without_waiting_and_as_many_at_once_as_the_service_takes(pcsc: Looked) -> None:
    """Facts 15 to 18."""
    states = _looks.list_states()
    assert list(states) == list(NAMES)
    assert [argument for call, argument in pcsc.calls if call == "get_status_change"] == [
        (0, (("A", StateFlag.UNAWARE), ("B", StateFlag.UNAWARE))),
        (0, (("C", StateFlag.UNAWARE),)),
    ]
    assert states["C"].present
    assert states["C"].atr == T1
    with pytest.raises(TypeError):
        states["D"] = states["C"]  # type: ignore[index]  # that is the test


@pytest.mark.usefixtures("no_leaks")
def test_a_real_service(pcscd: PrivatePcscd) -> None:
    assert _looks.list_readers(None) == pcscd.readers
    assert isinstance(_looks.list_groups(), tuple)
    pcscd.insert(1, LogCard())
    pcscd.wait_for_card(1)
    states = _looks.list_states()
    assert tuple(states) == pcscd.readers
    assert [state.present for state in states.values()] == [False, True, False, False]
    assert states[pcscd.readers[1]].atr == T1
    pcscd.remove_all()
