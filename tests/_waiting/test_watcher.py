"""The watcher, alone with a simulated PC/SC: what it posts, what it survives, how it ends."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scardface import ReaderState, ServiceUnavailableError
from scardface._pcsc.backend import PNP_READER
from scardface._pcsc.events import Snapshot, diff
from scardface._waiting import watcher as watching_module
from scardface._waiting.watcher import LONGEST_PAUSE, Watcher
from scardface.errors import COMM_ERROR, INVALID_PARAMETER, NO_MEMORY, NO_SERVICE, UNKNOWN_READER, SCardError, error_for
from scardface.testing import SimulatedPCSC
from scardface.testing._simulated_context import SimulatedContext
from tests.support.cards import BOTH, T1, LogCard
from tests.support.waits import PATIENCE, wait_until


class Watching:
    """A watcher in its thread, and what it posts; `ask` and `stop` are what the driver does."""

    def __init__(self, pcsc: SimulatedPCSC, life: int = 0) -> None:
        self.snapshots: queue.SimpleQueue[Snapshot] = queue.SimpleQueue()
        self.ended = threading.Event()
        self.asked = 0
        self.groups: tuple[tuple[str, ...], ...] = ()
        self.watcher = Watcher(pcsc, life)
        self.thread = self.watcher.start(self._post)

    def _post(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            self.ended.set()
        else:
            assert not self.ended.is_set()
            self.snapshots.put(snapshot)

    def ask(self) -> int:
        """Want a new query; its number."""
        self.asked += 1
        self.watcher.request_query(self.asked, self.groups)
        return self.asked

    def next(self) -> Snapshot:
        return self.snapshots.get(timeout=PATIENCE)

    def until(self, condition: Callable[[Snapshot], bool]) -> Snapshot:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            snapshot = self.next()
            if condition(snapshot):
                return snapshot
        raise AssertionError("it never came")

    def answer(self) -> Snapshot:
        """A new snapshot."""
        asked = self.ask()
        return self.until(lambda snapshot: snapshot.number >= asked)

    def stop(self) -> None:
        self.watcher.stop()
        assert self.ended.wait(PATIENCE)
        self.thread.join(PATIENCE)


@pytest.fixture(autouse=True)
def _nothing_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a slice would help a wait that nobody has woken."""
    monkeypatch.setattr(watching_module, "SLICE_MS", 600_000)


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        yield simulated
        assert simulated.open_contexts == 0


@pytest.fixture
def watching(pcsc: SimulatedPCSC) -> Iterator[Watching]:
    watching = Watching(pcsc)
    yield watching
    watching.stop()


def present(snapshot: Snapshot) -> list[str]:
    return [name for name, reading in snapshot.readers.items() if reading.present]


def test_it_posts_the_start_and_every_change(pcsc: SimulatedPCSC, watching: Watching) -> None:
    assert dict(watching.next().readers) == {}
    pcsc.add_reader("A")
    assert list(watching.next().readers) == ["A"]
    for _ in range(3):
        pcsc.insert("A", LogCard(BOTH))
        snapshot = watching.next()
        assert snapshot.readers["A"].state() == ReaderState(True, BOTH, False, False, False)  # type: ignore[arg-type]
        pcsc.remove("A")
        assert present(watching.next()) == []
    pcsc.remove_reader("A")
    assert dict(watching.until(lambda snapshot: not snapshot.readers).readers) == {}
    assert watching.snapshots.empty()


def test_a_wanted_query_is_answered_by_a_new_snapshot(pcsc: SimulatedPCSC, watching: Watching) -> None:
    pcsc.add_reader("A")
    for number in range(1, 20):
        assert watching.answer().number == number
    groups = ("SCard$DefaultReaders",)
    watching.groups = (groups,)
    assert watching.answer().groups == {groups: frozenset({"A"})}


def test_queries_wanted_together_cost_one(pcsc: SimulatedPCSC, watching: Watching) -> None:
    watching.answer()
    before = pcsc.calls.get("SCardListReaders", 0)
    numbers = [watching.ask() for _ in range(200)]
    watching.until(lambda snapshot: snapshot.number == numbers[-1])
    assert pcsc.calls["SCardListReaders"] - before < 100


