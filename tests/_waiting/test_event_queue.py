"""A monitor's queue: the events of which readers, the state after each event, and what a slow consumer gets."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface._enums import StateFlag
from scardface._pcsc.events import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderRemoved,
    ReaderState,
    Reading,
    ServiceDown,
    ServiceUp,
    Snapshot,
    diff,
)
from scardface._session.card_request import ReaderFilter
from scardface._waiting import event_queue
from scardface._waiting.event_queue import EventQueue
from scardface.errors import NO_MEMORY, SCardError, error_for
from scardface.iso7816._atr import ATR
from tests.support.readings import ATR as ONE
from tests.support.readings import DOWN, IN_USE, card, empty, mute, snapshot_of
from tests.support.readings import OTHER_ATR as TWO

NOTHING = ReaderState(present=False, atr=ATR(b""), mute=False, in_use=False, exclusive=False)


class Listener:
    """A queue, the snapshots given to it, and how often it woke its consumer; it is its own owner."""

    def __init__(self, readers: Any = None, groups: Any = None) -> None:
        self.woken = 0
        self.queue = EventQueue(ReaderFilter.from_arguments(readers, groups), self, self.wake)
        self.last: Snapshot | None = None

    def post(self, wake: Callable[[], object]) -> bool:
        assert not self.queue._lock._is_owned(), "woken under the lock"  # type: ignore[attr-defined]
        wake()
        return True

    def wake(self) -> None:
        self.woken += 1

    def tell(self, snapshot: Snapshot) -> Listener:
        """What the dispatcher does with a snapshot: the first one begins."""
        if self.last is None:
            self.queue.receive(snapshot, [], True)
        else:
            self.queue.receive(snapshot, diff(self.last, snapshot), False)
        self.last = snapshot
        return self

    def pop(self, most: int | None = None) -> list[Event]:
        """All events that can be popped, or `most` of them."""
        events: list[Event] = []
        while most is None or len(events) < most:
            event = self.queue.pop()
            if event is None:
                break
            events.append(event)
        return events

    @property
    def state(self) -> dict[str, ReaderState]:
        return dict(self.queue.state)


def grouped(groups: dict[tuple[str, ...], set[str]], **readers: Reading) -> Snapshot:
    return snapshot_of(**readers)._replace(groups=MappingProxyType({key: frozenset(names) for key, names in groups.items()}))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How far a consumer may fall behind, made small."""
    monkeypatch.setattr(event_queue, "MAX_EVENTS", 10)
    return 10


# The beginning, and what happens.


def test_the_initial_state_comes_first() -> None:
    listener = Listener().tell(snapshot_of(B=card(1, ONE), A=empty()))
    assert listener.woken == 1
    assert listener.pop() == [
        ReaderAdded("B", initial=True),
        CardInserted("B", ATR(ONE), initial=True),
        ReaderAdded("A", initial=True),
    ]


def test_no_service_at_the_beginning() -> None:
    listener = Listener().tell(snapshot_of(DOWN))
    assert listener.pop() == [ServiceDown(initial=True)]
    assert listener.state == {}
    listener.tell(snapshot_of(life=2, A=card(1, ONE)))
    assert listener.pop() == [ServiceUp(), ReaderAdded("A"), CardInserted("A", ATR(ONE))]


def test_no_event() -> None:
    listener = Listener()
    assert listener.queue.pop() is None
    listener.tell(snapshot_of())
    assert listener.queue.pop() is None
    assert listener.state == {}


def test_every_event_is_popped_once_and_in_order() -> None:
    listener = Listener().tell(snapshot_of(A=empty()))
    listener.tell(snapshot_of(A=card(1, ONE))).tell(snapshot_of(A=card(3, TWO))).tell(snapshot_of())
    assert listener.pop() == [
        ReaderAdded("A", initial=True),
        CardInserted("A", ATR(ONE)),
        CardRemoved("A"),
        CardInserted("A", ATR(TWO)),
        CardRemoved("A"),
        ReaderRemoved("A"),
    ]
    assert listener.pop() == []


