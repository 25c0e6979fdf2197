"""What both faces of a card have in common: one acquisition, cancelled at any time, and an end that is never forgotten."""

from __future__ import annotations

import gc
import re
import sys
import threading
import time
import warnings
import weakref
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import scardface
from scardface import C_APDU, CardTimeoutError, Protocol, ShareMode, WaitCancelledError, _faces, _threads, cancel_all, sync
from scardface._faces import card as _card
from scardface._faces.card import commands, octets, raw_command
from scardface._faces.cards import Cards
from scardface._pcsc.backend import Context
from scardface._session.session import Session
from scardface._waiting.acquisition import Acquisition
from scardface._waiting.driver import Driver
from scardface._waiting.removal import RemovalWait
from scardface._waiting.served_cards import ServedCards
from scardface.testing import PrivatePcscd
from tests.support.cards import T1, LogCard
from tests.support.faces import off_loop
from tests.support.waits import throw_away

SOON = 30.0
"""Seconds that something may take that takes none."""

FACES = pytest.mark.parametrize("kind", [scardface.SCard, sync.SCard], ids=["async", "sync"])


class Untouched:
    """A PC/SC that nobody may reach."""

    max_entries = 16
    absent_service_means_no_reader = False

    def establish(self) -> Context:
        pytest.fail("PC/SC was called")


def acquire(card: Any, **arguments: Any) -> None:
    """Run a card's `__init__` and its acquisition, on whichever face it is."""
    card.__init__(**arguments)
    if isinstance(card, scardface.SCard):
        anyio.run(_await, card)


async def _await(card: Awaitable[Any]) -> None:
    await card


@pytest.fixture
def virtual(pcscd: PrivatePcscd) -> Iterator[LogCard]:
    """A card in the first reader."""
    card = LogCard()
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    yield card
    pcscd.remove_all()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells of."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# Cancelling.


@FACES
def test_cancel_before_init_has_set_anything(kind: Any) -> None:
    """Nothing of PC/SC is called then."""
    card = kind.__new__(kind)
    card.cancel()
    card.cancel()
    with pytest.raises(WaitCancelledError, match=r"cancel\(\)"):
        acquire(card, backend=Untouched())


@FACES
def test_cancel_all_reaches_cards_whose_init_has_not_run(kind: Any) -> None:
    cards = [kind.__new__(kind) for _ in range(3)]
    cancel_all()
    for card in cards:
        with pytest.raises(WaitCancelledError):
            acquire(card, backend=Untouched())


@FACES
def test_cancel_all_is_for_those_that_exist_now(kind: Any, pcscd: PrivatePcscd) -> None:
    cancel_all()
    card = kind.__new__(kind)
    with pytest.raises(CardTimeoutError):
        acquire(card, timeout=0)


