"""Who gets which card, in every order of messages: the dispatcher against a world that knows nothing of how it decides.

`World` is the truth: two readers, their cards, three entries, what PC/SC would answer. It carries effects out as the driver does,
and after each message it checks what must hold whatever the order:

- an offer goes to one that waits, whose first query is answered, whose owner is responsive, that has no other offer and wants that
  card; one offer per reader
  at a time; nothing that this process holds exclusively, and nothing exclusive that it holds at all; and no older one could have
  had it;
- a free card that somebody wants is on offer;
- a waiter whose deadline has passed has ended, and nobody who has ended is offered anything.

`test_every_order` explores all orders of up to `DEPTH` messages. States that were reached in several ways are explored once, and
the orders that led there are counted; hypothesis goes on beyond, with random lives of 60 messages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scardface._enums import Lengths, ShareMode, StateFlag
from scardface._pcsc.events import Reading, Snapshot
from scardface._session.card_request import ANY_PROTOCOL, CardRequest
from scardface._waiting.dispatcher import RETRY_HELD, Dispatcher
from scardface._waiting.messages import (
    CardOpened,
    ConnectFinished,
    ConnectStarted,
    Disconnected,
    Effect,
    End,
    Failed,
    FirstQueryDone,
    Joined,
    Left,
    Message,
    Offer,
    OwnerGone,
    RefusedCards,
    Responsive,
    SnapshotTaken,
    Subscribed,
    Unsubscribed,
    Waiter,
    Withdraw,
    Withdrawn,
)
from scardface.errors import (
    SECURITY_VIOLATION,
    CardTimeoutError,
    NoReaderError,
    ServiceUnavailableError,
    error_for,
)
from tests.support.dispatching import (
    EMPTY,
    HELD,
    PRESENT,
    card_request,
    ends,
    first_offer,
    make_waiter,
    offers,
    snapshot_taken,
    waiting,
)
from tests.support.readings import ATR, DOWN, OTHER_ATR, card, empty

FIGURES = os.environ.get("SCARDFACE_FIGURES") == "1"
DEPTH = 8 if FIGURES else 6
"""Messages of an order."""

READERS = ("A", "B")


class World:
    """The truth, and the driver's part (see the head of this file)."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.dispatcher = Dispatcher()
        self.waiters = [
            make_waiter(1, card_request(), "loop"),
            make_waiter(2, card_request("A", timeout=5), "loop", deadline=self.now + 5),
            make_waiter(3, card_request(share=ShareMode.SHARED), "thread"),
        ]
        self.cards = {"A": 1, "B": 0}  # the number of the card in each reader; 0: none
        self.counters = {"A": 1, "B": 0}
        self.up, self.life = True, 1
        self.answered = 0
        self.seen: dict[str, int] = {}  # what the dispatcher was told of: the card in each reader
        self.joined: set[Waiter] = set()
        self.queried: set[Waiter] = set()
        self.ended: set[Waiter] = set()
        self.untaken: dict[str, Offer] = {}
        self.taken: dict[str, Offer] = {}
        self.held: dict[Waiter, str] = {}
        self.unresponsive: set[Hashable] = set()
        self.flags: dict[str, int] = {}  # and how each was shared
        self.refused: dict[str, list[tuple[float, bool, bool]]] = {name: [] for name in READERS}
        """Until when a reader is refused; whether to EXCLUSIVE ones only; whether because another program has it."""
        self.offers = 0

    # What may happen next.

    def choices(self) -> Iterator[tuple[str, Any]]:
        for waiter in self.waiters:
            if waiter not in self.joined:
                yield "join", waiter
            elif waiter not in self.ended:
                yield "leave", waiter
        for name in self.untaken:
            yield "take", name
        for name in self.taken:
            yield "open", name
            yield "refuse", name
            yield "pass on", name
        for waiter in self.held:
            yield "close", waiter
        if self.up:
            for name in READERS:
                yield "card", name
        if self.dispatcher.query_wanted > self.answered:
            yield "query", None
        yield "service", None
        if self.dispatcher.wake_at is not None:
            yield "time", None
        for owner in self.unresponsive:
            yield "responsive", owner

    def do(self, what: str, about: Any) -> None:
        """One of `choices`."""
        getattr(self, "_" + what.replace(" ", "_"))(about)
        self._check()

    def _join(self, waiter: Waiter) -> None:
        self.joined.add(waiter)
        self._tell(Joined(waiter))

    def _leave(self, waiter: Waiter) -> None:
        self.ended.add(waiter)
        self._tell(Left(waiter))

    def _take(self, name: str) -> None:
        offer = self.untaken.pop(name)
        assert offer.claim("request")
        self.taken[name] = offer
        if offer.waiter in self.ended:  # as an acquisition does that has ended meanwhile
            self._tell(Withdrawn(self.taken.pop(name)))

    def _open(self, name: str) -> None:
        offer = self.taken.pop(name)
        waiter = offer.waiter
        if not self._could_open(name, waiter):
            self._refusal(offer)
            return
        self.held[waiter] = name
        self._tell(CardOpened(waiter, name, waiter.request.share, offer))
        if waiter in self.ended:  # nobody wants it any more
            self._close(waiter)
        self.ended.add(waiter)

    def _could_open(self, name: str, waiter: Waiter) -> bool:
        holders = [holder.request.share for holder, where in self.held.items() if where == name]
        free = not holders if waiter.request.share is ShareMode.EXCLUSIVE else ShareMode.EXCLUSIVE not in holders
        return self.up and bool(self.cards[name]) and free

    def _refuse(self, name: str) -> None:
        self._refusal(self.taken.pop(name))

    def _refusal(self, offer: Offer) -> None:
        self._remember_refusal(offer, RETRY_HELD, offer.waiter.request.share is ShareMode.EXCLUSIVE, True)
        self._tell(Failed(offer, HELD))

    def _pass_on(self, name: str) -> None:
        offer = self.taken.pop(name)
        self._remember_refusal(offer, 1.0, False, False)
        self._tell(Failed(offer, None))

    def _remember_refusal(self, offer: Offer, seconds: float, exclusive_only: bool, foreign: bool) -> None:
        self.refused[offer.reader].append((self.now + seconds, exclusive_only, foreign))

    def _close(self, waiter: Waiter) -> None:
        name = self.held.pop(waiter)
        if name not in self.held.values():
            self.refused[name].clear()
        self._tell(Disconnected(waiter))

    def _card(self, name: str) -> None:
        self.counters[name] += 1
        self.cards[name] = 0 if self.cards[name] else self.counters[name]
        if self.dispatcher.needed:  # else nobody watches
            self._post_snapshot()

    def _query(self, _: None) -> None:
        self.answered = self.dispatcher.query_wanted
        self._post_snapshot()

    def _service(self, _: None) -> None:
        self.up = not self.up
        self.life += self.up
        if not self.up:
            self.held.clear()  # the sessions are dead; their owners find out
        if self.dispatcher.needed:
            self._post_snapshot()

    def _post_snapshot(self) -> None:
        """The watcher posts what it sees."""
        readings = {}
        for name in READERS:
            holders = [holder.request.share for holder, where in self.held.items() if where == name]
            sharing = StateFlag.EXCLUSIVE if ShareMode.EXCLUSIVE in holders else StateFlag.INUSE if holders else 0
            flags = int((PRESENT if self.cards[name] else EMPTY) | sharing)
            if self.flags.get(name, 0) & ~flags & int(StateFlag.EXCLUSIVE | StateFlag.INUSE):
                self.refused[name] = [refusal for refusal in self.refused[name] if not refusal[2]]
            self.flags[name] = flags if self.up else 0
            readings[name] = Reading(flags, self.counters[name], ATR if self.cards[name] else b"")
        error = None if self.up else DOWN
        for name in READERS:
            now = self.counters[name] if self.up else -1
            if self.seen.get(name) != now:
                self.refused[name].clear()
            self.seen[name] = now
        self._tell(SnapshotTaken(Snapshot(self.answered, self.life, error, MappingProxyType(readings))))

    def _time(self, _: None) -> None:
        wake_at = self.dispatcher.wake_at
        assert wake_at is not None
        self.now = max(self.now, wake_at)
        self._carry_out(self.dispatcher.tick(self.now))

    def _responsive(self, owner: Hashable) -> None:
        self.unresponsive.discard(owner)
        self._tell(Responsive(owner))

    # The driver's part.

    def _tell(self, message: Message) -> None:
        self._carry_out(self.dispatcher.handle(message, self.now))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Offer):
                self._offered(effect)
            elif isinstance(effect, End):
                assert effect.waiter not in self.ended
                self.ended.add(effect.waiter)
            else:
                assert isinstance(effect, Withdraw)
                offer = effect.offer
                if offer.claim(effect):
                    assert self.untaken.pop(offer.reader) is offer
                    self.unresponsive &= {waiter.owner for waiter in self.joined - self.ended}  # who waits no more is forgotten
                    if offer.waiter not in self.ended:
                        self.unresponsive.add(offer.waiter.owner)
                    self._tell(Withdrawn(offer))

    def _offered(self, offer: Offer) -> None:
        self.offers += 1
        assert offer.reader not in self.untaken, "two have the same offer"
        assert offer.reader not in self.taken, "a reader is offered while somebody connects to it"
        assert offer.waiter not in [other.waiter for other in (*self.untaken.values(), *self.taken.values())], "two offers for one"
        assert offer.waiter in self.joined - self.ended, "offered to nobody"
        assert self._may_have(offer.waiter, offer.reader), f"{offer.waiter.number} may not have {offer.reader}"
        self.untaken[offer.reader] = offer

    # What must hold.

    def _check(self) -> None:
        self.queried = {waiter for waiter in self.joined if waiter._queue is not None or waiter in self.ended}
        for waiter in self.joined - self.ended:
            assert self.now < waiter.deadline or self.dispatcher.wake_at == waiter.deadline, "a deadline has passed"
        for name in READERS:
            if name in self.untaken or name in self.taken:
                continue
            first = next((waiter for waiter in self._waiting() if self._may_have(waiter, name)), None)
            assert first is None, f"{name} is free, {first.number} waits for it, and it is not on offer"
        if not self.dispatcher.needed and not self.taken and not self.held:
            assert not self.untaken

    def _waiting(self) -> list[Waiter]:
        busy = [offer.waiter for offer in (*self.untaken.values(), *self.taken.values())]
        return [waiter for waiter in self.waiters if waiter in self.joined - self.ended and waiter not in busy]

    def _may_have(self, waiter: Waiter, name: str) -> bool:
        """Whether the card in a reader is this one's by the rules: it suits, nobody holds it, no older one may have it."""
        if waiter._queue is None or waiter.owner in self.unresponsive or not self._suits(waiter, name):
            return False
        holders = [holder.request.share for holder, where in self.held.items() if where == name]
        if ShareMode.EXCLUSIVE in holders or (waiter.request.share is ShareMode.EXCLUSIVE and holders):
            return False
        if self._is_refused(waiter, name):
            return False
        for older in self._waiting():
            if older.number >= waiter.number or older.owner in self.unresponsive or not self._suits(older, name):
                continue
            if older._queue is None or self._may_have(older, name):
                return False  # its first query is not answered, or it is next
            if holders and older.request.share is ShareMode.EXCLUSIVE and not self._is_refused(older, name):
                return False  # it waits until those who share have left
        return True

    def _is_refused(self, waiter: Waiter, name: str) -> bool:
        exclusive = waiter.request.share is ShareMode.EXCLUSIVE
        return any(until > self.now and (exclusive or not exclusive_only) for until, exclusive_only, _ in self.refused[name])

    def _suits(self, waiter: Waiter, name: str) -> bool:
        names = waiter.request.readers.names
        present = self.seen.get(name, -1) >= 0 and bool(self.cards[name])
        return self.up and present and (names is None or name in names)

    # Whether two worlds are the same to whatever comes next.

    def key(self) -> Hashable:
        def number(offer: Offer | None) -> int:
            return 0 if offer is None else offer.waiter.number

        since = self.now
        state = self.dispatcher
        return (
            tuple(self.cards.values()) and tuple(bool(card) for card in self.cards.values()),
            self.up,
            self.answered == state.query_wanted,
            tuple(sorted(waiter.number for waiter in self.joined)),
            tuple(sorted(waiter.number for waiter in self.ended)),
            tuple((name, number(offer)) for name, offer in sorted(self.untaken.items())),
            tuple((name, number(offer)) for name, offer in sorted(self.taken.items())),
            tuple(sorted((waiter.number, name) for waiter, name in self.held.items())),
            tuple(sorted(map(str, self.unresponsive))),
            tuple(waiter._queue is not None for waiter in self.waiters),
            tuple(waiter._query_number <= self.answered for waiter in self.waiters),
            tuple(sorted(waiter.number for waiter in state._waiters)),
            tuple(
                (
                    reader.name,
                    reader.reading is not None and reader.reading.flags,
                    number(reader.offer),
                    tuple(sorted((holder.number, since > self.answered) for holder, (_, since) in reader.holders.items())),
                    tuple(
                        (round(refusal.until - since, 3), refusal.is_sharing_violation, len(refusal.shares))
                        for refusal in reader.refusals
                    ),
                )
                for reader in sorted(state._readers.values(), key=lambda reader: reader.name)
            ),
            tuple(sorted((round(timer.when - since, 3), timer.due.__name__) for timer in state._timers if timer.is_live())),
            tuple(sorted((round(until - since, 3), only) for name in READERS for until, only, _ in self.refused[name])),
            round(self.waiters[1].deadline - since, 3),
        )


