"""The driver's thread: when it starts and ends, what it survives, and that no message is lost in between."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scardface import CardInserted, SCardError, sync
from scardface._pcsc.backend import Context
from scardface._pcsc.events import Event, Snapshot
from scardface._threads import Loop, WaitingThread, no_op
from scardface._waiting import driver as driving
from scardface._waiting import watcher as watching
from scardface._waiting.dispatcher import Dispatcher
from scardface._waiting.driver import Driver, IdleQuestion, driver_of, until_idle_blocking
from scardface._waiting.messages import Subscribed, Unsubscribed
from scardface.errors import NO_MEMORY
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.waits import threads_named, wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")

SOON = 30.0
OWN = ("scardface-driver", "scardface-watch", "scardface-cancel")


class Listener:
    """A listener with an owner of its own."""

    def __init__(self) -> None:
        self.owner: Any = WaitingThread()
        self.looks = 0
        self.events: list[Event] = []
        self.failures: list[BaseException] = []
        self.received = threading.Event()

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        self.looks += 1
        self.events += events
        self.received.set()

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.received.set()

    def begin(self, pcsc: Any, driver: Driver | None = None) -> Listener:
        (driver or driver_of(pcsc)).submit(Subscribed(self, None), pcsc)
        return self


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated
        wait_until(lambda: not threads_named(*OWN))
        assert not simulated.open_contexts


def leave(driver: Driver, *listeners: Listener) -> None:
    for listener in listeners:
        driver.tell(Unsubscribed(listener))
    wait_until(lambda: not driver.threads() and not driver._runs)


def test_it_starts_with_the_first_and_ends_with_the_watcher_after_the_last(pcsc: SimulatedPCSC) -> None:
    driver = driver_of(pcsc)
    assert driver.threads() == []
    for _ in range(3):
        first, second = Listener().begin(pcsc), Listener().begin(pcsc)
        assert first.received.wait(SOON)
        assert second.received.wait(SOON)
        assert len(threads_named("scardface-driver")) == len(threads_named("scardface-watch")) == pcsc.open_contexts == 1
        driver.tell(Unsubscribed(first))
        pcsc.insert("A", LogCard())
        wait_until(lambda second=second: [type(event) for event in second.events] == [CardInserted])
        leave(driver, second)
        assert first.events == []
        assert pcsc.open_contexts == 0
        pcsc.remove("A")


def test_messages_are_dropped_while_nobody_waits(pcsc: SimulatedPCSC) -> None:
    driver = driver_of(pcsc)
    assert not driver.tell(Unsubscribed(Listener()))
    assert not driver.tell(IdleQuestion(lambda nobody: pytest.fail("nobody is there")))
    assert driver._queue.empty()


def test_nobody_waits_for_a_message_that_comes_as_the_thread_ends(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question whether the thread runs and the put, it looks into the queue for the last time."""
    driver = driver_of(pcsc)
    listener = Listener().begin(pcsc)
    assert listener.received.wait(SOON)
    real = driver._queue

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def put(self, message: Any) -> None:
            if isinstance(message, IdleQuestion):
                leave(driver, listener)
            real.put(message)

    monkeypatch.setattr(driver, "_queue", Late())
    answers: list[bool] = []
    assert not driver.tell(IdleQuestion(answers.append))
    leave(driver, again := Listener().begin(pcsc))
    assert again.failures == []