def test_a_snapshot_wakes_the_consumer_unless_events_are_queued_already() -> None:
    """Who has not popped all pops before it waits."""
    listener = Listener()
    for number in range(1, 4):
        listener.tell(snapshot_of(A=card(number)))
        listener.tell(snapshot_of(A=empty(number)))
        assert listener.woken == number
        listener.pop()
    listener.tell(snapshot_of(A=empty(3)))
    assert listener.woken == 3, "nothing has happened"


def test_it_has_begun_with_its_first_snapshot() -> None:
    listener = Listener()
    assert not listener.queue.begun
    listener.tell(snapshot_of())
    assert listener.queue.begun
    assert listener.woken == 1, "also without an event"


def test_a_failure_ends_it_after_what_came_before() -> None:
    """Each pop raises it; each queue has an error of its own."""
    error = error_for(NO_MEMORY, "", "")
    listener, other = Listener().tell(snapshot_of(A=empty())), Listener()
    for queue in (listener.queue, other.queue):
        queue.fail(error)
    assert (listener.woken, other.woken) == (2, 1)
    assert other.queue.begun
    assert listener.queue.pop() == ReaderAdded("A", initial=True)
    for queue in (listener.queue, listener.queue, other.queue):
        with pytest.raises(SCardError) as caught:
            queue.pop()
        assert caught.value is not error
        assert caught.value.code == NO_MEMORY


# The state, as it is after the event popped last.


def test_the_state_follows_what_was_popped() -> None:
    listener = Listener().tell(snapshot_of(A=card(1, ONE)))
    listener.tell(snapshot_of(A=mute(3))).tell(snapshot_of())
    inserted = card(1, ONE).state()
    expected: list[dict[str, ReaderState]] = [
        {},
        {"A": NOTHING},
        {"A": inserted},
        {"A": NOTHING},
        {"A": mute(3).state()},
        {"A": NOTHING},
        {},
    ]
    found = [listener.state]
    while listener.pop(1):
        found.append(listener.state)
    assert found == expected


def test_the_state_is_a_copy_that_cannot_be_written() -> None:
    listener = Listener().tell(snapshot_of(A=empty()))
    listener.pop()
    before = listener.queue.state
    listener.tell(snapshot_of())
    listener.pop()
    assert "A" in before
    with pytest.raises(TypeError):
        before["B"] = NOTHING  # type: ignore[index]  # that is the test


def test_a_service_that_goes_takes_nothing_from_the_state() -> None:
    listener = Listener().tell(snapshot_of(A=card(1, ONE, IN_USE)))
    listener.pop()
    before = listener.state
    listener.tell(snapshot_of(DOWN, A=card(1, ONE)))
    assert listener.pop() == [ServiceDown()]
    assert listener.state == before
    listener.tell(snapshot_of(life=2, A=card(1, ONE)))
    assert listener.pop() == [ServiceUp(), CardRemoved("A"), CardInserted("A", ATR(ONE))]
    assert listener.state == {"A": card(1, ONE).state()}


@pytest.mark.parametrize("flags", [StateFlag.INUSE, IN_USE])
def test_who_uses_it_changes_silently(flags: int) -> None:
    listener = Listener().tell(snapshot_of(A=card(1, ONE)))
    listener.pop()
    listener.tell(snapshot_of(A=card(1, ONE, flags)))
    assert listener.state == {"A": card(1, ONE, flags).state()}
    listener.tell(snapshot_of(A=card(1, ONE)))
    assert listener.state == {"A": card(1, ONE).state()}
    assert listener.pop() == []


def test_flags_that_changed_while_the_consumer_was_behind() -> None:
    """They show when it has caught up, and not before: the state is that after the event popped last."""
    listener = Listener().tell(snapshot_of(A=card(1, ONE)))
    listener.tell(snapshot_of(A=card(1, ONE, IN_USE)))
    assert listener.pop(1) == [ReaderAdded("A", initial=True)]
    assert listener.state == {"A": NOTHING}
    listener.pop()
    assert listener.state == {"A": card(1, ONE, IN_USE).state()}


