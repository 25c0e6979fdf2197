"""One acquisition: ended by anybody at any time; what is opened is what was offered, or is declined; nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import queue
import re
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from scardface import (
    CardTimeoutError,
    NoReaderError,
    Protocol,
    ReaderMonitor,
    SCard,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    WaitCancelledError,
    cancel_all,
    errors,
    serial,
    sync,
)
from scardface._enums import StateFlag
from scardface._pcsc.events import Reading
from scardface._session.session import Session
from scardface._threads import WaitingThread, _Thread
from scardface._waiting import acquisition as acquisitions
from scardface._waiting import dispatcher
from scardface._waiting.acquisition import Acquisition, acquire_blocking
from scardface._waiting.driver import driver_of
from scardface._waiting.messages import Offer, Waiter
from scardface._waiting.watcher import Watcher
from scardface.testing import SimulatedPCSC
from tests.support.cards import T1, LogCard
from tests.support.faces import both_faces
from tests.support.waits import PATIENCE, SEEN, Unanswered, is_at_rest, threads_named, until, wait_until, waiters

pytestmark = pytest.mark.usefixtures("no_leaks")

OWN = ("scardface-driver", "scardface-watch", "scardface-cancel")
NUMBER = 0x00010103


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated
        wait_until(lambda: not simulated.open_contexts)


def acquisition_for(pcsc: SimulatedPCSC, *args: Any, **kwargs: Any) -> Acquisition:
    """As a card makes one."""
    return Acquisition(SCard(*args, **kwargs)._card_request, pcsc)


def begun(acquisition: Acquisition) -> WaitingThread:
    """Run its start in a thread's place."""
    caller = WaitingThread()
    acquisition.begin(caller, lambda: None)
    return caller


def ends(acquisition: Acquisition, caller: WaitingThread) -> Any:
    """Wait as a thread does, and what comes of it."""
    caller.run(lambda: acquisition.ended, acquisition.own_deadline, acquisition.expire)
    return acquisition.result()


