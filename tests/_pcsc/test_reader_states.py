"""The state of readers, asked by name: wrong answers of pcscd 2.5 are asked again, and only the list says that a reader is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from scardface import Disposition, Lengths, NoReaderError, Protocol, SCardError, ServiceUnavailableError, ShareMode, errors
from scardface._enums import StateFlag
from scardface._pcsc.backend import PNP_READER, Context, StatusChange, StatusEntry
from scardface._pcsc.binding_choice import system_pcsc
from scardface._pcsc.reader_states import READER_MAY_BE_GONE, TRIES, reader_state, reader_states, status_change
from scardface._session.card_request import CardRequest
from scardface._session.session import Session
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import BOTH, T1, LogCard

WRONG = sorted(READER_MAY_BE_GONE)


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        for reader in ("A", "B", "C"):
            simulated.add_reader(reader)
        simulated.insert("A", LogCard(BOTH))
        yield simulated


@pytest.fixture
def context(pcsc: SimulatedPCSC) -> Iterator[Context]:
    context = pcsc.establish()
    yield context
    context.release()


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_answer_is_asked_again(pcsc: SimulatedPCSC, context: Context, code: int) -> None:
    pcsc.inject("SCardGetStatusChange", code, 3)
    assert reader_state(context, "A").present
    pcsc.inject("SCardGetStatusChange", code, 3)
    assert list(reader_states(context, pcsc.readers, 2)) == ["A", "B", "C"]
    pcsc.inject("SCardGetStatusChange", code, TRIES - 1)
    assert reader_state(context, "A").atr == BOTH


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_answer_for_ever_is_told(pcsc: SimulatedPCSC, context: Context, code: int) -> None:
    for ask in (lambda: reader_state(context, "A"), lambda: reader_states(context, ["A", "B"], 16)):
        pcsc.inject("SCardGetStatusChange", code, TRIES)
        with pytest.raises(SCardError) as caught:
            ask()
        assert (caught.value.code, caught.value.call, caught.value.reader) == (code, "SCardGetStatusChange", "")
    assert reader_state(context, "A").present  # and so many tries it were


def test_only_the_list_says_that_a_reader_is_gone(pcsc: SimulatedPCSC, context: Context) -> None:
    pcsc.remove_reader("B")
    assert list(reader_states(context, ["A", "B", "C"], 2)) == ["A", "C"]
    assert reader_states(context, ["B"], 2) == {}
    with pytest.raises(NoReaderError) as caught:
        reader_state(context, "B")
    assert (caught.value.code, caught.value.reader) == (errors.UNKNOWN_READER, "B")
    with pytest.raises(NoReaderError):
        status_change(context, 0, [("A", 0), ("B", 0)])


def test_a_list_that_fails_is_believed(pcsc: SimulatedPCSC, context: Context) -> None:
    """libpcsclite that cannot read a shorter table of readers says so to every call; its list says it best (fact 67)."""
    pcsc.inject("SCardGetStatusChange", 0x8010001F)
    pcsc.inject("SCardListReaders", 0x8010001F)
    with pytest.raises(SCardError) as caught:
        reader_state(context, "A")
    assert caught.value.call == "SCardListReaders"


def test_what_takes_the_context_away_is_told_at_once(pcsc: SimulatedPCSC, context: Context) -> None:
    for call in ("SCardGetStatusChange", "SCardListReaders"):
        if call == "SCardListReaders":
            pcsc.inject("SCardGetStatusChange", errors.UNKNOWN_READER)
        pcsc.inject(call, errors.COMM_ERROR)
        with pytest.raises(ServiceUnavailableError) as caught:
            reader_states(context, pcsc.readers, 16)
        assert (caught.value.code, caught.value.call) == (errors.COMM_ERROR, call)


def test_no_reader_is_no_call(pcsc: SimulatedPCSC, context: Context) -> None:
    """An empty status call waits on some platforms and returns at once on others (fact 15)."""
    assert reader_states(context, (), 16) == {}
    assert "SCardGetStatusChange" not in pcsc.calls


class Answers:
    """A context whose status calls answer as told; the list is A alone."""

    def __init__(self, *states: int) -> None:
        self.states = list(states)
        self.timeouts: list[int] = []

    def list_readers(self, groups: Sequence[str] | None = None) -> tuple[str, ...]:
        return ("A",)

    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        self.timeouts.append(timeout)
        state = self.states.pop(0)
        return StatusChange(False, [StatusEntry(name, state, T1) for name, _ in entries])


PRESENT, UNKNOWN = int(StateFlag.PRESENT), int(StateFlag.UNKNOWN | StateFlag.UNAVAILABLE | StateFlag.CHANGED)


def test_the_flag_for_an_unknown_reader_is_no_better_than_the_code() -> None:
    """A reader that vanishes during the call is told by its state (fact 16)."""
    assert reader_state(Answers(UNKNOWN, PRESENT), "A").present  # type: ignore[arg-type]
    assert not reader_state(Answers(*[UNKNOWN] * TRIES), "A").present  # type: ignore[arg-type]
    with pytest.raises(NoReaderError):
        reader_state(Answers(UNKNOWN), "B")  # type: ignore[arg-type]
    answers = Answers(UNKNOWN)  # macOS does not know the plug-and-play entry, and that is an answer (fact 19)
    assert status_change(answers, 0, [(PNP_READER, 0)]).entries[0].state == UNKNOWN  # type: ignore[arg-type]


def test_a_wait_that_is_made_again_is_no_longer() -> None:
    answers = Answers(UNKNOWN, UNKNOWN, PRESENT)
    status_change(answers, 5000, [("A", PRESENT)])  # type: ignore[arg-type]
    assert answers.timeouts == sorted(answers.timeouts, reverse=True)
    assert answers.timeouts[0] <= 5000


def opened(pcsc: SimulatedPCSC) -> Session:
    request = CardRequest.from_arguments(None, None, 1, None, False, ShareMode.SHARED, Protocol.T0 | Protocol.T1, Lengths.AUTO)
    return Session.open(pcsc, "A", request, lambda: None)


@pytest.mark.parametrize("code", WRONG)
@pytest.mark.parametrize(
    "again",
    [lambda session: session.reset(Disposition.RESET), lambda session: session.reconnect(ShareMode.SHARED, None)],
    ids=["reset", "reconnect"],
)
def test_a_card_that_stays_in_is_not_called_removed(pcsc: SimulatedPCSC, code: int, again: Callable[[Session], object]) -> None:
    pcsc.inject("SCardGetStatusChange", code)
    session = opened(pcsc)
    pcsc.inject("SCardGetStatusChange", code, 2)
    again(session)
    assert session.transmit(bytes(4)) == b"\x90\x00"
    session.close()


@pytest.mark.usefixtures("no_leaks")
def test_a_card_that_stays_in_while_cards_move_in_all_other_readers(pcscd: PrivatePcscd) -> None:
    """The real daemon; what this finds on 2.5 it finds now and then, so each other test here has the answers injected."""
    pcscd.insert(0, LogCard(BOTH))
    pcscd.wait_for_card(0)
    stop = threading.Event()

    def move(reader: int) -> None:
        while not stop.is_set():
            pcscd.insert(reader, LogCard())
            pcscd.wait_for_card(reader)
            pcscd.remove(reader)
            pcscd.wait_for_removal(reader)

    movers = [threading.Thread(target=move, args=(reader,)) for reader in range(1, len(pcscd.readers))]
    for mover in movers:
        mover.start()
    request = CardRequest.from_arguments(None, None, 1, None, False, ShareMode.SHARED, Protocol.T0 | Protocol.T1, Lengths.AUTO)
    session = Session.open(system_pcsc(), pcscd.readers[0], request, lambda: None)
    try:
        for _ in range(100):
            session.reset(Disposition.RESET)
            session.reconnect(ShareMode.SHARED, None)
    finally:
        session.close()
        stop.set()
        for mover in movers:
            mover.join()