def test_an_interrupt_before_the_start_leaves_no_message(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would take it back: the driver's next run would wait for one who is not there."""
    driver = driver_of(pcsc)
    real = driver._queue

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def put(self, message: Any) -> None:
            real.put(message)
            monkeypatch.setattr(driver, "_queue", real)
            raise KeyboardInterrupt

    monkeypatch.setattr(driver, "_queue", Interrupted())
    listener = Listener()
    with pytest.raises(KeyboardInterrupt):
        listener.begin(pcsc)
    driver.tell(Unsubscribed(listener))
    wait_until(lambda: not driver.threads() and not driver._runs)
    assert driver._queue.empty()


def test_a_message_that_a_wait_was_left_keeps_nothing(pcsc: SimulatedPCSC) -> None:
    """It stays in the queue until somebody waits, which may be never."""

    class Wait:
        def leave(self) -> None:
            left.append(True)

    driver, left = driver_of(pcsc), list[bool]()
    wait = Wait()
    for leave_at_once in (driver.leaving(wait), driver.leaving(Wait())):
        leave_at_once()
    gone = weakref.ref(wait)
    leave(driver, Listener().begin(pcsc))
    assert left == [True]
    assert driver._queue.empty()
    driver.leaving(wait)()
    del wait
    gc.collect()
    assert gone() is None
    leave(driver, Listener().begin(pcsc))
    assert left == [True]


class Moments(dict[int, Any]):
    """A driver's runs, with what others do just before the present one is taken out, and just after that; once."""

    def __init__(self, before: Callable[[], object], after: Callable[[], object]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def _now(self, change: Callable[[], object]) -> None:
        before, after, self.before, self.after = self.before, self.after, no_op, no_op
        before()
        change()
        after()

    def __delitem__(self, key: int) -> None:
        self._now(lambda: super(Moments, self).__delitem__(key))

    def __setitem__(self, key: int, run: Any) -> None:
        if key == 0:
            self._now(lambda: super(Moments, self).__setitem__(key, run))
        else:
            super().__setitem__(key, run)


def no_thread(*_: Any) -> Any:
    """In the place of `spawn`."""
    raise SCardError("no thread", NO_MEMORY)


def test_nobody_is_waited_for_who_leaves_as_a_run_looks_whether_it_may_end(pcsc: SimulatedPCSC) -> None:
    """It began while the run was there, so it was not told to start one; it leaves while there is none, and the run goes on."""
    driver, first, second = driver_of(pcsc), Listener(), Listener()
    moments = driver._runs = Moments(lambda: second.begin(pcsc), lambda: driver.tell(Unsubscribed(second)))
    first.begin(pcsc)
    assert first.received.wait(SOON)
    leave(driver, first)
    assert moments.after is no_op
    assert (second.looks, second.failures) == (0, [])


def test_nobody_is_waited_for_who_leaves_as_another_is_interrupted_at_the_start(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, first, second = driver_of(pcsc), Listener(), Listener()
    moments = driver._runs = Moments(lambda: driver.tell(Unsubscribed(second)), no_op)
    real = driving.spawn

    def interrupted(*_: Any) -> Any:
        monkeypatch.setattr(driving, "spawn", real)
        second.begin(pcsc)
        raise KeyboardInterrupt

    monkeypatch.setattr(driving, "spawn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.begin(pcsc)
    leave(driver, first)
    assert moments.before is no_op
    assert (second.looks, second.failures) == (0, [])


def test_one_who_begins_as_a_start_is_given_up_is_told(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, first, second = driver_of(pcsc), Listener(), Listener()
    driver._runs = Moments(lambda: second.begin(pcsc), no_op)

    monkeypatch.setattr(driving, "spawn", no_thread)
    with pytest.raises(SCardError, match="no thread"):
        first.begin(pcsc)
    assert [str(error) for error in (*first.failures, *second.failures)] == ["no thread"] * 2
    assert not driver._runs
    assert driver._queue.empty()


def test_an_interrupt_of_one_who_gives_up_a_start_leaves_no_run(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one has begun by then, whose run is there when he tries again."""
    driver, second = driver_of(pcsc), Listener()
    real = driving.spawn

    def interrupted() -> None:
        monkeypatch.setattr(driving, "spawn", real)
        second.begin(pcsc)
        raise KeyboardInterrupt

    driver._runs = Moments(no_op, interrupted)
    monkeypatch.setattr(driving, "spawn", no_thread)
    with pytest.raises(SCardError, match="no thread"):
        Listener().begin(pcsc)
    assert second.received.wait(SOON)
    assert second.failures == []
    leave(driver, second)


def test_a_start_is_given_up_though_who_is_told_says_that_he_leaves(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """As acquisitions do, for which messages are taken still."""
    driver = driver_of(pcsc)

    class Leaving(Listener):
        def fail(self, error: BaseException) -> None:
            assert not self.failures, "told again and again"
            super().fail(error)
            assert driver.tell(Unsubscribed(self))

    monkeypatch.setattr(driving, "spawn", no_thread)
    with pytest.raises(SCardError, match="no thread"):
        Leaving().begin(pcsc)
    assert not driver._runs
    with pytest.raises(SCardError, match="no thread"):
        sync.SCard("A", timeout=SOON)


def test_a_question_is_answered_though_the_start_is_given_up(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, answers = driver_of(pcsc), list[bool]()

    def asked(*_: Any) -> Any:
        assert driver.tell(IdleQuestion(answers.append))
        no_thread()

    monkeypatch.setattr(driving, "spawn", asked)
    with pytest.raises(SCardError, match="no thread"):
        Listener().begin(pcsc)
    assert answers == [True]


def test_a_run_that_has_ended_before_its_caller_is_interrupted_is_over(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, first = driver_of(pcsc), Listener()
    real = driving.spawn

    def interrupted_late(*args: Any) -> Any:
        monkeypatch.setattr(driving, "spawn", real)
        real(*args)
        leave(driver, first)
        raise KeyboardInterrupt

    monkeypatch.setattr(driving, "spawn", interrupted_late)
    with pytest.raises(KeyboardInterrupt):
        first.begin(pcsc)
    assert not driver._runs
    leave(driver, again := Listener().begin(pcsc))
    assert again.failures == []


def test_when_idle_says_whether_others_wait(pcsc: SimulatedPCSC) -> None:
    driver, answers = driver_of(pcsc), list[bool]()
    listener = Listener().begin(pcsc)
    assert driver.tell(IdleQuestion(answers.append))
    wait_until(lambda: answers == [False])
    driver.tell(Unsubscribed(listener))
    if driver.tell(IdleQuestion(answers.append)):
        wait_until(lambda: answers == [False, True])
    until_idle_blocking(driver, SOON)
    assert threads_named(*OWN) == []


def test_the_thread_of_the_last_cancel_is_waited_for(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come back after the watcher that it woke has ended."""
    driver, gate, real = driver_of(pcsc), threading.Event(), watching.Watcher._cancel
    waits = threading.Event()

    def slow(self: watching.Watcher, *args: Any) -> None:
        real(self, *args)
        waits.set()
        assert gate.wait(SOON)

    monkeypatch.setattr(watching.Watcher, "_cancel", slow)
    listener = Listener().begin(pcsc)
    assert listener.received.wait(SOON)
    while not waits.is_set():  # a listener that comes while the watcher is blocked has it cancelled
        another = Listener().begin(pcsc)
        assert another.received.wait(SOON)
        driver.tell(Unsubscribed(another))
    driver.tell(Unsubscribed(listener))
    wait_until(lambda: not driver.running)
    assert [thread.name for thread in driver.threads() if thread.name == "scardface-cancel"]
    gate.set()
    wait_until(lambda: not threads_named(*OWN))  # there may have been several cancels


@pytest.mark.parametrize("name", ["scardface-driver", "scardface-watch"])
def test_all_are_given_the_error_of_a_thread_that_cannot_be_started_and_the_next_works(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real, listeners = driving.spawn, [Listener(), Listener()]

    def spawn(wanted: str, *args: Any) -> threading.Thread:
        if wanted == name:
            raise SCardError("no thread could be started", NO_MEMORY)
        return real(wanted, *args)

    with monkeypatch.context() as patch:
        patch.setattr(driving, "spawn", spawn)
        patch.setattr(watching, "spawn", spawn)
        for listener in listeners:
            if name == "scardface-driver":  # who asks is the one who hears
                with pytest.raises(SCardError, match="no thread"):
                    listener.begin(pcsc)
            else:
                listener.begin(pcsc)
            assert listener.received.wait(SOON)
            assert {error.code for error in listener.failures if isinstance(error, SCardError)} == {NO_MEMORY}
    again = Listener().begin(pcsc)
    assert again.received.wait(SOON)
    assert again.failures == []
    leave(driver_of(pcsc), again)


def test_all_are_given_the_error_of_the_dispatcher_and_the_next_works(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also to whom the message that met it belongs to."""
    first, second = Listener().begin(pcsc), Listener()
    assert first.received.wait(SOON)
    first.received.clear()
    handle = Dispatcher.handle

    def broken(self: Dispatcher, message: Any, now: float) -> Any:
        if isinstance(message, Subscribed):
            raise ZeroDivisionError("a mistake")
        return handle(self, message, now)

    with monkeypatch.context() as patch:
        patch.setattr(Dispatcher, "handle", broken)
        second.begin(pcsc)
        for listener in (first, second):
            assert listener.received.wait(SOON)
            assert [type(error) for error in listener.failures] == [ZeroDivisionError]
    assert [record.levelno for record in caplog.records if record.name == "scardface.watch"] == [logging.ERROR]
    again = Listener().begin(pcsc)
    assert again.received.wait(SOON)
    assert again.failures == []
    leave(driver_of(pcsc), again)


def test_a_watcher_that_cannot_be_interrupted_for_want_of_a_thread_is_later(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody's wait ends of that: the driver comes again."""
    first, second, real = Listener().begin(pcsc), Listener(), watching.spawn
    assert first.received.wait(SOON)
    wait_until(lambda: pcsc._service._waits)
    refused: list[str] = []

    def spawn(name: str, *args: Any) -> threading.Thread:
        if len(refused) < 3:
            refused.append(name)
            raise SCardError("no thread could be started", NO_MEMORY)
        return real(name, *args)

    monkeypatch.setattr(watching, "spawn", spawn)
    second.begin(pcsc)
    assert second.received.wait(SOON)
    assert refused == ["scardface-cancel"] * 3
    assert first.failures == second.failures == []
    leave(driver_of(pcsc), first, second)


def test_a_loop_that_was_closed_is_forgotten(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing by itself, and nothing happens that would be posted to it: the sweep finds out."""
    monkeypatch.setattr(driving, "SWEEP_INTERVAL", 0.05)
    driver, listener, loop = driver_of(pcsc), Listener(), asyncio.new_event_loop()

    async def owner() -> Loop:
        return Loop()

    listener.owner = loop.run_until_complete(owner())
    listener.begin(pcsc)
    assert listener.received.wait(SOON)
    loop.close()
    wait_until(lambda: not driver.threads() and not driver._runs)


def test_no_message_is_lost_between_the_end_of_a_run_and_the_next(pcsc: SimulatedPCSC) -> None:
    """Threads come and leave without a pause, so that runs end and start all the time: each gets its first snapshot."""
    failures: list[object] = []

    def live() -> None:
        driver = driver_of(pcsc)
        try:
            for turn in range(60):
                listener = Listener().begin(pcsc)
                assert listener.received.wait(SOON), turn
                assert listener.failures == [], turn
                driver.tell(Unsubscribed(listener))
                if turn % 3 == 0:
                    until_idle_blocking(driver, 0.01)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


class Odd:
    """A backend with exactly the members of `Backend`, and what else may be odd in one of somebody else's."""

    __slots__ = ("_pcsc", "absent_service_means_no_reader", "max_entries", "reconnect_ends_transaction", "release_disconnects")

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        self._pcsc = pcsc
        for name in ("absent_service_means_no_reader", "max_entries", "reconnect_ends_transaction", "release_disconnects"):
            setattr(self, name, getattr(pcsc, name))

    def __eq__(self, other: object) -> bool:
        raise AssertionError("backends are told apart by identity")

    def establish(self) -> Context:
        return self._pcsc.establish()


def test_backends_without_a_hash_and_with_slots(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    one, two = Odd(pcsc), Odd(pcsc)
    assert driver_of(one) is driver_of(one)
    assert driver_of(one) is not driver_of(two)
    with sync.SCard(timeout=5, backend=one) as card:
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"
        with pytest.raises(TimeoutError):
            sync.SCard(timeout=0.05, backend=one)
    for backend in (one, two):
        driving._drivers.pop(id(backend))


def test_a_backend_that_nobody_has_any_more_has_no_driver() -> None:
    pcsc = SimulatedPCSC()
    left = weakref.ref(driver_of(pcsc))
    pcsc.close()
    del pcsc
    gc.collect()
    assert left() is None


def test_a_backend_that_raises_errors_of_its_own(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first query its caller gets the error; a wait that has begun goes on."""
    broken = threading.Event()
    establish = pcsc.establish

    def fails() -> Context:
        if broken.is_set():
            raise OSError("no such device")
        return establish()

    monkeypatch.setattr(pcsc, "establish", fails)
    broken.set()
    with pytest.raises(OSError, match="no such device"):
        sync.SCard(timeout=5)
    broken.clear()
    listener = Listener().begin(pcsc)
    assert listener.received.wait(SOON)
    broken.set()
    pcsc.stop_service()
    wait_until(lambda: any(type(event).__name__ == "ServiceDown" for event in listener.events))
    pcsc.start_service()
    broken.clear()
    wait_until(lambda: any(type(event).__name__ == "ServiceUp" for event in listener.events))
    leave(driver_of(pcsc), listener)


def test_a_message_that_comes_as_a_run_ends_is_answered_or_refused(pcsc: SimulatedPCSC) -> None:
    """One who waits until it is idle just then must not wait for an answer that nobody gives."""
    driver = driver_of(pcsc)

    class Ending(dict[int, Any]):
        """Says that there is a run when it is asked first, and ends it then."""

        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def __bool__(self) -> bool:
            self.asked += 1
            return self.asked == 1

    driver._runs = Ending()
    assert not driver.tell(IdleQuestion(lambda nobody: None))
    driver._runs = {}


class Others:
    """Somebody's own backend, with the members that one has to have; `change` may do to its contexts what it likes."""

    max_entries = 16
    absent_service_means_no_reader = False
    release_disconnects = True

    def __init__(self, pcsc: SimulatedPCSC, change: Callable[[Any], None]) -> None:
        self._pcsc = pcsc
        self._change = change

    def establish(self) -> Any:
        context = self._pcsc.establish()
        self._change(context)
        return context


@pytest.mark.slow
def test_a_status_call_that_never_comes_back_is_left_to_pcsc(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its timeout nor a cancel ends it; another watcher goes on, and its context is not touched again."""
    monkeypatch.setattr(watching, "SLICE_MS", 200)
    monkeypatch.setattr(watching, "OVERDUE_AFTER", 2)
    held, free, cancels = threading.Event(), threading.Event(), list[int]()

    def hang_once(context: Any) -> None:
        if held.is_set():
            return
        real = context.get_status_change

        def get_status_change(timeout: int, waiters: Any) -> Any:
            if timeout and not held.is_set():
                held.set()
                free.wait()
            return real(timeout, waiters)

        context.get_status_change = get_status_change
        context.cancel = lambda: cancels.append(len(threads_named("scardface-watch")))

    backend = Others(pcsc, hang_once)
    driver = driver_of(backend)
    first = Listener().begin(backend)
    try:
        assert held.wait(SOON)
        second = Listener().begin(backend)  # cancels in vain
        wait_until(lambda: len(threads_named("scardface-watch")) == 2)
        cancelled = len(cancels)
        pcsc.insert("A", LogCard())
        wait_until(lambda: [type(event) for event in first.events] == [CardInserted])
        assert second.received.wait(SOON)
        leave(driver, first, second)
        assert len(cancels) <= cancelled + 1
        assert pcsc.open_contexts == 1
    finally:
        free.set()
    wait_until(lambda: not threads_named(*OWN))


class Full(logging.Handler):
    """A program's own handler, when its disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")


@pytest.mark.parametrize("name", ["cancel", "get_status_change", "list_readers", "release"])
def test_log_handlers_that_raise_stop_nothing(pcsc: SimulatedPCSC, name: str) -> None:
    """A backend breaks for a while, each time in a way that is logged."""
    broken, blocked, odd_ones = threading.Event(), threading.Event(), list[str]()

    def odd(context: Any) -> None:
        status_change = context.get_status_change

        def wait(timeout: int, states: Any) -> Any:
            if timeout:
                blocked.set()
            return status_change(timeout, states)

        context.get_status_change = wait
        real = getattr(context, name)

        def call(*args: Any) -> Any:
            if broken.is_set():
                if name == "release":
                    real()
                odd_ones.append(name)
                raise ValueError("odd")
            return real(*args)

        setattr(context, name, call)

    backend, handler, parent = Others(pcsc, odd), Full(), logging.getLogger("scardface")
    driver = driver_of(backend)
    level = parent.level
    parent.addHandler(handler)
    parent.setLevel(logging.DEBUG)
    try:
        first = Listener().begin(backend)
        assert first.received.wait(SOON)
        watch = threads_named("scardface-watch")
        assert blocked.wait(SOON)  # so that the second listener's first query needs a cancel
        broken.set()
        second = Listener().begin(backend)
        if name == "cancel":
            wait_until(lambda: odd_ones)
        pcsc.insert("A", LogCard())
        if name != "release":  # which comes at the end
            wait_until(lambda: odd_ones)
            broken.clear()
        assert second.received.wait(SOON)
        assert threads_named("scardface-watch") == watch
        leave(driver, first, second)
        assert odd_ones
        broken.clear()
    finally:
        parent.removeHandler(handler)
        parent.setLevel(level)