def ends_when(caller: WaitingThread, condition: Callable[[], bool]) -> None:
    """Take what is offered until `condition` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        caller.run(condition, time.monotonic() + 0.01)


# Cancelled and left, at every state.


def nothing_yet(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread | None:
    return None


def waits(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread:
    caller = begun(acquisition)
    wait_until(lambda: waiters(pcsc))
    return caller


def queries(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread:
    pcsc.latency = Unanswered("SCardListReaders")
    return begun(acquisition)


def connects(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread:
    pcsc.latency = Unanswered("SCardConnect")
    pcsc.insert("A", LogCard())
    caller = begun(acquisition)
    wait_until(lambda: driver_of(pcsc).connects)
    return caller


def is_offered(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread:
    """The offer is posted, and not taken: the thread does not turn."""
    caller = waits(acquisition, pcsc)
    pcsc.insert("A", LogCard())
    slots = driver_of(pcsc)._dispatcher._readers
    wait_until(lambda: "A" in slots and slots["A"].offer)
    return caller


def has_opened(acquisition: Acquisition, pcsc: SimulatedPCSC) -> WaitingThread:
    pcsc.insert("A", LogCard())
    caller = begun(acquisition)
    wait_until(lambda: acquisition.ended)
    return caller


STATES = (nothing_yet, queries, waits, is_offered, connects, has_opened)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_ended_at_any_state(pcsc: SimulatedPCSC, state: Callable[..., WaitingThread | None], how: str) -> None:
    """It ends once; a card that was opened for nobody is closed; the next one works."""
    acquisition = acquisition_for(pcsc)
    caller = state(acquisition, pcsc)
    getattr(acquisition, how)()
    if caller is None:
        caller = begun(acquisition)
    if how == "cancel" or state is not has_opened:  # a card that is open and not taken over is given up, too
        with pytest.raises(WaitCancelledError):
            ends(acquisition, caller)
    acquisition.leave()
    if isinstance(pcsc.latency, Unanswered):
        pcsc.latency.answer()
    wait_until(lambda: not pcsc.open_contexts and not threads_named("scardface-card", *OWN))
    assert not driver_of(pcsc).open_cards
    assert not driver_of(pcsc).without_outcome
    assert not driver_of(pcsc).first_queries
    if not pcsc.cards:
        pcsc.insert("A", LogCard())
    with sync.SCard(timeout=5):
        pass


def test_a_cancel_after_the_card_was_taken_over_ends_nothing(pcsc: SimulatedPCSC) -> None:
    acquisition = acquisition_for(pcsc)
    caller = has_opened(acquisition, pcsc)
    assert isinstance(ends(acquisition, caller), Session)
    acquisition.cancel()
    assert driver_of(pcsc).open_cards
    acquisition.leave()
    wait_until(lambda: not pcsc.open_contexts)


def test_a_card_that_was_taken_over_by_a_loop_that_is_closed_now_stays_open(pcsc: SimulatedPCSC) -> None:
    """Its thread asks the loop whether it lives after it has woken it: by then all may be over there."""
    pcsc.insert("A", LogCard())

    async def make() -> SCard:
        return await SCard(timeout=5)

    for _ in range(50):
        card = asyncio.run(make())
        assert not card.closed
        assert driver_of(pcsc).open_cards
        asyncio.run(card.aclose())
    wait_until(lambda: not pcsc.open_contexts)


OTHER = bytes.fromhex("3B8001A0")


# The first query.


def test_alone_it_queries_by_itself_and_beside_others_with_the_driver(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    pcsc.add_reader("B")
    with sync.SCard(timeout=5):
        assert threads_named(*OWN) == []
        assert pcsc.calls["SCardEstablishContext"] == 1, "the query's context becomes the card's"
    waiting = acquisition_for(pcsc, "B")
    waits(waiting, pcsc)
    wait_until(
        lambda: threads_named("scardface-watch") and pcsc.open_contexts == 1
    )  # the watcher's; that of the first query is released
    before = pcsc.calls["SCardEstablishContext"]
    with sync.SCard("A", timeout=5):
        assert pcsc.calls["SCardEstablishContext"] == before + 1, "the card's; the query was the watcher's"
    waiting.leave()
    wait_until(lambda: not driver_of(pcsc).threads())


def test_what_it_finds_it_opens_in_the_order_of_the_list(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("B")
    for reader in ("B", "A"):
        pcsc.insert(reader, LogCard())
    pcsc.inject("SCardConnect", 0x80100066)  # UNRESPONSIVE_CARD
    with sync.SCard(timeout=30) as card:
        assert card.reader == pcsc.readers[1], "the first of the list does not answer"
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.parametrize("share", [ShareMode.SHARED, ShareMode.EXCLUSIVE])
@pytest.mark.parametrize("readers", ["A", None, re.compile("A|C"), ["A", "B"]], ids=["name", "any", "pattern", "names"])
def test_a_card_that_is_in_is_opened_with_four_calls_and_a_list(pcsc: SimulatedPCSC, readers: Any, share: ShareMode) -> None:
    """No list where there is one name; neither one more state after the connect, nor a thread but the card's own."""
    pcsc.add_reader("B")
    pcsc.insert("A", LogCard())
    with sync.SCard(readers, timeout=5, atr=re.escape(T1), share=share) as card:
        assert card.reader == "A"
        calls = ("SCardEstablishContext", "SCardGetStatusChange", "SCardConnect", "SCardStatus")
        assert dict(pcsc.calls) == dict.fromkeys(calls if readers == "A" else (*calls, "SCardListReaders"), 1)
        assert len(threads_named("scardface-card")) == 1
        assert threads_named(*OWN) == []