def replayed(order: tuple[int, ...]) -> World:
    """The world after an order; each number says which of the choices was made."""
    world = World()
    for choice in order:
        world.do(*list(world.choices())[choice])
    return world


@pytest.mark.slow
def test_every_order() -> None:
    began = time.monotonic()
    frontier: dict[Hashable, tuple[tuple[int, ...], int]] = {World().key(): ((), 1)}
    orders = states = offers = 0
    for _ in range(DEPTH):
        following: dict[Hashable, tuple[tuple[int, ...], int]] = {}
        for order, ways in frontier.values():
            for choice in range(len(list(replayed(order).choices()))):
                try:
                    world = replayed((*order, choice))
                except AssertionError as error:
                    raise AssertionError(f"{error} (after {in_words((*order, choice))})") from error
                key = world.key()
                known = following.get(key)
                following[key] = ((*order, choice), ways) if known is None else (known[0], known[1] + ways)
                orders += ways
                offers += world.offers
        states += len(following)
        frontier = following
    assert offers, "nothing was ever offered"
    if FIGURES:
        print(f"\n{orders:,} orders of up to {DEPTH} messages, {states:,} states, {time.monotonic() - began:.0f} s")


def in_words(order: tuple[int, ...]) -> str:
    """An order in words."""
    world, words = World(), []
    for choice in order:
        what, about = list(world.choices())[choice]
        words.append(f"{what} {about.number if isinstance(about, Waiter) else about}")
        try:
            world.do(what, about)
        except AssertionError:
            break
    return ", ".join(words)