def test_a_reader_in_use_without_a_card() -> None:
    """Another program has opened it with DIRECT."""
    listener = Listener().tell(snapshot_of(A=empty(0, StateFlag.INUSE)))
    listener.pop()
    assert listener.state == {"A": empty(0, StateFlag.INUSE).state()}


def test_flags_of_a_service_that_is_gone_say_nothing() -> None:
    listener = Listener().tell(snapshot_of(A=card(1, ONE, IN_USE)))
    listener.pop()
    listener.tell(snapshot_of(DOWN, A=card(1, ONE)))
    listener.pop()
    assert listener.state == {"A": card(1, ONE, IN_USE).state()}


# The readers to tell of.


@pytest.mark.parametrize("readers", ["A", ["A", "X"], re.compile("^A")])
def test_only_readers_asked_for(readers: Any) -> None:
    listener = Listener(readers).tell(snapshot_of(A=empty(), B=card(1, ONE)))
    listener.tell(snapshot_of(B=empty(2), A=card(1, ONE), C=card())).tell(snapshot_of(C=card()))
    assert listener.pop() == [
        ReaderAdded("A", initial=True),
        CardInserted("A", ATR(ONE)),
        CardRemoved("A"),
        ReaderRemoved("A"),
    ]
    assert listener.state == {}


def test_events_of_the_service_come_with_any_filter() -> None:
    listener = Listener("A").tell(snapshot_of(B=card()))
    listener.tell(snapshot_of(DOWN, B=card())).tell(snapshot_of(life=2, B=card()))
    assert listener.pop() == [ServiceDown(), ServiceUp()]


def test_only_readers_of_the_groups() -> None:
    groups = ("G", "H")
    listener = Listener(None, groups).tell(grouped({groups: {"A"}, ("I",): {"B"}}, A=card(1, ONE), B=card()))
    listener.tell(grouped({groups: {"A", "C"}}, A=card(1, ONE), B=empty(2), C=card(1, TWO)))
    assert listener.pop() == [
        ReaderAdded("A", initial=True),
        CardInserted("A", ATR(ONE), initial=True),
        ReaderAdded("C"),
        CardInserted("C", ATR(TWO)),
    ]
    assert set(listener.state) == {"A", "C"}


def test_readers_and_groups_together() -> None:
    groups = ("G",)
    listener = Listener(["A", "B"], groups).tell(grouped({groups: {"A", "C"}}, A=empty(), B=empty(), C=empty()))
    assert listener.pop() == [ReaderAdded("A", initial=True)]


def test_groups_that_nobody_has_asked_for_yet() -> None:
    assert Listener(None, "G").tell(snapshot_of(A=card())).pop() == []


def test_a_reader_that_was_announced_is_reported_until_it_goes() -> None:
    """A reader that is unplugged is in no group any more."""
    groups = ("G",)
    listener = Listener(None, groups).tell(grouped({groups: {"A"}}, A=card(1, ONE)))
    listener.tell(grouped({groups: set()}, A=empty(2))).tell(grouped({groups: set()}))
    assert listener.pop()[2:] == [CardRemoved("A"), ReaderRemoved("A")]


def test_a_reader_that_went_is_not_reported_any_more() -> None:
    """It comes back in another group."""
    groups = ("G",)
    listener = Listener(None, groups).tell(grouped({groups: {"A"}}, A=empty())).tell(grouped({groups: set()}))
    listener.pop()
    listener.tell(grouped({groups: set()}, A=card()))
    assert listener.pop() == []
    assert listener.state == {}


# A consumer that falls behind.


def turns(listener: Listener, count: int, reader: str = "A", start: int = 1) -> None:
    """One event each: in, out, in, out."""
    for number in range(start, start + count):
        listener.tell(snapshot_of(**{reader: card(number, ONE) if number % 2 else empty(number)}))


def test_how_far_is_far() -> None:
    assert event_queue.MAX_EVENTS == 10_000


def test_a_full_queue_loses_nothing(few: int) -> None:
    listener = Listener().tell(snapshot_of(A=empty()))
    turns(listener, few - 1)
    events = listener.pop()
    assert len(events) == few
    assert not [event for event in events if isinstance(event, EventsLost)]


