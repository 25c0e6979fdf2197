"""One look without a monitor: what it shows, and that its context is gone whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from scardface import ServiceUnavailableError
from scardface._enums import Protocol, ShareMode, StateFlag
from scardface._faces import blocking_queries as queries
from scardface._pcsc.backend import CardHandle, Context, StatusChange, StatusEntry
from scardface._pcsc.binding_choice import install, uninstall
from scardface.errors import NO_SERVICE, TIMEOUT, error_for
from tests.support.cards import T1, LogCard
from tests.support.freezing import freeze
from tests.support.waits import wait_until

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
        self.answers = threading.Event()
        self.answers.set()

    def note(self, call: str, argument: Any = None) -> None:
        self.calls.append((call, argument))
        if call == self.broken:
            raise error_for(NO_SERVICE, call)

    def establish(self) -> Context:
        self.note("establish")
        self.answers.wait()
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
    "list_readers": lambda: queries.list_readers(None),
    "list_reader_groups": queries.list_groups,
    "get_status_change": queries.list_states,
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


def test_a_context_that_cannot_be_released_takes_nothing_from_what_was_seen(pcsc: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of somebody's own may raise what it likes."""

    def fail(self: LookedContext) -> None:
        raise ConnectionError("the tunnel broke")

    monkeypatch.setattr(LookedContext, "release", fail)
    assert queries.list_readers(None) == NAMES


@pytest.mark.parametrize("call", LOOKS)
def test_no_service(pcsc: Looked, call: str) -> None:
    pcsc.broken = "establish"
    with pytest.raises(ServiceUnavailableError, match="establish"):
        LOOKS[call]()
    assert pcsc.calls == [("establish", None)]


def test_groups_are_passed_on(pcsc: Looked) -> None:
    assert queries.list_readers(None) == NAMES
    assert queries.list_readers("G") == NAMES
    assert [argument for call, argument in pcsc.calls if call == "list_readers"] == [None, ["G"]]
    assert queries.list_groups() == ("G", "H")


@pytest.mark.parametrize("group", [1, b"G", ["G"]])
def test_a_group_is_one_name(pcsc: Looked, group: Any) -> None:
    with pytest.raises(TypeError, match=r"^group: a str"):
        queries.list_readers(group)
    assert pcsc.calls == []


def test_states_are_asked_without_waiting_and_as_many_at_once_as_the_service_takes(pcsc: Looked) -> None:
    """Facts 15 to 18."""
    states = queries.list_states()
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
    assert queries.list_readers(None) == pcscd.readers
    assert isinstance(queries.list_groups(), tuple)
    pcscd.insert(1, LogCard())
    pcscd.wait_for_card(1)
    states = queries.list_states()
    assert tuple(states) == pcscd.readers
    assert [state.present for state in states.values()] == [False, True, False, False]
    assert states[pcscd.readers[1]].atr == T1
    pcscd.remove_all()


FROZEN = {
    "readers": lambda: queries.list_readers(None, 0.05),
    "groups": lambda: queries.list_groups(0.05),
    "states": lambda: queries.list_states(0.05),
}


def looking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scardface-look"]


@pytest.mark.usefixtures("no_leaks")
def test_a_service_that_is_silent_costs_one_thread_however_often_it_is_asked(pcsc: Looked) -> None:
    pcsc.answers.clear()
    for name, ask in FROZEN.items():
        with pytest.raises(ServiceUnavailableError, match=r"did not answer within 0\.05 s") as failed:
            ask()
        assert failed.value.code == TIMEOUT, name
        wait_until(lambda: len(looking()) == 1)  # on busy cores it may not have begun yet
    assert len(looking()) == 1
    pcsc.answers.set()
    assert queries.list_readers(None) == NAMES
    assert pcsc.open == 0, "a look that was given up has left its context"


def test_one_look_at_a_silent_service_is_bounded_too(pcsc: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_SHORTEST_TIMEOUT", 0.05)
    pcsc.answers.clear()
    with pytest.raises(ServiceUnavailableError, match=r"did not answer within 0\.05 s"):
        queries.list_readers(None, 0)
    pcsc.answers.set()
    wait_until(lambda: not looking())
    monkeypatch.undo()
    assert queries.list_readers(None, 0) == NAMES


@pytest.mark.parametrize("forever", [None, -1, float("inf")])
def test_a_service_may_have_all_the_time_there_is(pcsc: Looked, forever: float | None) -> None:
    pcsc.answers.clear()
    threading.Timer(0.1, pcsc.answers.set).start()
    assert queries.list_readers(None, forever) == NAMES


@pytest.mark.parametrize(("timeout", "error"), [("1", TypeError), (True, TypeError), (-2, ValueError), (float("nan"), ValueError)])
def test_a_timeout_is_seconds(pcsc: Looked, timeout: Any, error: type[Exception]) -> None:
    for ask in (
        lambda: queries.list_readers(None, timeout),
        lambda: queries.list_groups(timeout),
        lambda: queries.list_states(timeout),
    ):
        with pytest.raises(error, match=r"^timeout: "):
            ask()
    assert pcsc.calls == []


@pytest.mark.parametrize("name", FROZEN)
def test_a_real_service_that_is_frozen(pcscd: PrivatePcscd, name: str) -> None:
    """Ctrl-C is heard, and the time is kept, with SIGSTOP in the middle of a program's life."""
    first = f"import sys; from scardface.sync import {name}; {name}(); print(1, flush=True); input()"
    program = f"{first}; {name}(timeout=float(sys.argv[1]))"
    asked = {seconds: _start(program, seconds) for seconds in ("0.2", "inf")}
    freeze(pcscd.pid)
    try:
        for process in asked.values():
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert "did not answer within 0.2 s" in asked["0.2"].communicate(timeout=30)[1]
        with pytest.raises(subprocess.TimeoutExpired):
            asked["inf"].wait(0.5)
        asked["inf"].send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in asked["inf"].communicate(timeout=30)[1]
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)
        for process in asked.values():
            process.kill()
            process.communicate()


def _start(program: str, *words: str) -> subprocess.Popen[str]:
    """A program that has printed its first line."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    return process