@example([0, 1188, 1, 1312, 164, 250, 3, 5])  # a connect that spans a restart of the service
@example([0, 2, 5, 7, 0, 6, 0, 4])  # a loop that did not answer, and that nobody waited in any more, has somebody who waits again
@example([1, 2, 5, 7, 1, 3, 6, 7, 0, 2])
@given(st.lists(st.integers(0, 10_000), max_size=60))
@settings(max_examples=3000 if FIGURES else 300)
def test_long_lives(choices: list[int]) -> None:
    world = World()
    for choice in choices:
        possible = list(world.choices())
        world.do(*possible[choice % len(possible)])


# What a message brings, one by one.


def test_several_cards_are_offered_in_the_order_of_the_list() -> None:
    _, effects = waiting(make_waiter(1, card_request()), make_waiter(2, card_request()), C=card(), A=card(), B=card())
    assert offers(effects) == [(1, "C"), (2, "A")]


def test_a_card_that_does_not_match_is_for_the_next() -> None:
    _, effects = waiting(make_waiter(1, card_request(atr=rb"^\x3f")), make_waiter(2, card_request()), A=card())
    assert offers(effects) == [(2, "A")]


def test_the_card_has_to_settle_and_the_eldest_keeps_its_place_meanwhile() -> None:
    dispatcher, effects = waiting(make_waiter(1, card_request(settle=0.5)), make_waiter(2, card_request()), A=card())
    assert offers(effects) == []
    assert dispatcher.wake_at == 0.5
    assert offers(dispatcher.handle(snapshot_taken(2, A=card(2)), 0.4)) == [], "another card settles anew"
    assert offers(dispatcher.tick(0.5)) == []
    assert offers(dispatcher.tick(0.9)) == [(1, "A")]