def test_one_more_loses_all_and_starts_afresh(few: int) -> None:
    listener = Listener().tell(snapshot_of(A=empty()))
    turns(listener, few - 1)
    listener.tell(snapshot_of(A=card(99, TWO, IN_USE), B=empty()))
    assert listener.pop(1) == [EventsLost(few + 3)]
    assert listener.state == {"A": card(99, TWO, IN_USE).state(), "B": NOTHING}
    assert listener.pop() == [
        ReaderAdded("A", initial=True),
        CardInserted("A", ATR(TWO), initial=True),
        ReaderAdded("B", initial=True),
    ]
    assert listener.state == {"A": card(99, TWO, IN_USE).state(), "B": NOTHING}


def test_who_falls_behind_twice_has_lost_both(few: int) -> None:
    """Every event dropped is counted once, the repeated state included, the notice itself not."""
    listener = Listener().tell(snapshot_of(A=empty()))
    turns(listener, few)
    turns(listener, few - 1, start=few + 1)
    assert listener.pop() == [
        EventsLost((1 + few) + (1 + few - 1)),
        ReaderAdded("A", initial=True),
        CardInserted("A", ATR(ONE), initial=True),
    ]


def test_the_queue_stays_bounded(few: int) -> None:
    listener = Listener().tell(snapshot_of(A=empty()))
    for number in range(1, 12 * few):
        turns(listener, 1, start=number)
        assert len(listener.queue._queue) <= few


def fall_behind(listener: Listener, snapshot: Snapshot, few: int) -> Listener:
    """When the queue is almost full, one more snapshot comes, whose events it has no room for."""
    last = listener.last
    assert last is not None
    here = {name: reading for name, reading in last.readers.items() if name != "A"}
    number = 100
    while len(listener.queue._queue) < few:
        number += 1
        listener.tell(last._replace(readers=MappingProxyType({"A": card(number) if number % 2 else empty(number), **here})))
    assert not any(isinstance(event, EventsLost) for event, _ in listener.queue._queue)
    return listener.tell(snapshot)


def test_readers_that_went_meanwhile_are_gone_from_the_state(few: int) -> None:
    listener = Listener().tell(snapshot_of(A=empty(), B=card()))
    listener.pop()
    fall_behind(listener, snapshot_of(B=card()), few)
    listener.pop()
    assert set(listener.state) == {"B"}


def test_afresh_without_a_service(few: int) -> None:
    """What was known last stays known; its return is reported as usual."""
    listener = Listener().tell(snapshot_of(A=empty()))
    fall_behind(listener, snapshot_of(DOWN, A=card(1, ONE)), few)
    assert listener.pop() == [EventsLost(few + 1), ServiceDown(initial=True)]
    assert listener.state == {"A": card(1, ONE).state()}
    listener.tell(snapshot_of(life=2, A=empty()))
    assert listener.pop() == [ServiceUp(), CardRemoved("A")]
    assert listener.state == {"A": NOTHING}


def test_afresh_tells_of_the_readers_asked_for_alone(few: int) -> None:
    groups = ("G",)
    for listener in (Listener("A"), Listener(None, groups)):
        listener.tell(grouped({groups: {"A"}}, A=empty(), B=card()))
        fall_behind(listener, grouped({groups: {"A"}}, A=card(1, ONE), B=card()), few)
        events = listener.pop()
        assert isinstance(events[0], EventsLost)
        assert events[1:] == [ReaderAdded("A", initial=True), CardInserted("A", ATR(ONE), initial=True)]
        assert set(listener.state) == {"A"}


def test_other_readers_events_do_not_fill_the_queue(few: int) -> None:
    listener = Listener("A").tell(snapshot_of(A=empty(), B=empty()))
    for number in range(1, few):
        listener.tell(snapshot_of(A=card(number) if number % 2 else empty(number), B=empty()))
    for number in range(1, 3 * few):
        listener.tell(snapshot_of(A=card(few - 1), B=card(number) if number % 2 else empty(number)))
    events = listener.pop()
    assert len(events) == few
    assert not [event for event in events if isinstance(event, EventsLost)]


