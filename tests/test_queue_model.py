"""The table of waiters against a model: anybody does anything in any order, and the rules hold after every step.

The model knows who waits, who tries and who holds, and what is in the readers. It does not know how the table does it: of refusals
it knows only that a reader with one in it (`failed`) may be kept from everybody until the card changes or the time has come.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scardface import _queue, _waiters
from scardface._enums import ShareMode
from scardface._events import Reading
from scardface._queue import Table
from scardface._waiters import RETRY
from scardface.errors import NO_SMARTCARD, SHARING_VIOLATION, SUCCESS, UNPOWERED_CARD
from tests.support.waiting import ATR, DOWN, IN_USE, OTHER_ATR, Person, card, empty, look, mute

NAMES = ["A", "B", "C"]
EVERY_SHARE = [ShareMode.EXCLUSIVE, ShareMode.EXCLUSIVE, ShareMode.SHARED, ShareMode.SHARED, ShareMode.DIRECT]
EVERY_CODE = [SUCCESS, SUCCESS, SHARING_VIOLATION, SHARING_VIOLATION, UNPOWERED_CARD, NO_SMARTCARD]
EVERY_CHANGE = ["card"] * 7 + ["other card", "mute", "empty", "gone", "in use", "free", "service"]
ANYBODY = st.integers(0, 1000)


class Member(Person):
    """A person, as the model sees it."""

    def __init__(self, table: Table, share: ShareMode, readers: list[str] | None, atr: bytes | None, hasty: bool) -> None:
        super().__init__(table, share, readers=readers, atr=atr, timeout=0 if hasty else None)
        self.atr = atr
        self.ready = False
        self.left = False
        self.trying = ""
        self.holds = ""
        self.tried: set[str] = set()
        self.life = 0
        self.hasty = hasty
        self.rung = False
        self.due: float | None = None

    def wake(self) -> bool:
        alive = super().wake()
        self.left = self.left or not alive
        self.rung = True
        return alive

    def looks(self) -> None:
        """What its task does when the bell rang or its time has come: see `Acquisition`."""
        self.rung = False
        if self.hasty:
            self.left = True
            self.leaves()
            return
        if self.due is not None:
            self.table.retry(self.waiter)
        self.due = None if self.offered else self.retry_at

    def runs(self, now: float) -> bool:
        """Whether its task has something to do."""
        return self.rung or (self.due is not None and self.due <= now)

    @property
    def offered(self) -> str:
        """The reader that is this member's to try, or that it tries."""
        return "" if self.waiter.offer is None else self.waiter.offer.name

    @property
    def waits(self) -> bool:
        """Whether it waits and is free to try."""
        return self.ready and not self.left and not self.offered

    def accepts(self, name: str) -> bool:
        """Whether it watches this reader."""
        return self.readers is None or name in self.readers

    def suits(self, name: str, reading: Reading) -> bool:
        """Whether it wants what is in this reader."""
        if not self.accepts(name) or name in self.tried:
            return False
        if self.waiter.share is ShareMode.DIRECT:
            return True
        return reading.present and not reading.mute and (self.atr is None or reading.atr == ATR)