def test_only_new_cards() -> None:
    dispatcher, effects = waiting(make_waiter(1, card_request(new_only=True)), A=card())
    assert offers(effects) == []
    assert offers(dispatcher.handle(snapshot_taken(1, A=empty(2)), 1.0)) == []
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3)), 2.0)) == [(1, "A")]


def test_only_new_cards_after_a_restart_with_the_same_card_in() -> None:
    dispatcher, _ = waiting(make_waiter(1, card_request(new_only=True)), A=card())
    dispatcher.handle(snapshot_taken(1, DOWN, A=card()), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(1, life=2, A=card(0)), 2.0)) == [], "it is the old one"
    dispatcher.handle(snapshot_taken(1, life=2, A=empty(1)), 3.0)
    assert offers(dispatcher.handle(snapshot_taken(1, life=2, A=card(2)), 4.0)) == [(1, "A")]


def test_a_service_that_ends_refuses_once_and_one_that_refuses_does_it_again() -> None:
    refused = error_for(SECURITY_VIOLATION, "SCardEstablishContext")
    dispatcher = Dispatcher()
    dispatcher.handle(Joined(make_waiter(1, card_request(wait_for_reader=True))), 0.0)
    assert dispatcher.handle(snapshot_taken(dispatcher.query_wanted, refused), 0.0) == []
    dispatcher.handle(snapshot_taken(dispatcher.query_wanted, DOWN), 0.1)
    assert offers(dispatcher.handle(snapshot_taken(dispatcher.query_wanted, A=card()), 0.2)) == [(1, "A")]
    dispatcher = Dispatcher()
    dispatcher.handle(Joined(make_waiter(1, card_request(wait_for_reader=True))), 0.0)
    dispatcher.handle(snapshot_taken(dispatcher.query_wanted, refused), 0.0)
    [end] = dispatcher.handle(snapshot_taken(dispatcher.query_wanted, refused), 0.1)
    assert isinstance(end, End)
    assert end.error.code == SECURITY_VIOLATION


