"""The tests that a backend must pass: derive from `BackendConformance` in a test module, for pytest.

Rules:

- Only what `scardface.backend` asks of every backend is tested, nothing that is pcsc-lite's own.
- One reader and one card are enough, real or virtual. A test begins with the reader empty.
- A status call of the reader that is there is made again where it calls it unknown, as pcscd 2.5 may (`status_change`).
- Nothing sleeps: a test waits for what PC/SC reports, at most `PATIENCE` seconds, and gives up with an AssertionError.
- pytest is not needed to import this module.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.reader_states import status_change
from ..backend import ATTR_ATR_STRING, Backend, CardHandle, Context, StateFlag, StatusEntry, takes_reader_name
from ..errors import (
    CANCELLED,
    CardRemovedError,
    CardResetError,
    NoCardError,
    NoReaderError,
    SCardError,
    SharingViolationError,
)

__all__ = ["BackendConformance", "PATIENCE"]

PATIENCE = 30.0
"""Seconds after which something that must happen has not happened."""
_MOMENT = 0.1
"""Seconds in which something that must not happen would have happened."""
_LONG_MS = int(1000 * PATIENCE)
_ANY = Protocol.T0 | Protocol.T1
_NO_READER = "scardface: there is no such reader"


class BackendConformance:
    """What every backend does. A subclass, in a test module, has to say:

    Attributes:
        backend: what is tested.
        reader: the name of a reader.
        atr: the ATR of the card that `insert` puts in.
        command: a command to that card, as it goes to SCardTransmit.
        answer: what the card answers to it, status bytes included.

    and the methods `insert` and `remove`. Fixtures of its own have to be of class scope or wider: others come after `setup_method`.
    An example:

        class TestMine(BackendConformance):
            backend = MyBackend()
            reader = "My Reader 0"
            atr, command, answer = b"\\x3b\\x00", bytes.fromhex("00A40000"), b"\\x90\\x00"

            def insert(self):
                robot.push()

            def remove(self):
                robot.pull()
    """

    backend: Backend
    reader: str
    atr: bytes
    command: bytes
    answer: bytes

    def insert(self) -> None:
        """Put the card into the reader; it may return before PC/SC knows."""
        raise NotImplementedError

    def remove(self) -> None:
        """Take the card out; it may return before PC/SC knows."""
        raise NotImplementedError

    # The life of a test.

    def setup_method(self) -> None:
        """Begin a test: the reader is empty."""
        self._contexts: list[Context] = []
        self._card_is_in = False
        self._await(StateFlag.EMPTY)

    def teardown_method(self) -> None:
        """End a test: its contexts are released, and its card is out."""
        self._release()
        if self._card_is_in:
            self.remove()
        try:
            self._await(StateFlag.EMPTY)
        finally:
            self._release()

    def _release(self) -> None:
        for context in self._contexts:
            _code(context.release)
        self._contexts.clear()

    def _context(self) -> Context:
        context = self.backend.establish()
        self._contexts.append(context)
        return context

    def _entry(self, context: Context) -> StatusEntry:
        return status_change(context, 0, [(self.reader, 0)]).entries[0]

    def _await(self, flag: StateFlag) -> None:
        """Return when the reader's state has a flag."""
        context = self._context()
        end = time.monotonic() + PATIENCE
        state = 0
        while time.monotonic() < end:
            state = status_change(context, 1000, [(self.reader, state)]).entries[0].state
            if state & flag:
                return
        raise AssertionError(f"{self.reader!r} is not {flag.name} after {PATIENCE:g} s, its state is {state:#x}")

    def _with_card(self) -> None:
        self._card_is_in = True
        self.insert()
        self._await(StateFlag.PRESENT)

    def _without_card(self) -> None:
        self._card_is_in = False
        self.remove()
        self._await(StateFlag.EMPTY)

    def _open(self, share: ShareMode = ShareMode.SHARED) -> CardHandle:
        return self._context().connect(self.reader, share, _ANY)

    # The backend itself.

    def test_its_members_have_values(self) -> None:
        """`max_entries` is one at least, the two others are bools."""
        assert self.backend.max_entries >= 1
        assert isinstance(self.backend.absent_service_means_no_reader, bool)
        assert isinstance(self.backend.release_disconnects, bool)

    def test_contexts_are_apart(self) -> None:
        """A context that is released is none any more; another one goes on."""
        first, second = self._context(), self._context()
        first.release()
        assert isinstance(_error(first.list_readers), SCardError)
        assert self.reader in second.list_readers()

    # Lists and states.

    def test_lists_are_tuples_of_names(self) -> None:
        """Of readers, this one among them, and of groups."""
        context = self._context()
        for names in (context.list_readers(), context.list_readers(None), context.list_reader_groups()):
            assert isinstance(names, tuple)
            assert all(isinstance(name, str) and name for name in names)
        assert self.reader in context.list_readers()

    def test_an_unknown_state_is_answered_at_once(self) -> None:
        """EMPTY without an ATR, then PRESENT with it; 32 bits without a sign."""
        change = status_change(self._context(), _LONG_MS, [(self.reader, 0)])
        (entry,) = change.entries
        assert (change.timed_out, entry.reader, entry.atr) == (False, self.reader, b"")
        assert entry.state & (StateFlag.EMPTY | StateFlag.PRESENT) == StateFlag.EMPTY
        self._with_card()
        entry = self._entry(self._context())
        assert entry.state & (StateFlag.EMPTY | StateFlag.PRESENT) == StateFlag.PRESENT
        assert entry.atr == self.atr
        assert isinstance(entry.atr, bytes)
        assert 0 <= entry.state < 2**32

    def test_a_state_that_is_known_is_waited_out(self) -> None:
        """The call times out with success, CHANGED or not in the state that was given."""
        context = self._context()
        state = self._entry(context).state
        for known in (state | StateFlag.CHANGED, state & ~int(StateFlag.CHANGED)):
            change = status_change(context, 1, [(self.reader, known)])
            assert change.timed_out
            assert change.entries[0].state & StateFlag.EMPTY
            assert not change.entries[0].state & StateFlag.CHANGED

    def test_entries_are_answered_in_their_order(self) -> None:
        """As many as `max_entries` says, and none."""
        context = self._context()
        change = status_change(context, 0, [(self.reader, 0)] * self.backend.max_entries)
        assert [entry.reader for entry in change.entries] == [self.reader] * self.backend.max_entries
        assert not list(context.get_status_change(0, []).entries)

    def test_a_wait_ends_with_an_insertion_and_with_a_removal(self) -> None:
        """And says CHANGED."""
        for move, flag in ((self.insert, StateFlag.PRESENT), (self.remove, StateFlag.EMPTY)):
            context = self._context()
            waiting = _Call(status_change, context, _LONG_MS, [(self.reader, self._entry(context).state)])
            self._card_is_in = flag is StateFlag.PRESENT
            move()
            change = waiting.result()
            assert not change.timed_out
            assert change.entries[0].state & flag
            assert change.entries[0].state & StateFlag.CHANGED

    def test_a_cancel_of_another_thread_ends_a_wait(self) -> None:
        """With CANCELLED, and that context alone. A cancel before the call waits may be lost, so it is repeated."""
        context, other = self._context(), self._context()
        waits = [_Call(status_change, each, _LONG_MS, [(self.reader, self._entry(each).state)]) for each in (context, other)]
        _cancel(context, waits[0])
        assert not waits[1].ended(_MOMENT), "another context's wait was cancelled"
        _cancel(other, waits[1])
        context.cancel()  # it is no error where nothing waits
        assert self.reader in context.list_readers()

    def test_readers_that_are_not_there(self) -> None:
        """A NoReaderError, whose code, call and reader are set."""
        context = self._context()
        error = _error(context.connect, _NO_READER, ShareMode.SHARED, _ANY)
        assert isinstance(error, NoReaderError)
        assert (error.call, error.reader) == ("SCardConnect", _NO_READER)
        assert error.code >> 28 == 0x8
        assert isinstance(_error(context.get_status_change, 0, [(_NO_READER, 0)]), NoReaderError)

    def test_names_that_it_does_not_take(self) -> None:
        """A ValueError, before anything is called; what it says it takes is at most an unknown reader."""
        context = self._context()
        for name in ("two\0names", "L\u00e9cteur \u8aad", "plain"):
            taken = takes_reader_name(self.backend, name)
            assert taken or name != "plain"
            for call in (
                lambda name=name: context.connect(name, ShareMode.SHARED, _ANY),
                lambda name=name: context.get_status_change(0, [(name, 0)]),
            ):
                assert isinstance(_error(call), NoReaderError if taken else ValueError)

    # Cards.

    def test_an_empty_reader_has_no_card(self) -> None:
        """A NoCardError; DIRECT reaches the reader all the same, with no protocol."""
        assert isinstance(_error(self._open), NoCardError)
        handle = self._context().connect(self.reader, ShareMode.DIRECT, Protocol.UNDEFINED)
        assert handle.protocol is Protocol.UNDEFINED
        handle.disconnect(Disposition.LEAVE)

    def test_an_exchange(self) -> None:
        """Bytes go in and come out, any number of times, and leave nothing behind."""
        self._with_card()
        handle = self._open()
        assert handle.protocol in (Protocol.T0, Protocol.T1)
        for _ in range(3):
            answer = handle.transmit(self.command)
            assert answer == self.answer
            assert isinstance(answer, bytes)
        status = handle.status()
        assert (status.reader, status.protocol, status.atr) == (self.reader, handle.protocol, self.atr)
        assert 0 <= status.state < 2**32
        handle.disconnect(Disposition.LEAVE)
        error = _error(handle.transmit, self.command)
        assert isinstance(error, SCardError)
        assert (error.call, error.reader) == ("SCardTransmit", self.reader)

    def test_who_is_alone_shares_with_nobody(self) -> None:
        """A SharingViolationError, at once, for each against the other, until it leaves."""
        self._with_card()
        for held, wanted in ((ShareMode.EXCLUSIVE, ShareMode.SHARED), (ShareMode.SHARED, ShareMode.EXCLUSIVE)):
            handle = self._open(held)
            assert isinstance(_error(self._open, wanted), SharingViolationError)
            handle.disconnect(Disposition.LEAVE)
            self._open(wanted).disconnect(Disposition.LEAVE)

    def test_what_a_release_does_to_handles(self) -> None:
        """Where `release_disconnects` says so, the card is free."""
        self._with_card()
        context = self._context()
        handle = context.connect(self.reader, ShareMode.EXCLUSIVE, _ANY)
        if not self.backend.release_disconnects:
            handle.disconnect(Disposition.LEAVE)
        context.release()
        self._open(ShareMode.EXCLUSIVE)

    def test_a_transaction_keeps_others_waiting(self) -> None:
        """It is counted; an end without a begin is an error."""
        self._with_card()
        owner, contender = self._open(), self._open()
        assert isinstance(_error(owner.end_transaction, Disposition.LEAVE), SCardError)
        owner.begin_transaction()
        owner.begin_transaction()
        owner.end_transaction(Disposition.LEAVE)
        waiting = _Call(contender.transmit, self.command)
        assert not waiting.ended(_MOMENT), "another one's exchange came into a transaction"
        assert owner.transmit(self.command) == self.answer
        owner.end_transaction(Disposition.LEAVE)
        assert waiting.result() == self.answer

    def test_a_reset_is_told_to_others(self) -> None:
        """A CardResetError until they reconnect."""
        self._with_card()
        mine, other = self._open(), self._open()
        other.reconnect(ShareMode.SHARED, _ANY, Disposition.RESET)
        assert isinstance(_error(mine.transmit, self.command), CardResetError)
        assert mine.reconnect(ShareMode.SHARED, _ANY, Disposition.LEAVE) is mine.protocol
        assert mine.transmit(self.command) == other.transmit(self.command) == self.answer

    def test_a_removal_is_told(self) -> None:
        """A CardRemovedError (macOS: a CardResetError), with another card in as well."""
        self._with_card()
        handle = self._open()
        self._without_card()
        assert isinstance(_error(handle.transmit, self.command), (CardRemovedError, CardResetError, NoCardError))
        self._with_card()
        assert isinstance(_error(handle.transmit, self.command), (CardRemovedError, CardResetError))
        assert _code(handle.disconnect, Disposition.LEAVE) >= 0
        assert self._open().transmit(self.command) == self.answer

    def test_what_the_reader_does_not_know(self) -> None:
        """An SCardError that names the call, or bytes."""
        self._with_card()
        handle = self._open()
        for call, name in (
            (lambda: handle.get_attribute(0x7FFF0FFF), "SCardGetAttrib"),
            (lambda: handle.set_attribute(0x7FFF0FFF, b"\0"), "SCardSetAttrib"),
            (lambda: handle.control(0x42000ABC, b"\0"), "SCardControl"),
        ):
            error = _error(call)
            assert error is None or (isinstance(error, SCardError) and error.call == name)
        if not _code(handle.get_attribute, ATTR_ATR_STRING):  # few drivers lack it
            assert handle.get_attribute(ATTR_ATR_STRING) == self.atr

    def test_who_waits_holds_nobody_up(self) -> None:
        """A card is used in one thread while another one waits for readers, and in two at a time."""
        self._with_card()
        context = self._context()
        waiting = _Call(status_change, context, _LONG_MS, [(self.reader, self._entry(context).state)])
        calls = [_Call(self._exchange, self._open()) for _ in range(2)]
        assert [call.result() for call in calls] == [self.answer] * 2
        _cancel(context, waiting)

    def _exchange(self, handle: CardHandle) -> bytes:
        for _ in range(20):
            answer = handle.transmit(self.command)
        return answer

    def test_a_timeout_is_what_was_asked_for(self) -> None:
        """A timeout of 0 looks and returns; a time in milliseconds is waited for, not less."""
        context = self._context()
        state = self._entry(context).state
        begin = time.monotonic()
        assert status_change(context, 200, [(self.reader, state)]).timed_out
        assert time.monotonic() - begin >= 0.15
        assert status_change(context, 0, [(self.reader, state)]).timed_out


class _Call:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(call, arguments), daemon=True).start()

    def _run(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            self._result = call(*arguments)
        except BaseException as error:
            self._error = error
        self._ended.set()

    def ended(self, seconds: float) -> bool:
        """Whether it ends in that time."""
        return self._ended.wait(seconds)

    def result(self) -> Any:
        """What it returned or raised, once it has ended."""
        assert self._ended.wait(PATIENCE), "the call does not return"
        if self._error is not None:
            raise self._error
        return self._result


def _error(call: Callable[..., Any], *arguments: Any) -> Exception | None:
    """What a call raises."""
    try:
        call(*arguments)
    except Exception as error:
        return error
    return None


def _cancel(context: Context, waiting: _Call) -> None:
    """Cancel a wait. A cancel that comes before it is lost, so it is repeated."""
    end = time.monotonic() + PATIENCE
    while not waiting.ended(0.01):
        assert time.monotonic() < end, "no cancel ends the wait"
        context.cancel()
    assert _code(waiting.result) == CANCELLED


def _code(call: Callable[..., Any], *arguments: Any) -> int:
    """The code that a call answers; 0: success."""
    try:
        call(*arguments)
    except SCardError as error:
        return error.code
    return 0