class Waiting(RuleBasedStateMachine):
    """See the head of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.patch = pytest.MonkeyPatch()
        for room in (_queue, _waiters):
            self.patch.setattr(room, "time", self)
        self.table = Table()
        self.members: list[Member] = []
        self.world: dict[str, Reading] = {"A": empty(), "B": empty()}
        self.up = True
        self.life = 1
        self.failed: set[str] = set()
        self.had_offers: set[Member] = set()
        self.publish()

    def monotonic(self) -> float:
        """The table's clock."""
        return self.now

    def publish(self) -> None:
        """What a hub does after a change."""
        self.table.publish(look(None if self.up else DOWN, self.life, **self.world))

    def one(self, members: list[Member], who: int) -> Member:
        """One of them."""
        return members[who % len(members)]

    @property
    def joining(self) -> list[Member]:
        return [member for member in self.members if not member.ready and not member.left]

    @property
    def present(self) -> list[Member]:
        return [member for member in self.members if not member.left and not member.holds]

    @property
    def offered(self) -> list[Member]:
        return [member for member in self.members if member.offered and not member.trying]

    @property
    def trying(self) -> list[Member]:
        return [member for member in self.members if member.trying]

    @property
    def holding(self) -> list[Member]:
        return [member for member in self.members if member.holds]

    # What acquisitions do.

    @rule(
        share=st.sampled_from(EVERY_SHARE),
        readers=st.sampled_from([None, None, ["A"], ["A", "B"], ["B", "C"]]),
        picky=st.booleans(),
        hasty=st.sampled_from([False, False, False, True]),
        at_once=st.sampled_from([True, True, True, False]),
    )
    def comes(self, share: ShareMode, readers: list[str] | None, picky: bool, hasty: bool, at_once: bool) -> None:
        atr = rb"^\x3b" if picky and share is not ShareMode.DIRECT else None
        member = Member(self.table, share, readers, atr, hasty)
        self.members.append(member)
        member.joins()
        if at_once:
            self.get_ready(member)

    @precondition(lambda self: self.joining)
    @rule(who=ANYBODY)
    def gets_ready(self, who: int) -> None:
        self.get_ready(self.one(self.joining, who))

    def get_ready(self, member: Member) -> None:
        """Its first look is there; it waits from now on."""
        member.ready = True
        member.gets_ready()
        if member.waits:
            member.looks()

    @precondition(lambda self: self.offered)
    @rule(who=ANYBODY, all_of_them=st.sampled_from([True, True, False]))
    def takes(self, who: int, all_of_them: bool) -> None:
        for member in self.offered if all_of_them else [self.one(self.offered, who)]:
            reader = member.takes()
            assert reader == member.offered
            assert all(other.trying != reader for other in self.members), "two connects in one reader"
            assert member.takes() is None
            member.trying, member.life = reader, self.life

    @precondition(lambda self: self.trying)
    @rule(who=ANYBODY, code=st.sampled_from(EVERY_CODE))
    def settles(self, who: int, code: int) -> None:
        member = self.one(self.trying, who)
        reader, member.trying = member.trying, ""
        if code != SUCCESS:
            if not member.left:
                self.failed.add(reader)
                if member.hasty:
                    member.tried.add(reader)
            member.fails(code)
            if member.waits:
                member.looks()
        elif member.left:
            member.gives_back()
        else:
            member.left = True
            if member.life == self.life:  # else the session died with the service
                member.holds = reader
            member.opens()

    @precondition(lambda self: self.present)
    @rule(who=ANYBODY, dies=st.sampled_from([False, False, True]))
    def leaves(self, who: int, dies: bool) -> None:
        """By itself, or its loop is gone: the table finds out when it wakes it."""
        member = self.one(self.present, who)
        if dies:
            member.alive = False
        else:
            member.left = True
            member.leaves()

    @precondition(lambda self: self.holding)
    @rule(who=ANYBODY)
    def closes(self, who: int) -> None:
        member = self.one(self.holding, who)
        member.holds = ""
        member.closes()

    # What PC/SC does.

    @rule(
        name=st.sampled_from(NAMES),
        what=st.sampled_from(EVERY_CHANGE),
    )
    def changes(self, name: str, what: str) -> None:
        if what == "service":
            self.service_goes_or_comes()
            return
        old = self.world.pop(name, None)
        counter = 1 if old is None else old.counter + 1
        if what in ("in use", "free"):
            if old is not None:
                self.world[name] = Reading(old.flags & ~IN_USE | (IN_USE if what == "in use" else 0), old.counter, old.atr)
        elif what != "gone":
            readings = {
                "card": card(counter),
                "other card": card(counter, OTHER_ATR),
                "mute": mute(counter),
                "empty": empty(counter),
            }
            self.world[name] = readings[what]
        self.world = {name: self.world[name] for name in NAMES if name in self.world}
        if not self.up:
            return
        if what not in ("in use", "free"):
            self.failed.discard(name)
        if what == "gone":  # handles die with their reader (fact 35)
            for member in self.holding:
                member.holds = "" if member.holds == name else member.holds
        self.publish()

    def service_goes_or_comes(self) -> None:
        self.up = not self.up
        if not self.up:
            self.life += 1
            self.failed.clear()
            for member in self.holding:
                member.holds = ""
        self.publish()

    @rule()
    def time_goes_by(self) -> None:
        """Whoever was woken looks, and whoever has something to try again does: nothing lies idle then."""
        self.let_all_look()
        self.now += RETRY
        self.let_all_look()
        self.check_completeness(set())

    @rule()
    def let_all_look(self) -> None:
        """The tasks run that were woken, or whose time has come."""
        for _ in range(1000):
            running = [member for member in self.members if member.waits and member.runs(self.now)]
            if not running:
                return
            running[0].looks()
        raise AssertionError("they wake each other for ever")

    # The rules.

    @invariant()
    def one_connect_for_each_reader(self) -> None:
        offers = [member.offered for member in self.members if member.offered]
        assert len(set(offers)) == len(offers)
        assert all(member.offered == member.trying for member in self.trying)

    @invariant()
    def exclusive_is_alone(self) -> None:
        for name in NAMES:
            inside = [member for member in self.members if name in (member.holds, member.offered)]
            assert len(inside) < 2 or all(member.waiter.share is not ShareMode.EXCLUSIVE for member in inside)

    @invariant()
    def who_left_is_offered_nothing(self) -> None:
        assert not [member for member in self.members if member.left and member.offered and not member.trying]

    @invariant()
    def oldest_first(self) -> None:
        offers = {member for member in self.members if member.offered}
        for index, member in enumerate(self.members):
            if member not in offers - self.had_offers or not self.up:
                continue
            name = member.offered
            for older in self.members[:index]:
                if older.left or older.offered or not older.suits(name, self.world[name]):
                    continue
                assert older.ready, f"{name} went to one who came after one that still joins"
                assert name in self.failed, f"{name} went to one who came later"
        self.had_offers = offers

    @invariant()
    def nothing_lies_idle(self) -> None:
        self.check_completeness(self.failed)

    def check_completeness(self, excused: set[str]) -> None:
        """Every card that is free and suits somebody is offered, but for those in `excused`."""
        for name, reading in self.world.items() if self.up else ():
            inside = [member for member in self.members if name in (member.holds, member.offered)]
            if name in excused or any(member.offered or member.waiter.share is ShareMode.EXCLUSIVE for member in inside):
                continue
            waiting = [member for member in self.members if member.waits and member.suits(name, reading)]
            if not waiting or (inside and waiting[0].waiter.share is ShareMode.EXCLUSIVE):
                continue
            before = self.members[: self.members.index(waiting[0])]
            assert any(member in self.joining and member.accepts(name) for member in before), f"{name} lies idle"

    def teardown(self) -> None:
        try:
            for member in self.present:
                member.leaves()
            for member in self.trying:
                member.gives_back()
            for member in self.holding:
                member.closes()
            assert (self.table._lines, self.table._joining) == ({}, {})
            assert not any(slot.holders or slot.connecting for slot in self.table._slots.values())
        finally:
            self.patch.undo()