def refusing(number: int, refused: Mapping[str, Reading]) -> tuple[Dispatcher, Waiter]:
    """A dispatcher with a waiter that does not want some cards."""
    dispatcher, waiter = Dispatcher(), make_waiter(number, card_request())
    dispatcher.handle(Joined(waiter, refused=RefusedCards(refused, 1)), 0.0)
    return dispatcher, waiter


@pytest.mark.parametrize(("life", "offered"), [(1, [(1, "A")]), (2, []), (None, [])])
def test_a_refusal_of_another_life_of_the_service_says_nothing(life: int | None, offered: list[tuple[int, str]]) -> None:
    """Counters begin anew with the service, so that the next card may show what the one before showed."""
    dispatcher, waiter = Dispatcher(), make_waiter(1, card_request())
    dispatcher.handle(Subscribed(cast("Any", object()), None), 0.0)
    dispatcher.handle(snapshot_taken(dispatcher.query_wanted, life=2, A=card(3)), 0.0)
    dispatcher.handle(Joined(waiter, refused=RefusedCards({"A": card(3)}, life)), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(dispatcher.query_wanted, life=2, A=card(3)), 1.0)) == offered


def test_another_watcher_makes_no_other_life() -> None:
    """It counts one more, since it has not seen what the one before saw; a card that was refused in between may still be in."""
    dispatcher, waiter, other = Dispatcher(), make_waiter(1, card_request()), make_waiter(2, card_request())
    listener = cast("Any", object())
    dispatcher.handle(Subscribed(listener, None), 0.0)
    dispatcher.handle(snapshot_taken(dispatcher.query_wanted, A=card(3)), 0.0)
    dispatcher.handle(Unsubscribed(listener), 1.0)
    dispatcher.forget_life()
    assert dispatcher.life is None
    dispatcher.handle(Joined(waiter, refused=RefusedCards({"A": card(3)})), 2.0)
    assert offers(dispatcher.handle(snapshot_taken(dispatcher.query_wanted, life=2, A=card(3)), 2.0)) == []
    assert dispatcher.life == 2
    dispatcher.forget_life()
    [offer] = dispatcher.handle(Joined(other, readers=None), 3.0)
    assert isinstance(offer, Offer)
    assert offer.life is None