class _Asks(sync.SCard):
    """Cancels itself in the middle of its constructor, from the pattern that it waits with."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        threading.Thread(target=self._cancel_soon, daemon=True).start()
        super().__init__()

    def _cancel_soon(self) -> None:
        until(lambda: self._acquisition is not None)
        self.cancel()
        self.asked.set()


def test_cancel_from_another_thread_in_the_middle_of_the_constructor(pcscd: PrivatePcscd) -> None:
    """At any moment from the one at which there is something to cancel."""
    for _ in range(5):
        with pytest.raises(WaitCancelledError):
            _Asks()


@FACES
def test_a_cancellation_is_never_a_timeout(kind: Any, pcscd: PrivatePcscd) -> None:
    """Both at once: the cancellation counts."""
    card = kind.__new__(kind)
    card.cancel()
    with pytest.raises(WaitCancelledError) as raised:
        acquire(card, timeout=0)
    assert not isinstance(raised.value, TimeoutError)
    assert (raised.value.code, raised.value.call, raised.value.reader) == (0x80100002, "", "")


class Wait:
    """A wait for a removal, as far as a card knows it."""

    cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


@FACES
def test_cancel_ends_the_waits_of_now_and_no_later_one(kind: Any) -> None:
    card = kind.__new__(kind)
    first, second, third = Wait(), Wait(), Wait()
    card._begin_removal(first)
    card._begin_removal(second)
    card._begin_removal(third)
    card._end_removal(second)
    card.cancel()
    assert (first.cancelled, second.cancelled, third.cancelled) == (1, 0, 1)
    later = Wait()
    card._begin_removal(later)
    assert later.cancelled == 0
    for wait in (first, third, later):
        card._end_removal(wait)
    card.cancel()
    assert (first.cancelled, third.cancelled, later.cancelled) == (1, 1, 0)


def test_cancelling_never_waits_for_another_thread() -> None:
    """A signal handler may run while its own thread is in the middle of `cancel`."""
    card = sync.SCard.__new__(sync.SCard)
    with _card._lock.current:
        card.cancel()
        cancel_all()


def test_cards_do_not_live_on_in_the_list_of_all() -> None:
    card = scardface.SCard()
    left = weakref.ref(card)
    assert card in _card._cards
    del card
    gc.collect()
    assert left() is None
    cancel_all()


def test_what_finalizers_and_signal_handlers_may_call_is_what_there_is() -> None:
    """The rule stands in one place, and names what exists."""
    rule = (_faces.__doc__ or "").partition("What finalizers and signal handlers may call.")[2]
    named = re.findall(r"`([A-Z]\w+)\.(\w+)`(?: and `(\w+)`)?", rule)
    kinds: list[type[Any]] = [Acquisition, Cards, RemovalWait, ServedCards, Driver, Session, _threads.Worker]
    classes = {kind.__name__: kind for kind in kinds}
    assert {name for name, *_ in named} == set(classes)
    assert all(callable(getattr(classes[name], method)) for name, *methods in named for method in methods if method)


# One acquisition, and what a card shows.


def test_before_it_is_open() -> None:
    card = scardface.SCard(share=ShareMode.SHARED, backend=Untouched())
    assert not card.closed
    assert card.share is ShareMode.SHARED
    assert repr(card) == "<SCard: not open>"
    for name in ("reader", "atr", "protocol"):
        assert not hasattr(card, name)
        with pytest.raises(AttributeError, match="not open yet"):
            getattr(card, name)
    calls: list[Callable[[], Any]] = [lambda: card.send(b"\0\xa4\0\0"), lambda: card.transmit(b"\0\xa4\0\0"), card.wait]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"not open yet; use 'async with SCard\(\.\.\.\)' or 'await SCard\(\.\.\.\)'"):
            anyio.run(call)


@FACES
def test_one_acquisition_even_if_it_fails(kind: Any, pcscd: PrivatePcscd) -> None:
    card = kind.__new__(kind)
    with pytest.raises(CardTimeoutError):
        acquire(card, timeout=0)
    assert not card.closed
    with pytest.raises(RuntimeError, match="one SCard is one acquisition"):
        card._begin()
    assert "not open" in repr(card)


@pytest.mark.usefixtures("no_leaks")
def test_open_and_closed(pcscd: PrivatePcscd, virtual: LogCard) -> None:
    with sync.SCard(timeout=30) as card:
        assert (card.reader, card.atr, card.protocol) == (pcscd.readers[0], T1, Protocol.T1)
        assert repr(card) == f"<SCard: open, {pcscd.readers[0]!r}, T1, 3b 80 01 81>"
        with pytest.raises(RuntimeError, match="this card is open already: use it as it is"):
            card.__init__()  # type: ignore[misc]  # that is the test
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"
    assert card.closed
    assert repr(card) == f"<SCard: closed, {pcscd.readers[0]!r}, T1, 3b 80 01 81>"
    assert (card.reader, card.atr, card.protocol) == (pcscd.readers[0], T1, Protocol.T1)
    calls: list[Callable[[], Any]] = [lambda: card.send(b"\0\xa4\0\0"), lambda: card.transmit(b"\0\xa4\0\0"), card.wait]
    calls += [card.__enter__, card._begin]
    for call in calls:
        with pytest.raises(RuntimeError, match="the card is closed"):
            call()
    card.close()
    card.cancel()
    assert virtual.resets == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_a_card_closed_before_it_was_opened_does_not_open(pcscd: PrivatePcscd) -> None:
    card = scardface.SCard(timeout=30, backend=Untouched())
    await card.aclose()
    assert card.closed
    with pytest.raises(RuntimeError, match="closed"):
        await card
    with anyio.fail_after(SOON):
        await card.aclose()


@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_closing_ends_the_acquisition(pcscd: PrivatePcscd) -> None:
    card = scardface.SCard()
    ended: list[BaseException] = []

    async def wait() -> None:
        with pytest.raises(WaitCancelledError) as raised:
            await card
        ended.append(raised.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with anyio.fail_after(SOON):
            while card._acquisition is None:
                await anyio.sleep(0.001)
        await card.aclose()
    assert len(ended) == 1
    assert card.closed


class _Stored(sync.SCard):
    """Stores itself before it waits."""

    def __init__(self, stored: list[_Stored]) -> None:
        stored.append(self)
        super().__init__()


@pytest.mark.usefixtures("no_leaks")
def test_closing_ends_the_acquisition_of_another_thread(pcscd: PrivatePcscd) -> None:
    stored: list[_Stored] = []
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            _Stored(stored)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: bool(stored) and stored[0]._acquisition is not None)
    stored[0].close()
    thread.join(SOON)
    assert [type(error) for error in ended] == [WaitCancelledError]
    assert stored[0].closed


# Cards that nobody closed.


async def opened(kind: Any) -> Any:
    """An open card, on whichever face."""
    return await scardface.SCard(timeout=30) if kind is scardface.SCard else await off_loop(sync.SCard, timeout=30)


def collected(cards: list[Any]) -> list[warnings.WarningMessage]:
    """Drop the cards; the ResourceWarnings that were told."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        left = [weakref.ref(card) for card in cards]
        throw_away(cards, lambda: caught or all(card() is None for card in left))
    return [warning for warning in caught if warning.category is ResourceWarning]