def run_at_random(seed: int, steps: int) -> None:
    """Much longer than hypothesis goes, many waiters at a time."""
    chance = random.Random(seed)
    machine = Waiting()
    rarely = chance.random() < 0.5  # in every other run a cards stays a while
    try:
        for _ in range(steps):
            who, dice = chance.randrange(1000), chance.random()
            if dice < 0.25 and len(machine.present) < 12:
                readers = chance.choice([None, None, ["A"], ["A", "B"], ["B", "C"]])
                machine.comes(
                    chance.choice(EVERY_SHARE), readers, chance.random() < 0.3, chance.random() < 0.2, chance.random() < 0.8
                )
            elif dice < 0.35 and machine.joining:
                machine.gets_ready(who)
            elif dice < 0.55 and machine.offered:
                machine.takes(who, chance.random() < 0.7)
            elif dice < 0.7 and machine.trying:
                machine.settles(who, chance.choice(EVERY_CODE))
            elif dice < 0.76 and machine.present:
                machine.leaves(who, chance.random() < 0.3)
            elif dice < 0.86 and machine.holding:
                machine.closes(who)
            elif dice < (0.88 if rarely else 0.94):
                machine.changes(chance.choice(NAMES), chance.choice(EVERY_CHANGE))
            elif dice < 0.97:
                machine.let_all_look()
            else:
                machine.time_goes_by()
            machine.one_connect_for_each_reader()
            machine.exclusive_is_alone()
            machine.who_left_is_offered_nothing()
            machine.oldest_first()
            machine.nothing_lies_idle()
    finally:
        machine.teardown()


@pytest.mark.parametrize("seed", range(8))
def test_long_random_runs(seed: int) -> None:
    run_at_random(seed, 400)


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