def test_a_refusal_of_a_card_that_has_gone_before_its_waiter_joined_says_nothing() -> None:
    """The next card in that reader may show the same counter, where the reader was unplugged meanwhile."""
    for gone, offered in (({}, []), ({"A": card(3)}, [(1, "A")])):
        dispatcher, waiter = Dispatcher(), make_waiter(1, card_request())
        refused = RefusedCards(gone or {"A": card(3)}, 1, gone)
        dispatcher.handle(Joined(waiter, refused=refused), 0.0)
        assert offers(dispatcher.handle(snapshot_taken(dispatcher.query_wanted, A=card(3)), 1.0)) == offered


@pytest.mark.parametrize("gone", [{}, {"A": empty(4)}])
def test_a_refused_card_that_went_unseen_is_forgotten(gone: dict[str, Reading]) -> None:
    """The query that its waiter has asked for began after the card was refused, and does not show it."""
    dispatcher, waiter = Dispatcher(), make_waiter(1, card_request(wait_for_reader=True))
    dispatcher.handle(Joined(waiter, refused=RefusedCards({"A": card(3)}, 1)), 0.0)
    assert offers(dispatcher.handle(snapshot_taken(0, **gone), 0.0)) == [], "that one may be older"
    dispatcher.handle(snapshot_taken(1, B=empty(), **gone), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3), B=empty()), 2.0)) == [(1, "A")], "in a reader that came anew"


def test_a_refused_card_is_not_offered_while_it_is_in() -> None:
    dispatcher, waiter = refusing(1, {"A": card(3)})
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3), B=empty()), 0.0)) == []
    assert dispatcher.summary_of(waiter)[0] == "a card that was refused, or had its turn before, in reader 'A'"
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3, OTHER_ATR), B=empty()), 1.0)) == [], "a reset changes its ATR"
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3), B=card(1)), 2.0)) == [(1, "B")]


def test_another_card_in_its_place_is_offered_and_so_is_the_same_once_it_was_out() -> None:
    dispatcher, _ = refusing(1, {"A": card(3)})
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(5)), 0.0)) == [(1, "A")]
    dispatcher, _ = refusing(1, {"A": card(3)})
    dispatcher.handle(snapshot_taken(1, A=card(3)), 0.0)
    dispatcher.handle(snapshot_taken(1, A=empty(4)), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3)), 2.0)) == [(1, "A")], "whatever its counter shows"


def test_after_its_reader_or_the_service_was_away_a_refused_card_is_offered() -> None:
    dispatcher, _ = refusing(1, {"A": card(3)})
    dispatcher.handle(snapshot_taken(1, A=card(3)), 0.0)
    dispatcher.handle(snapshot_taken(1, B=empty()), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(3)), 2.0)) == [(1, "A")]
    dispatcher, _ = refusing(1, {"A": card(3)})
    dispatcher.handle(snapshot_taken(1, A=card(3)), 0.0)
    assert offers(dispatcher.handle(snapshot_taken(1, life=2, A=card(3)), 1.0)) == [(1, "A")]
    dispatcher, _ = refusing(1, {"A": card(3)})
    dispatcher.handle(snapshot_taken(1, A=card(3)), 0.0)
    dispatcher.handle(snapshot_taken(1, DOWN, A=card(3)), 1.0)
    assert offers(dispatcher.handle(snapshot_taken(1, life=2, A=card(3)), 2.0)) == [(1, "A")]


def test_others_are_offered_a_card_that_one_refuses() -> None:
    dispatcher, _ = refusing(1, {"A": card(3)})
    dispatcher.handle(Joined(make_waiter(2, card_request())), 0.0)
    assert offers(dispatcher.handle(snapshot_taken(2, A=card(3)), 0.0)) == [(2, "A")]