def test_a_swap_between_two_queries_is_seen(pcsc: SimulatedPCSC, watching: Watching) -> None:
    pcsc.add_reader("A")
    pcsc.insert("A", LogCard())
    before = watching.until(lambda snapshot: present(snapshot) == ["A"])
    pcsc.driver_polls = False
    pcsc.remove("A")
    pcsc.insert("A", LogCard())
    pcsc.driver_polls = True
    pcsc.poll()
    assert len(diff(before, watching.answer())) in (0, 2)  # a poll of the driver may miss it; what it found comes as a pair


def test_it_outlives_the_service(pcsc: SimulatedPCSC, watching: Watching) -> None:
    pcsc.add_reader("A")
    pcsc.insert("A", LogCard())
    first = watching.until(lambda snapshot: present(snapshot) == ["A"])
    for _ in range(3):
        pcsc.stop_service()
        down = watching.until(lambda snapshot: snapshot.error is not None)
        assert isinstance(down.error, ServiceUnavailableError)
        assert present(down) == ["A"]
        assert watching.answer().error is not None  # a question is answered while there is no service
        pcsc.start_service()
        up = watching.until(lambda snapshot: snapshot.error is None)
        assert up.life > first.life
        assert present(up) == ["A"]
        first = up


@pytest.mark.slow
def test_its_pauses_grow_while_there_is_no_service(pcsc: SimulatedPCSC, watching: Watching) -> None:
    pcsc.stop_service()
    watching.until(lambda snapshot: snapshot.error is not None)
    before = pcsc.calls.get("SCardEstablishContext", 0)
    assert not watching.ended.wait(3 * LONGEST_PAUSE)
    assert pcsc.calls["SCardEstablishContext"] - before < 30  # without pauses there would be thousands


@pytest.mark.parametrize("code", [COMM_ERROR, NO_SERVICE, INVALID_PARAMETER, 0x80100001, 0x8010FFFF])
@pytest.mark.parametrize("call", ["SCardGetStatusChange", "SCardListReaders", "SCardEstablishContext"])
def test_it_starts_anew_after_any_failure(pcsc: SimulatedPCSC, watching: Watching, call: str, code: int) -> None:
    pcsc.add_reader("A")
    watching.answer()
    pcsc.inject(call, code)
    if call == "SCardEstablishContext":
        pcsc.inject("SCardListReaders", COMM_ERROR)
    watching.ask()
    assert watching.until(lambda snapshot: snapshot.error is not None).error.code in (code, COMM_ERROR)  # type: ignore[union-attr]
    assert watching.until(lambda snapshot: snapshot.error is None).readers.keys() == {"A"}


@pytest.mark.parametrize("code", [UNKNOWN_READER, 0x8010001F, 0x80100022])
def test_a_list_that_changed_under_it_is_read_again(pcsc: SimulatedPCSC, watching: Watching, code: int) -> None:
    """Only the list says that a reader is gone (facts 16, 17)."""
    pcsc.add_reader("A")
    watching.answer()
    pcsc.inject("SCardGetStatusChange", code, 5)
    assert watching.answer().error is None
    pcsc.inject("SCardGetStatusChange", code, 200)
    asked = watching.ask()
    assert watching.until(lambda snapshot: snapshot.error is not None).number >= asked  # a service that lies for ever has failed