@pytest.mark.parametrize("card", [None, LogCard(OTHER), LogCard(b"")], ids=["none", "another", "mute"])
def test_a_reader_asked_for_by_name_without_such_a_card_is_waited_for(pcsc: SimulatedPCSC, card: LogCard | None) -> None:
    if card is not None:
        pcsc.insert("A", card)
    waiting = acquisition_for(pcsc, "A", atr=re.escape(T1))
    waits(waiting, pcsc)
    waiting.leave()
    assert "SCardConnect" not in pcsc.calls
    wait_until(lambda: not driver_of(pcsc).threads())


def test_a_card_that_could_not_be_opened_by_the_readers_name_is_tried_once(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    pcsc.inject("SCardConnect", errors.UNRESPONSIVE_CARD)
    with pytest.raises(CardTimeoutError, match="could not be opened"):
        sync.SCard("A", timeout=0, protocols=Protocol.T1)
    assert pcsc.calls["SCardConnect"] == 1


def test_a_card_of_this_process_is_left_to_the_dispatcher_also_by_the_readers_name(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    with sync.SCard("A", timeout=5, share=ShareMode.SHARED):
        before = pcsc.calls["SCardConnect"]
        with pytest.raises(CardTimeoutError, match="another SCard of this program"):
            sync.SCard("A", timeout=0)
        assert pcsc.calls["SCardConnect"] == before


@pytest.mark.parametrize("arguments", [{}, {"atr": b"never"}, {"settle": 0.1}])
def test_a_timeout_of_0_is_one_query(pcsc: SimulatedPCSC, arguments: dict[str, Any]) -> None:
    """It says what it saw, whether alone or beside others."""
    if arguments:
        pcsc.insert("A", LogCard())
    if "settle" in arguments:
        pcsc.remove("A")
    for others in (False, True):
        waiting = acquisition_for(pcsc, atr=b"not this one")
        if others:
            waits(waiting, pcsc)
        with pytest.raises(CardTimeoutError, match="seen: "):
            sync.SCard(timeout=0, **arguments)
        waiting.leave()
        wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
def test_a_timeout_of_0_ends_though_pcsc_does_not_answer(pcsc: SimulatedPCSC) -> None:
    pcsc.latency = query = Unanswered("SCardListReaders")
    with pytest.raises(CardTimeoutError, match="did not answer"):
        sync.SCard(timeout=0)
    query.answer()
    pcsc.stop_service()
    pcsc.start_service()


# What was offered is what is opened.


@pytest.fixture
def swapped(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
    """What happens between an offer and its connect, one each."""
    happens: list[Callable[[], None]] = []
    real = Session.open

    def opened(*args: Any) -> Session:
        if happens:
            happens.pop(0)()
        return real(*args)

    monkeypatch.setattr(Session, "open", opened)
    yield happens
    assert not happens


def swap(pcsc: SimulatedPCSC, atr: bytes) -> Callable[[], None]:
    def happen() -> None:
        pcsc.remove("A")
        pcsc.insert("A", LogCard(atr))

    return happen


@pytest.mark.parametrize("readers", [None, "A"])
@pytest.mark.parametrize("beside", [False, True], ids=["its own query", "the driver's offer"])
def test_another_card_is_passed_on(
    pcsc: SimulatedPCSC, swapped: list[Callable[[], None]], beside: bool, readers: str | None
) -> None:
    """With another ATR it is for one that wants that ATR; with the same one it is offered again, as a new card."""
    waiting = acquisition_for(pcsc, atr=b"not this one")
    if beside:
        waits(waiting, pcsc)
    pcsc.insert("A", LogCard())
    first = pcsc.cards["A"]
    swapped.append(swap(pcsc, T1))
    with sync.SCard(readers, timeout=5, atr=re.escape(T1)) as card:
        assert pcsc.cards["A"] is not first
        assert pcsc.calls["SCardConnect"] == 2, "the first one was another card than the one offered, and was given back"
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"
    waiting.leave()
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
@pytest.mark.parametrize("readers", [None, "A"])
def test_a_card_that_does_not_match_any_more_is_left_alone(
    pcsc: SimulatedPCSC, swapped: list[Callable[[], None]], readers: str | None
) -> None:
    pcsc.insert("A", LogCard())
    swapped.append(swap(pcsc, bytes.fromhex("3F6500")))
    with pytest.raises(CardTimeoutError, match="did not match"):
        sync.SCard(readers, timeout=SEEN, atr=re.escape(T1))
    wrong = pcsc.cards["A"]
    assert isinstance(wrong, LogCard)
    assert wrong.commands == []
    assert wrong.resets == 0


@pytest.mark.parametrize("readers", [None, "A"])
def test_a_service_that_goes_before_the_connect_is_waited_for(
    pcsc: SimulatedPCSC, swapped: list[Callable[[], None]], readers: str | None
) -> None:
    """It was there as the wait began."""
    pcsc.insert("A", LogCard())
    swapped.append(pcsc.stop_service)
    waiting = acquisition_for(pcsc, readers, timeout=PATIENCE)
    caller = begun(waiting)
    wait_until(lambda: not swapped and driver_of(pcsc).threads())
    pcsc.start_service()
    ends(waiting, caller).close()
    assert waiting.worker is not None
    waiting.worker.finish()
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.parametrize(("pattern", "told"), [(b"3B87", True), (b"^3b 80 01$", True), (rb"^\x3b\x87", False), (b"3B", False)])
def test_an_atr_in_digits_is_told_to_be_no_pattern(pcsc: SimulatedPCSC, pattern: bytes, told: bool) -> None:
    pcsc.insert("A", LogCard(T1))
    with pytest.raises(CardTimeoutError, match="a card whose ATR did not match") as caught:
        sync.SCard(timeout=0, atr=pattern)
    assert ("a pattern of bytes, not of their digits" in str(caught.value)) is told


def test_a_reader_by_a_part_of_its_name_is_told_how(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("Reader of somebody")
    with pytest.raises(NoReaderError, match=r"re\.compile\('somebody'\) asks for a part of a name"):
        sync.SCard("somebody", timeout=0)
    with pytest.raises(TypeError, match="not int; seconds are timeout="):
        sync.SCard(30)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'shared' is no ShareMode: .*ShareMode\.SHARED"):
        sync.SCard(share="shared")  # type: ignore[arg-type]


def test_a_protocol_that_the_card_does_not_speak_is_no_match(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard(T1))
    with pytest.raises(CardTimeoutError):
        sync.SCard(timeout=0.1, protocols=Protocol.T0)
    with sync.SCard(timeout=5, protocols=Protocol.T1):
        pass


@pytest.mark.slow
def test_a_reader_of_another_serial_number_is_no_match(swapped: list[Callable[[], None]], pcsc: SimulatedPCSC) -> None:
    """Another device has taken its name meanwhile."""
    pcsc.add_reader("B", attributes={NUMBER: b"1"})
    pcsc.insert("B", LogCard())

    def replaced() -> None:
        pcsc.remove_reader("B")
        pcsc.add_reader("B", attributes={NUMBER: b"2"})
        pcsc.insert("B", LogCard())

    swapped.append(replaced)
    with pytest.raises(CardTimeoutError):
        sync.SCard(serial("1"), timeout=2)


# What is wrong with one card ends nothing.


class Foreign(LogCard):
    """A card that speaks T=14 only, such as those of pay television."""

    def __init__(self) -> None:
        super().__init__(bytes.fromhex("3B8E0E" + "00" * 14))


def test_each_card_that_cannot_be_had_is_warned_of_once(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Though several are tried in turns; another one in the same reader is another card."""
    monkeypatch.setattr(dispatcher, "RETRY_FAILED", 0.01)
    pcsc.add_reader("B")
    pcsc.add_reader("C")
    for reader in ("A", "B"):
        pcsc.insert(reader, Foreign())
    waiting = acquisition_for(pcsc)
    caller = waits(waiting, pcsc)

    def tried_again() -> None:
        before = pcsc.calls["SCardConnect"]
        ends_when(caller, lambda: pcsc.calls["SCardConnect"] > before + 9)

    def warned() -> list[str]:
        return sorted(record.getMessage()[:17] for record in caplog.records if record.levelname == "WARNING")

    tried_again()
    assert warned() == ["the card in 'A' c", "the card in 'B' c"]
    pcsc.remove("B")
    pcsc.insert("B", Foreign())
    ends_when(caller, lambda: len(warned()) == 3)
    tried_again()
    assert warned() == ["the card in 'A' c", "the card in 'B' c", "the card in 'B' c"]
    pcsc.insert("C", LogCard())
    assert ends(waiting, caller).reader == "C"
    waiting.leave()
    wait_until(lambda: not driver_of(pcsc).threads())


ONCE = {"NOT_READY": 0x80100010, "COMM_DATA_LOST": 0x8010002F, "NOT_TRANSACTED": 0x80100016, "UNSUPPORTED_CARD": 0x80100065}


@pytest.mark.parametrize("code", ONCE.values(), ids=ONCE.keys())
def test_what_goes_wrong_once_ends_nothing(pcsc: SimulatedPCSC, code: int, caplog: pytest.LogCaptureFixture) -> None:
    pcsc.insert("A", LogCard())
    pcsc.inject("SCardConnect", code)
    with sync.SCard(timeout=PATIENCE) as card:
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"
    wait_until(lambda: not driver_of(pcsc).threads())
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "'A'" in warned[0]


@pytest.mark.parametrize("beside", [False, True], ids=["its own query", "the driver's offer"])
@pytest.mark.parametrize("code", [0x8010006A, 0x80100065], ids=["SECURITY_VIOLATION", "UNSUPPORTED_CARD"])
def test_a_card_that_cannot_be_opened_is_logged_although_another_is_opened(
    pcsc: SimulatedPCSC, code: int, beside: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """polkit's rules may forbid one reader, for instance."""
    waiting = acquisition_for(pcsc, atr=b"never")
    if beside:
        waits(waiting, pcsc)
    pcsc.add_reader("B")
    for reader in ("A", "B"):
        pcsc.insert(reader, LogCard())
    pcsc.inject("SCardConnect", code)
    with sync.SCard(timeout=PATIENCE) as card:
        assert card.reader == "B"
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "'A'" in warned[0]
    waiting.leave()
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [0, 1])
@pytest.mark.parametrize("code", ONCE.values(), ids=ONCE.keys())
def test_when_the_wait_is_over_the_error_of_such_a_card_is_the_cause(pcsc: SimulatedPCSC, code: int, timeout: float) -> None:
    pcsc.insert("A", LogCard())
    pcsc.inject("SCardConnect", code, 10)
    with pytest.raises(CardTimeoutError, match="could not be opened") as caught:
        sync.SCard(timeout=timeout)
    cause = caught.value.__cause__
    assert isinstance(cause, SCardError)
    assert (cause.code, cause.reader) == (code, "A")
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
def test_the_text_is_that_of_its_own_query_until_the_watcher_has_made_one(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcsc.insert("A", LogCard())
    queried, query = threading.Event(), Watcher._query

    def slow(*arguments: Any) -> Any:
        queried.wait(PATIENCE)
        return query(*arguments)

    monkeypatch.setattr(Watcher, "_query", slow)
    with pytest.raises(CardTimeoutError, match="a card whose ATR did not match"):
        sync.SCard(timeout=SEEN, atr=b"never")
    pcsc.inject("SCardConnect", errors.COMM_DATA_LOST)
    with pytest.raises(CardTimeoutError, match="could not be opened") as caught:
        sync.SCard(timeout=SEEN)
    assert isinstance(caught.value.__cause__, SCardError)
    queried.set()
    wait_until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["open", "opened", "failed"])
def test_a_deadline_in_the_moment_in_which_the_connect_ends(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """The connect is over before the driver hears that somebody waits for it: its reader is free for the next all the same."""
    pcsc.insert("A", LogCard())
    pcsc.latency = connect = Unanswered("SCardConnect")
    if ending == "failed":
        pcsc.inject("SCardConnect", errors.COMM_DATA_LOST)
    waiting = acquisition_for(pcsc, atr=b"never")  # keeps the driver, and what it knows
    waits(waiting, pcsc)
    driver, join, decide = driver_of(pcsc), Acquisition._join, Acquisition._end_with
    driver.without_outcome.clear()  # the next one looks by itself, as where this one began to wait a moment later
    joined = threading.Event()

    def late(acquisition: Acquisition, trying: Offer | None = None) -> None:
        if trying is not None:
            connect.answer()
            wait_until(lambda: acquisition in driver.open_cards if ending == "open" else not driver.connects)
            wait_until(lambda: bool(acquisition._outcomes) is (ending == "opened"))
        join(acquisition, trying)
        joined.set()

    def later(acquisition: Acquisition, end: Session | BaseException) -> bool:
        if ending == "open" and isinstance(end, Session):
            joined.wait(PATIENCE)
        return decide(acquisition, end)

    monkeypatch.setattr(Acquisition, "_join", late)
    monkeypatch.setattr(Acquisition, "_end_with", later)
    try:
        sync.SCard(timeout=SEEN).close()
    except CardTimeoutError:
        assert ending != "opened"
    assert joined.is_set()
    driver.without_outcome[waiting] = None  # and the next one waits with the others
    with sync.SCard(timeout=PATIENCE) as card:
        assert card.reader == "A"
    wait_until(lambda: list(driver._dispatcher._waiters) == [waiting])
    waiting.leave()
    wait_until(lambda: not driver.threads())


@pytest.mark.anyio
@both_faces
async def test_cancels_of_an_open_card_leave_nothing(pcsc: SimulatedPCSC, face: Any) -> None:
    """A service may call `cancel_all` again and again while a card is open for months."""
    pcsc.insert("A", LogCard())
    async with face.open(timeout=PATIENCE) as card:
        acquisition = next(iter(driver_of(pcsc).open_cards))
        assert isinstance(acquisition, Acquisition)
        for _ in range(100):
            cancel_all()
            card.cancel()
        assert len(acquisition._outcomes) == 1
        await card.send(b"\x00\x10\x00\x00\x01x")


# Readers that nothing can be asked about.


@pytest.mark.slow
@pytest.mark.parametrize("beside", [False, True], ids=["its own query", "the driver's query"])
@pytest.mark.parametrize("readers", [None, re.compile("^L"), "L\u00e9 00 00"], ids=["any", "pattern", "name"])
def test_a_reader_that_is_left_out_is_named_in_the_error(beside: bool, readers: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("L\u00e9 00 00")
        pcsc.insert(0, LogCard())
        waiting = acquisition_for(pcsc, atr=b"never", wait_for_reader=True)
        if beside:
            waits(waiting, pcsc)
        with pytest.raises(NoReaderError, match=r"there: none; left out, .* ASCII names only: 'L\u00e9 00 00'\)"):
            sync.SCard(readers)
        for timeout in (0, SEEN):
            with pytest.raises(CardTimeoutError, match=r"no reader; left out, .* ASCII names only: 'L\u00e9 00 00'"):
                sync.SCard(readers, timeout=timeout, wait_for_reader=True)
        pcsc.add_reader("M")
        with pytest.raises(CardTimeoutError, match=r"seen: no card$"):
            sync.SCard("M", timeout=SEEN)
        with pytest.raises(CardTimeoutError, match="seen: no card; left out"):
            sync.SCard(timeout=0)
        waiting.leave()
        wait_until(lambda: not driver_of(pcsc).threads())


# Readers that are waited for.


@pytest.mark.anyio
@pytest.mark.parametrize("readers", ["B", re.compile("^B"), ["B", "C"], serial("7"), None], ids=str)
async def test_a_reader_that_comes_later(readers: Any) -> None:
    with SimulatedPCSC() as pcsc:
        with pytest.raises(NoReaderError, match="wait_for_reader"):
            await SCard(readers, timeout=5)
        found: list[str] = []

        async def wait() -> None:
            async with SCard(readers, timeout=20, wait_for_reader=True) as card:
                found.append(card.reader)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: driver_of(pcsc)._dispatcher.needed)
            if readers is not None:
                pcsc.add_reader("A", attributes={NUMBER: b"5"})
                pcsc.insert("A", LogCard())
            pcsc.add_reader("B", attributes={NUMBER: b"7"})
            pcsc.insert("B", LogCard())
        assert found == ["B"]
        await until(lambda: not pcsc.open_contexts)


@pytest.mark.anyio
@pytest.mark.parametrize("readers", ["A", serial("7")], ids=str)
async def test_a_service_that_comes_later(readers: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A", attributes={NUMBER: b"7"})
        pcsc.insert("A", LogCard())
        pcsc.stop_service()
        with pytest.raises(ServiceUnavailableError):
            await SCard(readers, timeout=5)
        found: list[str] = []

        async def wait() -> None:
            async with SCard(readers, timeout=20, wait_for_reader=True) as card:
                found.append(card.reader)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: driver_of(pcsc)._dispatcher.needed)
            pcsc.start_service()
        assert found == ["A"]
        await until(lambda: not pcsc.open_contexts)


# What a wait leaves behind.


@pytest.mark.parametrize(("reader", "runs"), [("A", True), ("none", True), ("A", False)])
def test_a_wait_that_fails_leaves_no_message(pcsc: SimulatedPCSC, reader: str, runs: bool) -> None:
    """A program that looks for a card again and again, for months, would keep every wait, its error and its SCard."""
    driver = driver_of(pcsc)
    if not runs:
        pcsc.stop_service()
    with pytest.raises((CardTimeoutError, NoReaderError, ServiceUnavailableError)):
        sync.SCard(reader, timeout=0)
    assert not driver.running
    assert driver._queue.empty()


# A card that nobody closed.


def test_a_finalizer_only_puts_an_order(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs wherever the collector does, perhaps in the middle of anything: its thread closes the card."""
    pcsc.insert("A", LogCard())
    card: Any = sync.SCard(timeout=5, share=ShareMode.SHARED)
    closed: queue.SimpleQueue[str] = queue.SimpleQueue()
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda self, *args: (closed.put(threading.current_thread().name), close(self, *args)))
    started: list[str] = []
    monkeypatch.setattr(_Thread, "launch", lambda self: started.append(self.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del card
        gc.collect()
    assert closed.get(timeout=10) == "scardface-card"
    assert started == []


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["A", "none"])
def test_a_second_interrupt_where_the_wait_is_left(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """It comes as the function begins that would leave the wait: before its first step, where Python looks for signals."""
    pcsc.insert("A", LogCard())
    acquisition = acquisition_for(pcsc, reader, wait_for_reader=True)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WaitingThread, "_run", interrupted)
    monkeypatch.setattr(acquisitions, "retry_if_interrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        acquire_blocking(acquisition, pytest.fail)
    keep = acquisition_for(pcsc, "none", timeout=1, wait_for_reader=True)  # whoever waits next has it left, if nobody waited
    monkeypatch.undo()
    with pytest.raises(CardTimeoutError):
        acquire_blocking(keep, pytest.fail)
    wait_until(lambda: not pcsc.open_contexts)
    assert acquisition.ended


# A loop or thread that was busy.


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_a_late_one_that_has_ended_meanwhile_does_not_keep_its_owner_unresponsive(pcsc: SimulatedPCSC, how: str) -> None:
    """Its offer was taken back, then it ended, then its loop turned again: who else waits there gets the card."""
    keep = acquisition_for(pcsc, "A", atr=b"none")  # so that the dispatcher is not forgotten meanwhile
    waits(keep, pcsc)
    late = acquisition_for(pcsc, "A")
    caller = begun(late)
    wait_until(lambda: late in waiters(pcsc))
    pcsc.insert("A", LogCard())
    dispatcher = driver_of(pcsc)._dispatcher
    wait_until(lambda: caller in dispatcher._unresponsive)
    getattr(late, how)()
    wait_until(lambda: late not in dispatcher._waiters)
    other = acquisition_for(pcsc, "A")
    other.begin(caller, lambda: None)
    try:
        caller.run(lambda: other.ended, time.monotonic() + 20)
        assert isinstance(other.result(), Session)
    finally:
        other.leave()
        keep.leave()


# Loops that are closed under a task.


async def acquires() -> None:
    async with SCard("A"):
        await anyio.sleep(60)


async def waits_for_removal() -> None:
    async with SCard("A") as card:
        await card.wait()


async def closes() -> None:
    async with SCard("A"):
        pass


async def monitors() -> None:
    async with ReaderMonitor() as monitor:
        async for _ in monitor:
            pass


CLOSED_IN: dict[str, tuple[Callable[..., Any], str]] = {
    "the first query": (acquires, "SCardEstablishContext"),
    "the connect": (acquires, "SCardConnect"),
    "card.wait()": (waits_for_removal, ""),
    "aclose": (closes, "SCardReleaseContext"),
    "a monitor's start": (monitors, "SCardEstablishContext"),
    "a monitor": (monitors, ""),
}
"""Without a time-out: a task in a scope of anyio's is kept by anyio for ever when its loop is closed under it."""


@pytest.mark.slow
@pytest.mark.parametrize("where", CLOSED_IN)
def test_a_loop_closed_under_a_task_is_forgotten_without_a_word(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one gets the card, and what Python's collector throws away says nothing."""
    job, slow = CLOSED_IN[where]
    unanswered = Unanswered(*filter(None, [slow]))
    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: said.append(f"{it.exc_value!r} in {it.object!r}"))
    with SimulatedPCSC(latency=unanswered) as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        loop = asyncio.new_event_loop()
        gone = weakref.ref(loop)

        async def begin() -> None:
            task = asyncio.ensure_future(job())
            await until(unanswered.begun.is_set if slow else is_at_rest)
            del task

        loop.run_until_complete(begin())
        loop.close()
        unanswered.answer()
        del loop
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
            with sync.SCard("A", timeout=30):
                pass

            def forgotten() -> bool:
                gc.collect()
                return gone() is None

            wait_until(forgotten)
        wait_until(lambda: not pcsc.open_contexts)
    assert said == []


class FakeSession:
    """What a connect has brought: nothing of it but what is checked."""

    reader = "A"

    def __init__(self, counter: int = 1, atr: bytes = T1, protocol: Protocol = Protocol.T1, number: bytes = b"5C01") -> None:
        self.reading = Reading(int(StateFlag.PRESENT), counter, b"")  # a reader that does not tell the ATR
        self.atr = atr
        self.protocol = protocol
        self._number = number

    def get_attribute(self, attribute: int) -> bytes:
        return self._number


@pytest.mark.parametrize(
    ("session", "arguments"),
    [
        (FakeSession(counter=2), {}),
        (FakeSession(atr=bytes.fromhex("3F6500")), {"atr": rb"^\x3b"}),
        (FakeSession(protocol=Protocol.T0), {"protocols": Protocol.T1}),
        (FakeSession(number=b"5C02"), {"readers": serial("5C01")}),
    ],
    ids=["another card", "another ATR", "another protocol", "another serial number"],
)
def test_each_criterion_is_checked_against_the_opened_card(pcsc: SimulatedPCSC, session: Any, arguments: dict[str, Any]) -> None:
    waiter: Any = Waiter()
    waiter.owner = None
    offer = Offer(waiter, "A", Reading(int(StateFlag.PRESENT), 1, T1))
    acquisition = acquisition_for(pcsc, **arguments)
    assert not acquisition._is_what_was_offered(session, offer)
    assert acquisition._is_what_was_offered(FakeSession(), offer)  # type: ignore[arg-type]