def test_an_offer_says_what_was_in_at_the_start_and_still_is() -> None:
    dispatcher, _ = waiting(make_waiter(1, card_request(new_only=True)), A=card(), B=card(), C=empty())
    dispatcher.handle(snapshot_taken(1, A=card(), B=empty(2), C=empty()), 1.0)
    [offer] = [
        each for each in dispatcher.handle(snapshot_taken(1, A=card(), B=empty(2), C=card(1)), 2.0) if isinstance(each, Offer)
    ]
    assert offer.known == {"A": card()}


def test_a_timeout_of_0_has_one_try_at_each_card() -> None:
    dispatcher, effects = waiting(make_waiter(1, card_request(timeout=0)), A=card(), B=card())
    assert offers(effects) == [(1, "A")]
    effects = dispatcher.handle(Failed(first_offer(effects), HELD), 0.0)
    assert offers(effects) == [(1, "B")]
    effects = dispatcher.handle(Failed(first_offer(effects), HELD), 0.0)
    assert offers(effects) == []
    assert [type(error) for error in ends(effects)] == [CardTimeoutError]
    assert not dispatcher.needed


def test_no_reader_ends_it_unless_readers_are_waited_for() -> None:
    _, effects = waiting(make_waiter(1, card_request("B")), A=card())
    assert [type(error) for error in ends(effects)] == [NoReaderError]
    assert "wait_for_reader=True" in str(ends(effects)[0])
    dispatcher, effects = waiting(make_waiter(1, card_request("B", wait_for_reader=True)), A=card())
    assert effects == []
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(), B=card()), 1.0)) == [(1, "B")]


def test_readers_that_came_later_are_not_those_of_the_start() -> None:
    dispatcher, _ = waiting(make_waiter(1, card_request()), A=empty())
    assert offers(dispatcher.handle(snapshot_taken(1, A=empty(), B=card()), 1.0)) == []
    assert offers(dispatcher.handle(snapshot_taken(1, A=card(), B=card()), 2.0)) == [(1, "A")]


def test_groups_are_asked_for_while_somebody_wants_them() -> None:
    dispatcher = Dispatcher()
    one = make_waiter(1, CardRequest.from_arguments(None, "G", None, None, False, ShareMode.EXCLUSIVE, ANY_PROTOCOL, Lengths.AUTO))
    dispatcher.handle(Joined(one), 0.0)
    assert dispatcher.groups == (("G",),)
    effects = dispatcher.handle(snapshot_taken(1, groups={("G",): frozenset({"B"})}, A=card(), B=card()), 0.0)
    assert offers(effects) == [(1, "B")]
    dispatcher.handle(Left(one), 0.0)
    assert dispatcher.groups == ()


def test_no_service_at_the_start_ends_it_and_later_ends_nobody() -> None:
    dispatcher, _ = waiting(make_waiter(1, card_request()), A=empty())
    assert dispatcher.handle(snapshot_taken(1, DOWN, A=empty()), 1.0) == []
    dispatcher.handle(Joined(make_waiter(2, card_request())), 1.0)
    dispatcher.handle(Joined(make_waiter(3, card_request(wait_for_reader=True))), 1.0)
    effects = dispatcher.handle(snapshot_taken(dispatcher.query_wanted, DOWN, A=empty()), 1.0)
    assert [(effect.waiter.number, type(effect.error)) for effect in effects if isinstance(effect, End)] == [
        (2, ServiceUnavailableError)
    ]
    assert offers(dispatcher.handle(snapshot_taken(dispatcher.query_wanted, life=2, A=card(1)), 2.0)) == [(1, "A")]


def test_a_connect_of_somebody_who_did_not_ask_here_keeps_its_reader() -> None:
    elsewhere = Offer(make_waiter(1, card_request()), "A", card())
    dispatcher, effects = Dispatcher(), []
    dispatcher.handle(ConnectStarted(elsewhere), 0.0)
    dispatcher.handle(Joined(make_waiter(2, card_request())), 0.0)
    effects = dispatcher.handle(snapshot_taken(1, A=card(), B=empty()), 0.0)
    assert offers(effects) == []
    assert offers(dispatcher.handle(ConnectFinished(elsewhere), 1.0)) == [(2, "A")]


