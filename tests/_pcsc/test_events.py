"""Events and `diff`: the rules at the head of the room, and that the events of a difference say all of it."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface._enums import StateFlag
from scardface._pcsc import events as _events
from scardface._pcsc.events import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderRemoved,
    Reading,
    ServiceDown,
    ServiceUp,
    Snapshot,
    diff,
    initial_events,
    same_card,
)
from scardface.errors import NO_SERVICE, SCardError, error_for
from scardface.iso7816._atr import ATR
from tests.support.readings import DOWN, IN_USE, card, empty, mute, snapshot_of

ONE = bytes.fromhex("3B800181")
TWO = bytes.fromhex("3F6500")
UNKNOWN_ATR = Reading(StateFlag.PRESENT, 1, b"")


def test_nothing_new() -> None:
    """Like readings, and the very same ones: the watcher keeps those that did not change."""
    assert diff(snapshot_of(A=card(), B=empty()), snapshot_of(A=card(), B=empty())) == []
    same = {"A": card(), "B": empty()}
    assert diff(snapshot_of(**same), snapshot_of(**same)) == []


def test_a_card_in_and_out() -> None:
    assert diff(snapshot_of(A=empty()), snapshot_of(A=card(1, ONE))) == [CardInserted("A", ATR(ONE))]
    assert diff(snapshot_of(A=card(1, ONE)), snapshot_of(A=empty(2))) == [CardRemoved("A")]


@pytest.mark.parametrize(
    "now", [card(3, ONE), card(1, TWO), card(3, TWO), mute(1)], ids=["counter", "ATR, counters lie", "both", "mute now"]
)
def test_another_card_is_one_removed_and_one_inserted(now: Reading) -> None:
    assert diff(snapshot_of(A=card(1, ONE)), snapshot_of(A=now)) == [CardRemoved("A"), CardInserted("A", now.state().atr)]


@pytest.mark.parametrize("now", [empty(), empty(2), empty(0xFFFF)])
def test_empty_to_empty_is_nothing(now: Reading) -> None:
    """A card that came and went unseen (fact 10)."""
    assert diff(snapshot_of(A=empty()), snapshot_of(A=now)) == []


@pytest.mark.parametrize("flags", [0, StateFlag.INUSE, IN_USE])
def test_who_else_uses_it_changes_silently(flags: int) -> None:
    assert diff(snapshot_of(A=card(1, ONE, IN_USE ^ flags)), snapshot_of(A=card(1, ONE, flags))) == []
    assert diff(snapshot_of(A=empty(1, IN_USE ^ flags)), snapshot_of(A=empty(1, flags))) == []


def test_a_mute_card_has_no_atr() -> None:
    assert diff(snapshot_of(A=empty()), snapshot_of(A=mute())) == [CardInserted("A", ATR(b""))]
    assert diff(snapshot_of(A=mute(1)), snapshot_of(A=mute(1))) == []
    assert diff(snapshot_of(A=mute(1)), snapshot_of(A=mute(3))) == [CardRemoved("A"), CardInserted("A", ATR(b""))]
    assert diff(snapshot_of(A=mute(1)), snapshot_of(A=card(1, ONE))) == [CardRemoved("A"), CardInserted("A", ATR(ONE))]


def test_the_atr_of_a_mute_card_is_not_told() -> None:
    reading = Reading(StateFlag.PRESENT | StateFlag.MUTE, 1, ONE)
    assert diff(snapshot_of(A=empty()), snapshot_of(A=reading)) == [CardInserted("A", ATR(b""))]
    assert reading.state().atr == b""


def test_an_atr_that_is_merely_not_known_is_no_other_card() -> None:
    assert diff(snapshot_of(A=UNKNOWN_ATR), snapshot_of(A=card(1, ONE))) == []
    assert diff(snapshot_of(A=card(1, ONE)), snapshot_of(A=UNKNOWN_ATR)) == []
    assert diff(snapshot_of(A=card(2, ONE)), snapshot_of(A=UNKNOWN_ATR)) == [CardRemoved("A"), CardInserted("A", ATR(b""))]


def test_readers_that_went_come_first_and_their_cards_before_them() -> None:
    old = snapshot_of(A=card(1, ONE), B=empty(), C=card(1, TWO))
    new = snapshot_of(D=empty(), C=empty(2), E=card(1, ONE))
    assert diff(old, new) == [
        CardRemoved("A"),
        ReaderRemoved("A"),
        ReaderRemoved("B"),
        ReaderAdded("D"),
        CardRemoved("C"),
        ReaderAdded("E"),
        CardInserted("E", ATR(ONE)),
    ]


def test_the_others_come_in_the_order_of_the_reader_list() -> None:
    old = snapshot_of(A=empty(), B=empty(), C=empty())
    new = snapshot_of(C=card(), A=card(), B=card())
    assert [event.reader for event in diff(old, new) if isinstance(event, CardInserted)] == ["C", "A", "B"]


def test_a_service_that_goes_takes_nothing_with_it() -> None:
    up, down = snapshot_of(A=card(), B=empty()), snapshot_of(DOWN, A=card(), B=empty())
    assert diff(up, down) == [ServiceDown(error=DOWN)]
    event = diff(up, down)[0]
    assert isinstance(event, ServiceDown)
    assert event.error is DOWN
    assert not event.initial
    assert diff(down, down) == []
    assert diff(down, snapshot_of(error_for(NO_SERVICE, "another call"))) == []


def test_a_service_that_is_back_and_cannot_be_used_is_told_once_more() -> None:
    """libpcsclite 2.5, with fewer readers than this process has seen."""
    stuck = error_for(0x8010001F, "SCardListReaders")
    down, back = snapshot_of(DOWN, A=card()), snapshot_of(stuck, A=card())
    (event,) = diff(down, back)
    assert isinstance(event, ServiceDown)
    assert event.error is stuck
    assert diff(back, back) == []
    assert diff(back, down) == []  # it is down anyway
    assert diff(snapshot_of(A=card()), back) == [ServiceDown()]
    assert diff(back, snapshot_of(life=2))[0] == ServiceUp()


def test_a_service_that_comes_back_has_lost_its_sessions() -> None:
    """Counters start anew: a card that was in before and is in after is another one, whatever they say."""
    down = snapshot_of(DOWN, A=card(1, ONE), B=card(1, ONE), C=empty(), D=empty(4), E=card(1, ONE))
    back = snapshot_of(life=2, A=card(1, ONE), B=empty(0), C=card(0, TWO), D=empty(0), F=card(1, ONE))
    assert diff(down, back) == [
        ServiceUp(),
        CardRemoved("E"),
        ReaderRemoved("E"),
        CardRemoved("A"),
        CardInserted("A", ATR(ONE)),
        CardRemoved("B"),
        CardInserted("C", ATR(TWO)),
        ReaderAdded("F"),
        CardInserted("F", ATR(ONE)),
    ]


def test_a_restart_between_two_looks_is_seen_by_the_life() -> None:
    """The very same reading, too: the watcher keeps what did not change."""
    reading = card(1, ONE)
    old, new = snapshot_of(A=reading), snapshot_of(life=2, A=reading)
    assert diff(old, new) == [CardRemoved("A"), CardInserted("A", ATR(ONE))]


def test_initial_events() -> None:
    snapshot = snapshot_of(B=card(5, ONE), A=empty(), C=mute())
    assert initial_events(snapshot) == [
        ReaderAdded("B", initial=True),
        CardInserted("B", ATR(ONE), initial=True),
        ReaderAdded("A", initial=True),
        ReaderAdded("C", initial=True),
        CardInserted("C", ATR(b""), initial=True),
    ]
    assert initial_events(snapshot_of()) == []


def test_initial_events_without_a_service() -> None:
    events = initial_events(snapshot_of(DOWN, A=card()))
    assert events == [ServiceDown(initial=True)]
    assert isinstance(events[0], ServiceDown)
    assert events[0].error is DOWN


def test_events_after_the_start_are_not_initial() -> None:
    events = diff(snapshot_of(), snapshot_of(A=card()))
    assert events == [ReaderAdded("A", initial=False), CardInserted("A", ATR(card().atr), initial=False)]
    assert ReaderAdded("A", initial=True) != ReaderAdded("A")


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (card(1, ONE), card(1, ONE), True),
        (card(1, ONE), card(1, ONE, IN_USE), True),
        (card(1, ONE), card(2, ONE), False),
        (card(1, ONE), card(1, TWO), False),
        (card(1, ONE), mute(1), False),
        (mute(1), mute(1), True),
        (mute(1), UNKNOWN_ATR, True),
        (UNKNOWN_ATR, card(1, ONE), True),
        (card(1, ONE), empty(1), False),
        (empty(1), card(1, ONE), False),
        (empty(1), empty(1), False),
    ],
)
def test_same_card(before: Reading, now: Reading, same: bool) -> None:
    assert same_card(before, now) is same


def test_a_reading_of_a_state() -> None:
    """Flags below, counter above, all 32 bits; CHANGED is about the call, not about the reader (fact 10)."""
    reading = Reading.from_state(0xFFFE0122, ONE)
    assert reading == Reading(0x0120, 0xFFFE, ONE)
    assert (reading.present, reading.mute) == (True, False)
    assert Reading.from_state(0x0001F822, ONE).flags == 0xF820, "flags that have no name here are kept: states are opaque"
    assert Reading.from_state(0x00020220, b"").mute
    assert not Reading.from_state(0x00020012, b"").present


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (card(1, ONE), (True, ONE, False, False, False)),
        (card(1, ONE, StateFlag.INUSE), (True, ONE, False, True, False)),
        (card(1, ONE, IN_USE), (True, ONE, False, True, True)),
        (mute(), (True, b"", True, False, False)),
        (empty(7), (False, b"", False, False, False)),
        (Reading(StateFlag.EMPTY, 1, ONE), (False, b"", False, False, False)),
        (empty(1, StateFlag.INUSE), (False, b"", False, True, False)),
    ],
)
def test_a_readers_state(reading: Reading, told: tuple[bool, bytes, bool, bool, bool]) -> None:
    state = reading.state()
    assert dataclasses.astuple(state) == told
    assert isinstance(state.atr, ATR)


EVENTS: list[Event] = [
    ReaderAdded("A"),
    ReaderAdded("A", initial=True),
    ReaderRemoved("A"),
    CardInserted("A", ATR(ONE)),
    CardInserted("A", ATR(ONE), initial=True),
    CardInserted("A", ATR(b"")),
    CardRemoved("A"),
    ServiceDown(),
    ServiceDown(initial=True),
    ServiceUp(),
    EventsLost(3),
]


def test_events_are_values() -> None:
    """Comparable, hashable, immutable, they travel, and all of them differ."""
    for one, two in itertools.combinations([*EVENTS, card().state()], 2):
        assert one != two
    for event in EVENTS:
        again = pickle.loads(pickle.dumps(event))
        assert again == event
        assert hash(again) == hash(event)
        if dataclasses.fields(event):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(event, dataclasses.fields(event)[0].name, None)


def test_why_the_service_went_is_not_compared() -> None:
    assert ServiceDown(error=DOWN) == ServiceDown()


def test_events_match_by_position_and_name() -> None:
    match diff(snapshot_of(A=empty()), snapshot_of(A=card(1, ONE)))[0]:
        case CardInserted(reader=reader, atr=atr):
            assert (reader, atr) == ("A", ONE)
        case _:
            pytest.fail("no match")


def test_every_event_is_one() -> None:
    kinds = {type(event) for event in EVENTS}
    assert kinds == set(_events.Event.__args__)  # type: ignore[attr-defined]  # a union has them


# The events of a difference say all of it.

Model = dict[str, bytes | None]
"""What is known by events: each reader's card, None without one."""