@FACES
@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_an_unclosed_card_is_told_of_and_closed(kind: Any, virtual: LogCard) -> None:
    """It is offered on, reset, and its thread and context are gone."""
    cards = [await opened(kind)]
    text = repr(cards[0])
    told = [str(warning.message) for warning in collected(cards)]
    assert told == [f"unclosed {text}"]
    async with scardface.SCard(timeout=SOON):
        assert virtual.resets == 1


@FACES
@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_an_unclosed_card_is_closed_though_warnings_are_errors(
    kind: Any, virtual: LogCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning becomes an exception that nobody can catch; the card is closed all the same."""
    unraisable: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraised: unraisable.append(unraised.exc_type))
    cards = [await opened(kind)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        throw_away(cards, lambda: unraisable)
    assert unraisable == [ResourceWarning]
    async with scardface.SCard(timeout=SOON):
        assert virtual.resets == 1


@FACES
def test_a_card_that_never_opened_needs_no_close(kind: Any, pcscd: PrivatePcscd) -> None:
    card = kind.__new__(kind)
    with pytest.raises(CardTimeoutError):
        acquire(card, timeout=0)
    cards = [card, scardface.SCard()]
    del card
    assert collected(cards) == []


def test_a_closed_card_is_not_told_of(virtual: LogCard) -> None:
    cards = [sync.SCard(timeout=30)]
    cards[0].close()
    assert collected(cards) == []


# Cards of another process.


@FACES
def test_a_card_of_the_parent_refuses_in_the_child(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a fork: what was made before belongs to the parent."""
    card = kind.__new__(kind)
    if kind is scardface.SCard:
        card.__init__()
    monkeypatch.setattr(_threads, "_generation", _threads.generation() + 1)
    for call in (card._begin, card._require_session, card.cancel):
        with pytest.raises(RuntimeError, match="made before a fork"):
            call()
    assert not card._cancel_asked
    if kind is scardface.SCard:
        for method in (lambda: _await(card), card.aclose, lambda: card.send(b"\0\xa4\0\0"), card.wait):
            with pytest.raises(RuntimeError, match="made before a fork"):
                anyio.run(method)
    else:
        with pytest.raises(RuntimeError, match="made before a fork"):
            card.close()


@FACES
def test_cancel_all_leaves_the_parents_cards_alone(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card = kind.__new__(kind)
    monkeypatch.setattr(_threads, "_generation", _threads.generation() + 1)
    mine = kind.__new__(kind)
    cancel_all()
    assert (card._cancel_asked, mine._cancel_asked) == (False, True)


def test_an_open_card_of_the_parent_is_neither_closed_nor_told_of(virtual: LogCard, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [sync.SCard(timeout=30)]
    session, worker = cards[0]._session, cards[0]._worker
    assert session is not None
    assert worker is not None
    with monkeypatch.context() as child:
        child.setattr(_threads, "_generation", _threads.generation() + 1)
        with pytest.raises(RuntimeError, match="made before a fork"):
            cards[0].send(b"\0\x10\0\0")
        assert collected(cards) == []
    assert session.transmit(b"\x00\x10\x00\x00\x01x") == b"x\x90\x00"
    session.close()
    worker.finish()  # a real child would not have it


# What a caller gives to `send` and `transmit`.

SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00", 256)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_commands(kind: Callable[[bytes], Any]) -> None:
    encoded = bytes(SELECT)
    assert commands((SELECT, kind(encoded))) == [SELECT, SELECT]
    assert type(octets(kind(encoded))) is bytes
    assert raw_command(kind(encoded)) == encoded


def test_a_command_is_needed() -> None:
    with pytest.raises(ValueError, match="at least one command"):
        commands(())


@pytest.mark.parametrize("command", ["00A40400", [0x00, 0xA4, 0x04, 0x00], None, 4])
def test_what_is_no_command(command: Any) -> None:
    with pytest.raises(TypeError, match=type(command).__name__):
        commands((SELECT, command))
    with pytest.raises(TypeError, match=type(command).__name__):
        raw_command(command)


@pytest.mark.parametrize("command", ["00A40400", [0x00, 0xA4, 0x04, 0x00], (0, 0xA4, 4, 0), 0xA4, array("B", b"\0\xa4\4\0")])
def test_how_a_command_is_made_is_told(command: Any) -> None:
    how = r"fromhex\(" if isinstance(command, str) else r"bytes\("
    for refused in (lambda: commands((command,)), lambda: raw_command(command), lambda: C_APDU.from_bytes(command)):
        with pytest.raises(TypeError, match=how) as told:
            refused()
        assert "A4" not in str(told.value).replace("C_APDU", ""), "what was given may be a PIN"
        assert "164" not in str(told.value)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\xa4\x04"])
def test_a_command_has_at_least_four_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"at least 4 bytes|4"):
        commands((data,))
    with pytest.raises(ValueError, match=f"at least 4 bytes .* not {len(data)}"):
        raw_command(data)
    assert raw_command(b"\x00\xa4\x04\x00") == b"\x00\xa4\x04\x00"


def test_a_malformed_command_is_refused() -> None:
    with pytest.raises(ValueError, match="Lc"):
        commands((b"\x00\xa4\x04\x00\x05\x01",))