def test_a_connect_that_has_returned_is_no_offer_although_it_was_reported_late() -> None:
    """Its failure came first, then who joined with it; that it is over comes last."""
    late = make_waiter(1, card_request())
    trying = Offer(late, "A", card())
    dispatcher, _ = waiting(make_waiter(2, card_request("A", atr=b"never")), A=card())
    dispatcher.handle(ConnectStarted(trying), 0.0)
    dispatcher.handle(Failed(trying, HELD), 0.0)
    assert offers(dispatcher.handle(Joined(late, (), None, trying), 0.0)) == []
    assert offers(dispatcher.handle(ConnectFinished(trying), 0.0)) == [(1, "A")]


def test_who_comes_after_many_have_left_is_offered_a_card_that_was_refused_a_moment_ago() -> None:
    """Nobody waited for that reader when the timers of those who had left were cleared away."""
    first = make_waiter(1, card_request("A"))
    dispatcher, effects = waiting(first, make_waiter(2, card_request("B")), A=card(), B=empty())
    dispatcher.handle(Failed(first_offer(effects), HELD), 0.0)
    dispatcher.handle(Left(first), 0.0)
    for number in range(3, 200):
        other = make_waiter(number, card_request("B", timeout=99), deadline=99.0)
        dispatcher.handle(Joined(other, readers=frozenset({"B"})), 0.0)
        dispatcher.handle(Left(other), 0.0)
    dispatcher.handle(Joined(make_waiter(200, card_request("A")), readers=frozenset({"A"})), 0.1)
    assert offers(dispatcher.tick(RETRY_HELD)) == [(200, "A")]


def test_one_in_its_first_query_is_not_overtaken_for_a_quarter_of_a_second() -> None:
    older = make_waiter(1, card_request("A"))
    for through in (True, False):
        dispatcher = Dispatcher()
        dispatcher.handle(Joined(make_waiter(2, card_request()), (older,)), 0.0)
        assert offers(dispatcher.handle(snapshot_taken(1, A=card(), B=empty()), 0.0)) == []
        assert offers(dispatcher.handle(FirstQueryDone(older), 0.1) if through else dispatcher.tick(0.25)) == [(2, "A")]


def test_a_closed_loop_gives_up_all_that_waits_there() -> None:
    dispatcher, effects = waiting(
        make_waiter(1, card_request(), "loop"),
        make_waiter(2, card_request(), "loop"),
        make_waiter(3, card_request(), "other"),
        A=card(),
    )
    assert offers(effects) == [(1, "A")]
    effects = dispatcher.handle(OwnerGone("loop"), 0.0)
    assert [effect.waiter.number for effect in effects if isinstance(effect, End)] == [1, 2]
    (back,) = (effect for effect in effects if isinstance(effect, Withdraw))
    assert offers(dispatcher.handle(Withdrawn(back.offer), 0.0)) == [(3, "A")]


def test_timers_of_those_who_left_do_not_pile_up() -> None:
    dispatcher, _ = waiting(make_waiter(1, card_request()), A=empty())
    for number in range(2, 5000):
        one = make_waiter(number, card_request(timeout=3600), deadline=3600.0)
        dispatcher.handle(Joined(one), 0.0)
        dispatcher.handle(Left(one), 0.0)
    assert len(dispatcher._timers) < 100
    assert len(dispatcher._queues) == 1


def test_who_joins_costs_the_same_however_many_wait() -> None:
    """Counted are the looks at a waiter: a set's difference with the keys of a dictionary goes through all of them."""
    looks = [0]

    class CountedWaiter(Waiter):
        def __hash__(self) -> int:
            looks[0] += 1
            return id(self)

    def counted(number: int) -> Waiter:
        waiter = CountedWaiter()
        for slot in ("request", "owner", "deadline", "service_may_be_absent"):
            setattr(waiter, slot, getattr(template, slot))
        waiter.number = number
        return waiter

    dispatcher, template = Dispatcher(), make_waiter(1, card_request(), "loop")
    costs = []
    for number in range(500):
        looks[0] = 0
        dispatcher.handle(Joined(counted(number), older=(template,)), 0.0)
        costs.append(looks[0])
    assert max(costs[1:]) <= costs[0]