ATRS = st.sampled_from([ONE, TWO])
FLAGS = st.sampled_from([0, StateFlag.INUSE, IN_USE])
COUNTERS = st.integers(0, 3)
READINGS = st.one_of(
    st.builds(lambda counter, flags: empty(counter, flags), COUNTERS, FLAGS),
    st.builds(card, COUNTERS, ATRS, FLAGS),
    st.builds(mute, COUNTERS),
)


@st.composite
def readers(draw: st.DrawFn) -> dict[str, Reading]:
    names = draw(st.permutations("ABC"))
    return {name: draw(READINGS) for name in names[: draw(st.integers(0, 3))]}


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Looks one after another, as a watcher publishes them: without a service the readers last known, then a new life."""
    looks = [Snapshot(0, 1, None, MappingProxyType(draw(readers())))]
    for number in range(1, draw(st.integers(1, 8))):
        last = looks[-1]
        error: SCardError | None = DOWN if draw(st.integers(0, 3)) == 0 else None
        if error is not None:
            looks.append(Snapshot(number, last.life, error, last.readers))
        else:
            life = last.life + (last.error is not None or draw(st.booleans()))
            looks.append(Snapshot(number, life, None, MappingProxyType(draw(readers()))))
    return looks


def state_of(snapshot: Snapshot) -> Model:
    return {name: reading.state().atr if reading.present else None for name, reading in snapshot.readers.items()}


def apply(model: Model, events: list[Event]) -> None:
    """What a user does who keeps books; every event must make sense there."""
    for event in events:
        match event:
            case ReaderAdded(reader=reader):
                assert reader not in model
                model[reader] = None
            case ReaderRemoved(reader=reader):
                assert model.pop(reader) is None, "its card comes before it"
            case CardInserted(reader=reader, atr=atr):
                assert model[reader] is None
                model[reader] = atr
            case CardRemoved(reader=reader):
                assert model[reader] is not None
                model[reader] = None
            case ServiceDown() | ServiceUp():
                pass
            case EventsLost():
                pytest.fail("that is a feed's")


@given(histories())
def test_the_events_of_all_differences_lead_to_the_last_look(history: list[Snapshot]) -> None:
    model: Model = {}
    apply(model, initial_events(history[0]))
    assert model == state_of(history[0])
    up = True
    for old, new in itertools.pairwise(history):
        events = diff(old, new)
        apply(model, events)
        assert model == state_of(new)
        changes = [event for event in events if isinstance(event, (ServiceDown, ServiceUp))]
        assert changes == ([] if up == (new.error is None) else [ServiceUp() if new.error is None else ServiceDown()])
        up = new.error is None
        for name in model if new.error is None else ():
            before, now = old.readers.get(name), new.readers[name]
            if before is not None and before.present and now.present:
                told = [event for event in events if getattr(event, "reader", "") == name]
                same = before.counter == now.counter and before.atr == now.atr and old.life == new.life
                assert len(told) == (0 if same else 2)


@given(readers(), readers())
def test_silence_means_that_nothing_but_the_use_changed(before: dict[str, Reading], now: dict[str, Reading]) -> None:
    if not diff(snapshot_of(**before), snapshot_of(**now)):
        kept = {name: reading.state() for name, reading in now.items()}
        assert {name: (state.present, state.atr, state.mute) for name, state in kept.items()} == {
            name: (state.present, state.atr, state.mute) for name, state in ((name, r.state()) for name, r in before.items())
        }


@pytest.mark.parametrize("kind", [ReaderAdded, ReaderRemoved, CardInserted, CardRemoved, ServiceDown, ServiceUp, EventsLost])
def test_every_event_says_whether_it_tells_of_the_beginning(kind: Any) -> None:
    assert set(get_args(Event)) >= {kind}
    values = {"reader": "A", "atr": ATR(ONE), "count": 1}
    needed = [values[field.name] for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    event = kind(*needed)
    assert event.initial is False
    assert pickle.loads(pickle.dumps(event)) == event