def test_one_that_sleeps_does_not_disturb_another(few: int) -> None:
    awake, asleep = Listener(), Listener()
    popped: list[Event] = []
    last = snapshot_of(A=empty())
    for listener in (awake, asleep):
        listener.tell(last)
    for number in range(1, 3 * few):
        snapshot = snapshot_of(A=card(number) if number % 2 else empty(number))
        for listener in (asleep, awake):
            listener.tell(snapshot)
        popped += awake.pop()
    assert len(popped) == 3 * few
    assert isinstance(asleep.queue.pop(), EventsLost)


def test_a_consumer_in_another_thread() -> None:
    """It hears everything in order while the driver goes on telling."""
    listener = Listener().tell(snapshot_of(A=empty()))
    listener.post = lambda wake: True  # type: ignore[method-assign]  # the consumer may hold the lock at that moment
    popped: list[Event] = []

    def consume() -> None:
        while len(popped) < 2001:
            event = listener.queue.pop()
            if event is not None:
                popped.append(event)
                assert listener.queue.state["A"].present is isinstance(event, CardInserted)

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    turns(listener, 2000)
    thread.join(30)
    assert not thread.is_alive()
    kinds = [type(event) for event in popped[1:]]
    assert kinds == [CardInserted, CardRemoved] * 1000


# Whatever happens, and whenever the consumer looks: the final state is right.

READINGS = st.one_of(
    st.builds(empty, st.integers(0, 2), st.sampled_from([0, StateFlag.INUSE])),
    st.builds(card, st.integers(0, 2), st.sampled_from([ONE, TWO]), st.sampled_from([0, IN_USE])),
    st.builds(mute, st.integers(0, 2)),
)
STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("ABC"), READINGS),
        st.sampled_from(["up", "up", "up", "down"]),
        st.integers(0, 6),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from([None, ["A", "B"]]))
def test_the_final_state_is_right(steps: list[tuple[dict[str, Reading], str, int]], readers: list[str] | None) -> None:
    listener = Listener(readers).tell(snapshot_of())
    books: dict[str, bytes | None] = {}
    life = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_queue, "MAX_EVENTS", 7)
        for world, what, pops in [*steps, ({"A": card(7)}, "up", 0)]:
            last = listener.last
            assert last is not None
            life += last.error is not None
            snapshot = last._replace(error=DOWN) if what == "down" else snapshot_of(life=life, **world)
            listener.tell(snapshot)
            keep(books, listener, pops)
    keep(books, listener, None)
    assert listener.last is not None
    right = {name: reading.state() for name, reading in listener.last.readers.items() if readers is None or name in readers}
    assert listener.state == right


def keep(books: dict[str, bytes | None], listener: Listener, most: int | None) -> None:
    """Hear events and keep books of them: after each of them the queue's state says the same."""
    for _ in itertools.count() if most is None else range(most):
        event = listener.queue.pop()
        if event is None:
            return
        match event:
            case ReaderAdded(reader=reader):
                books[reader] = None
            case ReaderRemoved(reader=reader):
                del books[reader]
            case CardInserted(reader=reader, atr=atr):
                books[reader] = atr
            case CardRemoved(reader=reader):
                assert books[reader] is not None
                books[reader] = None
            case EventsLost():
                books.clear()
                books.update({name: state.atr if state.present else None for name, state in listener.state.items()})
        assert books == {name: state.atr if state.present else None for name, state in listener.state.items()}


def test_readers_known_to_others_are_new_to_who_began_without_the_service() -> None:
    """The watcher keeps the readers from before the service went, and compares with them."""
    listener = Listener()
    listener.tell(snapshot_of(DOWN, A=card(), B=empty()))
    listener.queue.pop()
    assert listener.state == {}
    listener.tell(snapshot_of(life=2, A=card(), B=empty()))
    told = [listener.queue.pop() for _ in range(5)]
    assert told == [ServiceUp(), ReaderAdded("A"), CardInserted("A", ATR(ONE)), ReaderAdded("B"), None]
    listener.tell(snapshot_of(life=2, A=empty(1), B=empty()))
    assert listener.queue.pop() == CardRemoved("A")