def test_a_failure_that_is_not_pcscs(pcsc: SimulatedPCSC, watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    watching.answer()
    broken = iter([RuntimeError("the binding broke")])
    original = pcsc.establish

    def establish() -> object:
        for error in broken:
            raise error
        return original()

    pcsc.establish = establish  # type: ignore[method-assign,assignment]
    pcsc.inject("SCardListReaders", COMM_ERROR)
    watching.ask()
    watching.until(lambda snapshot: snapshot.error is not None)
    pcsc.add_reader("A")
    assert list(watching.until(lambda snapshot: bool(snapshot.readers)).readers) == ["A"]
    assert [record.levelno for record in caplog.records if record.name == "scardface.watch"] == [logging.ERROR]


def test_names_that_bindings_do_not_take_are_left_out_and_logged_once(
    pcsc: SimulatedPCSC, watching: Watching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listed = SimulatedContext.list_readers
    monkeypatch.setattr(
        SimulatedContext, "list_readers", lambda self, groups=None: (*listed(self, groups), "Lecteur é", "two\0names")
    )
    pcsc.add_reader("A")
    for _ in range(3):
        watching.ask()
        assert list(watching.until(lambda snapshot: bool(snapshot.readers)).readers) == ["A"]
    assert len([record for record in caplog.records if "is left out" in record.getMessage()]) == 2


@pytest.mark.parametrize("dialect", ["pcsclite", "pcsclite-1.9", "macos", "windows"])
def test_readers_come_and_go_in_every_dialect(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._waiting.watcher.LIST_INTERVAL_MS", 50)
    monkeypatch.setattr("scardface._waiting.watcher.SLICE_MS", 200)
    with SimulatedPCSC(dialect) as pcsc:  # type: ignore[arg-type]
        watching = Watching(pcsc)
        for _ in range(3):
            pcsc.add_reader("A")
            watching.until(lambda snapshot: snapshot.error is None and list(snapshot.readers) == ["A"])
            pcsc.insert("A", LogCard())
            watching.until(lambda snapshot: present(snapshot) == ["A"])
            pcsc.remove("A")
            watching.until(lambda snapshot: snapshot.error is None and present(snapshot) == [])
            pcsc.remove_reader("A")
            watching.until(lambda snapshot: snapshot.error is not None or not snapshot.readers)
        watching.stop()
        assert pcsc.open_contexts == 0


def test_more_readers_than_one_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._waiting.watcher.LIST_INTERVAL_MS", 300)
    with SimulatedPCSC(max_readers=40) as pcsc:
        for number in range(40):
            pcsc.add_reader(f"R{number:02}")
        monkeypatch.setattr(SimulatedPCSC, "max_entries", 16)
        watching = Watching(pcsc)
        assert len(watching.answer().readers) == 40
        for number in (0, 17, 39):
            pcsc.insert(number, LogCard())
            watching.until(lambda snapshot, name=f"R{number:02}": name in present(snapshot))
        watching.stop()


def test_a_question_wakes_a_wait_without_readers(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, where no entry tells of readers, nothing is waited for in PC/SC while there is none."""
    monkeypatch.setattr(watching_module, "LIST_INTERVAL_MS", 600_000)  # else each would come by itself, after a second
    with SimulatedPCSC("macos") as simulated:
        watching = Watching(simulated)
        for _ in range(6):
            watching.answer()
        watching.stop()


def test_a_group_that_pcsc_does_not_know_has_no_readers(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def __init__(self, code: int) -> None:
            self.code = code

        def list_readers(self, groups: object) -> tuple[str, ...]:
            raise SCardError("no such group", self.code)

    assert watching_module._list_group(Context(UNKNOWN_READER), ("g",)) == ()  # type: ignore[arg-type]
    with pytest.raises(SCardError):
        watching_module._list_group(Context(COMM_ERROR), ("g",))  # type: ignore[arg-type]


def test_a_plug_and_play_entry_that_fails(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("A")
    pcsc.inject("SCardGetStatusChange", UNKNOWN_READER)
    watching = Watching(pcsc)
    assert list(watching.answer().readers) == ["A"]
    watching.stop()


def test_as_many_readers_as_one_call_takes_leave_no_room_for_the_list(pcsc: SimulatedPCSC, watching: Watching) -> None:
    for number in range(16):
        pcsc.add_reader(f"R{number:02}")
    watching.until(lambda snapshot: len(snapshot.readers) == 16)
    pcsc.insert(15, LogCard())
    assert present(watching.until(lambda snapshot: bool(present(snapshot)))) == ["R15"]


def test_without_a_service_it_ends_too(pcsc: SimulatedPCSC) -> None:
    pcsc.stop_service()
    watching = Watching(pcsc)
    watching.until(lambda snapshot: snapshot.error is not None)
    watching.stop()


def test_lives_are_counted_on_from_those_before(pcsc: SimulatedPCSC) -> None:
    """A life of the service in one watcher's time is told apart from those in another's."""
    watching = Watching(pcsc, life=7)
    assert watching.answer().life == 8
    pcsc.stop_service()
    assert watching.until(lambda snapshot: snapshot.error is not None).life == 8
    pcsc.start_service()
    assert watching.until(lambda snapshot: snapshot.error is None).life == 9
    watching.stop()


def test_a_wait_that_could_not_be_interrupted_is_interrupted_later(
    pcsc: SimulatedPCSC, watching: Watching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No thread for a cancel is no end of anything: `behind` says that the driver has to come again."""
    pcsc.add_reader("A")
    watching.answer()
    wait_until(lambda: pcsc._service._waits)

    def no_thread(*_: object) -> threading.Thread:
        raise SCardError("no thread could be started", NO_MEMORY)

    with monkeypatch.context() as patch:
        patch.setattr(watching_module, "spawn", no_thread)
        asked = watching.ask()
        assert watching.watcher.cancel_failed
        assert "no thread could be started" in caplog.text
    watching.watcher.request_query(asked, ())
    assert not watching.watcher.cancel_failed
    assert watching.until(lambda snapshot: snapshot.number >= asked)


def test_a_stop_can_be_taken_back_until_it_is_heeded(pcsc: SimulatedPCSC) -> None:
    resumed = 0
    for _ in range(100):
        watching = Watching(pcsc)
        watching.watcher.stop()
        if watching.watcher.resume():
            resumed += 1
            watching.answer()
            watching.watcher.stop()
        assert watching.ended.wait(PATIENCE)
        assert not watching.watcher.resume()
        watching.thread.join(PATIENCE)
    assert resumed


@pytest.mark.slow
def test_a_stop_at_any_moment_is_heeded(pcsc: SimulatedPCSC) -> None:
    """Also just before the blocked call begins, where PC/SC loses a cancel (fact 1)."""
    pcsc.add_reader("A")
    for number in range(200):
        watching = Watching(pcsc)
        time.sleep(number * 0.00002)
        watching.watcher.stop()
        assert watching.ended.wait(PATIENCE), number
        watching.thread.join(PATIENCE)


def test_every_insertion_at_full_speed_is_reported_in_order(pcsc: SimulatedPCSC, watching: Watching) -> None:
    pcsc.add_reader("A")
    last = watching.until(lambda snapshot: "A" in snapshot.readers)
    for number, atr in zip(range(200), itertools.cycle([T1, BOTH])):
        pcsc.insert("A", LogCard(atr))
        now = watching.next()
        assert [type(event).__name__ for event in diff(last, now)] == ["CardInserted"], number
        last = now
        pcsc.remove("A")
        now = watching.next()
        assert [type(event).__name__ for event in diff(last, now)] == ["CardRemoved"], number
        last = now


def test_errors_of_a_context_that_is_gone_already_are_nobodys() -> None:
    with SimulatedPCSC() as pcsc:
        watching = Watching(pcsc)
        watching.answer()
        pcsc.inject("SCardReleaseContext", NO_SERVICE)
        pcsc.inject("SCardListReaders", COMM_ERROR)
        watching.ask()
        assert isinstance(watching.until(lambda snapshot: snapshot.error is not None).error, SCardError)
        assert watching.until(lambda snapshot: snapshot.error is None)
        watching.stop()


def test_a_spurious_answer_about_plug_and_play_is_asked_again(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """pcsc-lite 2.5 may say UNKNOWN_READER of it while cards move: that is no reason to poll for this life (fact 17)."""
    real, wrong = SimulatedContext.get_status_change, [2]

    def get_status_change(self: SimulatedContext, timeout: int, entries: Any) -> Any:
        if timeout == 0 and [name for name, _ in entries] == [PNP_READER] and wrong[0]:
            wrong[0] -= 1
            raise error_for(UNKNOWN_READER, "SCardGetStatusChange")
        return real(self, timeout, entries)

    monkeypatch.setattr(SimulatedContext, "get_status_change", get_status_change)
    context = pcsc.establish()
    try:
        assert Watcher(pcsc)._plug_and_play(context) is not None
        assert wrong == [0]
    finally:
        context.release()


class Forgetful:
    """A PC/SC whose status calls never wait, since they forget what they are told, as Wine's do."""

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        self._pcsc = pcsc

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pcsc, name)

    def establish(self) -> Any:
        context = self._pcsc.establish()
        wait = context.get_status_change
        object.__setattr__(context, "get_status_change", lambda timeout, entries: wait(0, [(name, 0) for name, _ in entries]))
        return context


def test_status_calls_that_never_wait_keep_no_processor_busy(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("A")
    watching = Watching(Forgetful(pcsc))  # type: ignore[arg-type]
    try:
        for _ in range(3):
            pcsc.insert("A", LogCard())
            watching.until(lambda snapshot: present(snapshot) == ["A"])
            pcsc.remove("A")
            watching.until(lambda snapshot: not present(snapshot))
        before, began = pcsc.calls["SCardGetStatusChange"], time.monotonic()
        threading.Event().wait(0.3)
        calls = pcsc.calls["SCardGetStatusChange"] - before
        assert calls <= (time.monotonic() - began) / watching_module.NO_NEWS_PAUSE + 2
    finally:
        watching.stop()
