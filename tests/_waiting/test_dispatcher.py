"""Who gets which card, in every order of messages: the dispatcher against a world that knows nothing of how it decides.

`World` is the truth: two readers, their cards, three entries, what PC/SC would answer. It carries effects out as the driver does,
and after each message it checks what must hold whatever the order:

- an offer goes to somebody who waits, has had a first look, is awake, has no other offer and wants that card; one offer per reader
  at a time; nothing that this process holds exclusively, and nothing exclusive that it holds at all; and no older one could have
  had it;
- a free card that somebody wants is on offer;
- whoever's deadline has come has ended, and nobody who ended is offered anything.

`test_every_order` explores all orders of up to `DEPTH` messages. States that were reached in several ways are explored once, and
the orders that led there are counted; hypothesis goes on beyond, with random lives of 60 messages.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from types import MappingProxyType
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scardface._enums import Lengths, ShareMode, StateFlag
from scardface._pcsc.events import Reading, Snapshot
from scardface._session.card_request import ANY_PROTOCOL, CardRequest
from scardface._waiting.dispatcher import RETRY, Dispatcher
from scardface._waiting.messages import (
    Awake,
    Connected,
    Connecting,
    Effect,
    End,
    Entry,
    Failed,
    Freed,
    HomeGone,
    Joined,
    Left,
    Looked,
    Message,
    Offer,
    Opened,
    TakeBack,
    Through,
    Untaken,
)
from scardface.errors import (
    NO_SERVICE,
    PROTO_MISMATCH,
    SHARING_VIOLATION,
    CardTimeoutError,
    NoReaderError,
    ProtocolMismatchError,
    ServiceUnavailableError,
    error_for,
)

FIGURES = os.environ.get("SCARDFACE_FIGURES") == "1"
DEPTH = 8 if FIGURES else 6
"""Messages of an order."""

READERS = ("A", "B")
ATR = bytes.fromhex("3B800181")
OTHER_ATR = bytes.fromhex("3F6500")
PRESENT, EMPTY = int(StateFlag.PRESENT), int(StateFlag.EMPTY)
DOWN = error_for(NO_SERVICE, "SCardGetStatusChange")
HELD = error_for(SHARING_VIOLATION, "SCardConnect", "A")


def card_request(
    readers: Any = None,
    share: ShareMode = ShareMode.EXCLUSIVE,
    *,
    timeout: float | None = None,
    atr: bytes | None = None,
    **more: Any,
) -> CardRequest:
    return CardRequest.of(readers, None, timeout, atr, False, share, ANY_PROTOCOL, Lengths.AUTO, **more)


def entry(number: int, request: CardRequest, home: Hashable = "home", deadline: float = float("inf")) -> Entry:
    made = Entry()
    made.number, made.request, made.home, made.deadline, made.service_may_be_absent = number, request, home, deadline, False
    return made


class World:
    """The truth, and the driver's part (see the head of this file)."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.dispatcher = Dispatcher()
        self.entries = [
            entry(1, card_request(), "loop"),
            entry(2, card_request("A", timeout=5), "loop", deadline=self.now + 5),
            entry(3, card_request(share=ShareMode.SHARED), "thread"),
        ]
        self.cards = {"A": 1, "B": 0}  # the number of the card in each reader; 0: none
        self.counters = {"A": 1, "B": 0}
        self.up, self.life = True, 1
        self.answered = 0
        self.seen: dict[str, int] = {}  # what the dispatcher has been told: the card in each reader
        self.joined: set[Entry] = set()
        self.looked: set[Entry] = set()
        self.ended: set[Entry] = set()
        self.untaken: dict[str, Offer] = {}
        self.taken: dict[str, Offer] = {}
        self.held: dict[Entry, str] = {}
        self.asleep: set[Hashable] = set()
        self.flags: dict[str, int] = {}  # and how each was shared
        self.refused: dict[str, list[tuple[float, bool, bool]]] = {name: [] for name in READERS}
        """Until when a reader is refused; whether to EXCLUSIVE ones only; whether because another program has it."""
        self.offers = 0

    # What may happen next.

    def choices(self) -> Iterator[tuple[str, Any]]:
        for entry in self.entries:
            if entry not in self.joined:
                yield "join", entry
            elif entry not in self.ended:
                yield "leave", entry
        for name in self.untaken:
            yield "take", name
        for name in self.taken:
            yield "open", name
            yield "refuse", name
            yield "pass on", name
        for entry in self.held:
            yield "close", entry
        if self.up:
            for name in READERS:
                yield "card", name
        if self.dispatcher.asked > self.answered:
            yield "look", None
        yield "service", None
        if self.dispatcher.wake_at is not None:
            yield "time", None
        for home in self.asleep:
            yield "awake", home

    def do(self, what: str, about: Any) -> None:
        """One of `choices`."""
        getattr(self, "_" + what.replace(" ", "_"))(about)
        self._check()

    def _join(self, entry: Entry) -> None:
        self.joined.add(entry)
        self._tell(Joined(entry))

    def _leave(self, entry: Entry) -> None:
        self.ended.add(entry)
        self._tell(Left(entry))

    def _take(self, name: str) -> None:
        offer = self.untaken.pop(name)
        assert offer.claim("request")
        self.taken[name] = offer
        if offer.entry in self.ended:  # as an acquisition does that has ended meanwhile
            self._tell(Untaken(self.taken.pop(name)))

    def _open(self, name: str) -> None:
        offer = self.taken.pop(name)
        entry = offer.entry
        if not self._could_open(name, entry):
            self._refusal(offer)
            return
        self.held[entry] = name
        self._tell(Opened(entry, name, entry.request.share, offer))
        if entry in self.ended:  # nobody wants it any more
            self._close(entry)
        self.ended.add(entry)

    def _could_open(self, name: str, entry: Entry) -> bool:
        holders = [holder.request.share for holder, where in self.held.items() if where == name]
        free = not holders if entry.request.share is ShareMode.EXCLUSIVE else ShareMode.EXCLUSIVE not in holders
        return self.up and bool(self.cards[name]) and free

    def _refuse(self, name: str) -> None:
        self._refusal(self.taken.pop(name))

    def _refusal(self, offer: Offer) -> None:
        self._note(offer, RETRY, offer.entry.request.share is ShareMode.EXCLUSIVE, True)
        self._tell(Failed(offer, HELD))

    def _pass_on(self, name: str) -> None:
        offer = self.taken.pop(name)
        self._note(offer, 1.0, False, False)
        self._tell(Failed(offer, None))

    def _note(self, offer: Offer, seconds: float, exclusive_only: bool, foreign: bool) -> None:
        self.refused[offer.reader].append((self.now + seconds, exclusive_only, foreign))

    def _close(self, entry: Entry) -> None:
        name = self.held.pop(entry)
        if name not in self.held.values():
            self.refused[name].clear()
        self._tell(Freed(entry))

    def _card(self, name: str) -> None:
        self.counters[name] += 1
        self.cards[name] = 0 if self.cards[name] else self.counters[name]
        if self.dispatcher.needed:  # else nobody watches
            self._see()

    def _look(self, _: None) -> None:
        self.answered = self.dispatcher.asked
        self._see()

    def _service(self, _: None) -> None:
        self.up = not self.up
        self.life += self.up
        if not self.up:
            self.held.clear()  # the sessions are dead; their owners find out
        if self.dispatcher.needed:
            self._see()

    def _see(self) -> None:
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
        self._tell(Looked(Snapshot(self.answered, self.life, error, MappingProxyType(readings))))

    def _time(self, _: None) -> None:
        wake_at = self.dispatcher.wake_at
        assert wake_at is not None
        self.now = max(self.now, wake_at)
        self._carry_out(self.dispatcher.tick(self.now))

    def _awake(self, home: Hashable) -> None:
        self.asleep.discard(home)
        self._tell(Awake(home))

    # The driver's part.

    def _tell(self, message: Message) -> None:
        self._carry_out(self.dispatcher.handle(message, self.now))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Offer):
                self._offered(effect)
            elif isinstance(effect, End):
                assert effect.entry not in self.ended
                self.ended.add(effect.entry)
            else:
                assert isinstance(effect, TakeBack)
                offer = effect.offer
                if offer.claim(effect):
                    assert self.untaken.pop(offer.reader) is offer
                    if offer.entry not in self.ended:
                        self.asleep.add(offer.entry.home)
                    self._tell(Untaken(offer))

    def _offered(self, offer: Offer) -> None:
        self.offers += 1
        assert offer.reader not in self.untaken, "two have the same offer"
        assert offer.reader not in self.taken, "a reader is offered while somebody connects to it"
        assert offer.entry not in [other.entry for other in (*self.untaken.values(), *self.taken.values())], "two offers for one"
        assert offer.entry in self.joined - self.ended, "offered to nobody"
        assert self._may_have(offer.entry, offer.reader), f"{offer.entry.number} may not have {offer.reader}"
        self.untaken[offer.reader] = offer

    # What must hold.

    def _check(self) -> None:
        self.looked = {entry for entry in self.joined if entry._line is not None or entry in self.ended}
        for entry in self.joined - self.ended:
            assert self.now < entry.deadline or self.dispatcher.wake_at == entry.deadline, "a deadline has passed"
        for name in READERS:
            if name in self.untaken or name in self.taken:
                continue
            first = next((entry for entry in self._waiting() if self._may_have(entry, name)), None)
            assert first is None, f"{name} is free, {first.number} waits for it, and it is not on offer"
        if not self.dispatcher.needed and not self.taken and not self.held:
            assert not self.untaken

    def _waiting(self) -> list[Entry]:
        busy = [offer.entry for offer in (*self.untaken.values(), *self.taken.values())]
        return [entry for entry in self.entries if entry in self.joined - self.ended and entry not in busy]

    def _may_have(self, entry: Entry, name: str) -> bool:
        """Whether the card in a reader is this one's by the rules: it suits, nobody holds it, no older one may have it."""
        if entry._line is None or entry.home in self.asleep or not self._suits(entry, name):
            return False
        holders = [holder.request.share for holder, where in self.held.items() if where == name]
        if ShareMode.EXCLUSIVE in holders or (entry.request.share is ShareMode.EXCLUSIVE and holders):
            return False
        if self._is_refused(entry, name):
            return False
        for older in self._waiting():
            if older.number >= entry.number or older.home in self.asleep or not self._suits(older, name):
                continue
            if older._line is None or self._may_have(older, name):
                return False  # it still has its first look, or is next
            if holders and older.request.share is ShareMode.EXCLUSIVE and not self._is_refused(older, name):
                return False  # it waits until those who share have left
        return True

    def _is_refused(self, entry: Entry, name: str) -> bool:
        exclusive = entry.request.share is ShareMode.EXCLUSIVE
        return any(until > self.now and (exclusive or not exclusive_only) for until, exclusive_only, _ in self.refused[name])

    def _suits(self, entry: Entry, name: str) -> bool:
        names = entry.request.readers.names
        present = self.seen.get(name, -1) >= 0 and bool(self.cards[name])
        return self.up and present and (names is None or name in names)

    # Whether two worlds are the same to whatever comes next.

    def key(self) -> Hashable:
        def number(offer: Offer | None) -> int:
            return 0 if offer is None else offer.entry.number

        since = self.now
        state = self.dispatcher
        return (
            tuple(self.cards.values()) and tuple(bool(card) for card in self.cards.values()),
            self.up,
            self.answered == state.asked,
            tuple(sorted(entry.number for entry in self.joined)),
            tuple(sorted(entry.number for entry in self.ended)),
            tuple((name, number(offer)) for name, offer in sorted(self.untaken.items())),
            tuple((name, number(offer)) for name, offer in sorted(self.taken.items())),
            tuple(sorted((entry.number, name) for entry, name in self.held.items())),
            tuple(sorted(map(str, self.asleep))),
            tuple(entry._line is not None for entry in self.entries),
            tuple(entry._look <= self.answered for entry in self.entries),
            tuple(sorted(entry.number for entry in state._entries)),
            tuple(
                (
                    slot.name,
                    slot.reading is not None and slot.reading.flags,
                    number(slot.offer),
                    tuple(sorted((holder.number, since > self.answered) for holder, (_, since) in slot.holders.items())),
                    tuple((round(refusal.until - since, 3), refusal.foreign, len(refusal.shares)) for refusal in slot.refusals),
                )
                for slot in sorted(state._slots.values(), key=lambda slot: slot.name)
            ),
            tuple(sorted((round(timer.when - since, 3), timer.due.__name__) for timer in state._timers if timer.is_live())),
            tuple(sorted((round(until - since, 3), only) for name in READERS for until, only, _ in self.refused[name])),
            round(self.entries[1].deadline - since, 3),
        )


def replayed(order: tuple[int, ...]) -> World:
    """The world after an order; each number says which of the choices was made."""
    world = World()
    for choice in order:
        world.do(*list(world.choices())[choice])
    return world


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
                    raise AssertionError(f"{error} (after {told((*order, choice))})") from error
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


def told(order: tuple[int, ...]) -> str:
    """An order in words."""
    world, words = World(), []
    for choice in order:
        what, about = list(world.choices())[choice]
        words.append(f"{what} {about.number if isinstance(about, Entry) else about}")
        try:
            world.do(what, about)
        except AssertionError:
            break
    return ", ".join(words)


@example([0, 1188, 1, 1312, 164, 250, 3, 5])  # a connect that spans a restart of the service
@given(st.lists(st.integers(0, 10_000), max_size=60))
@settings(max_examples=3000 if FIGURES else 300)
def test_long_lives(choices: list[int]) -> None:
    world = World()
    for choice in choices:
        possible = list(world.choices())
        world.do(*possible[choice % len(possible)])


# What a message brings, one by one.


def looked(number: int = 1, error: Any = None, life: int = 1, groups: Any = None, **readers: Reading) -> Looked:
    return Looked(Snapshot(number, life, error, MappingProxyType(readers), MappingProxyType(groups or {})))


def card(counter: int = 1, atr: bytes = ATR, flags: int = 0) -> Reading:
    return Reading(PRESENT | flags, counter, atr)


def empty(counter: int = 0) -> Reading:
    return Reading(EMPTY, counter, b"")


def offers(effects: list[Effect]) -> list[tuple[int, str]]:
    return [(effect.entry.number, effect.reader) for effect in effects if isinstance(effect, Offer)]


def first_offer(effects: list[Effect]) -> Offer:
    return next(effect for effect in effects if isinstance(effect, Offer))


def ends(effects: list[Effect]) -> list[Any]:
    return [effect.error for effect in effects if isinstance(effect, End)]


def waiting(*entries: Entry, **readers: Reading) -> tuple[Dispatcher, list[Effect]]:
    """A dispatcher with these, who have had their first look at these readers; what that brought."""
    dispatcher = Dispatcher()
    for one in entries:
        dispatcher.handle(Joined(one), 0.0)
    return dispatcher, dispatcher.handle(looked(dispatcher.asked, **readers), 0.0)


def test_several_cards_are_offered_in_the_order_of_the_list() -> None:
    _, effects = waiting(entry(1, card_request()), entry(2, card_request()), C=card(), A=card(), B=card())
    assert offers(effects) == [(1, "C"), (2, "A")]


def test_a_card_that_does_not_match_is_for_the_next() -> None:
    _, effects = waiting(entry(1, card_request(atr=rb"^\x3f")), entry(2, card_request()), A=card())
    assert offers(effects) == [(2, "A")]


def test_the_card_has_to_settle_and_the_eldest_keeps_its_place_meanwhile() -> None:
    dispatcher, effects = waiting(entry(1, card_request(settle=0.5)), entry(2, card_request()), A=card())
    assert offers(effects) == []
    assert dispatcher.wake_at == 0.5
    assert offers(dispatcher.handle(looked(2, A=card(2)), 0.4)) == [], "another card settles anew"
    assert offers(dispatcher.tick(0.5)) == []
    assert offers(dispatcher.tick(0.9)) == [(1, "A")]


def test_only_new_cards() -> None:
    dispatcher, effects = waiting(entry(1, card_request(new_only=True)), A=card())
    assert offers(effects) == []
    assert offers(dispatcher.handle(looked(1, A=empty(2)), 1.0)) == []
    assert offers(dispatcher.handle(looked(1, A=card(3)), 2.0)) == [(1, "A")]


def test_only_new_cards_after_a_restart_with_the_same_card_in() -> None:
    dispatcher, _ = waiting(entry(1, card_request(new_only=True)), A=card())
    dispatcher.handle(looked(1, DOWN, A=card()), 1.0)
    assert offers(dispatcher.handle(looked(1, life=2, A=card(0)), 2.0)) == [], "it is the old one"
    dispatcher.handle(looked(1, life=2, A=empty(1)), 3.0)
    assert offers(dispatcher.handle(looked(1, life=2, A=card(2)), 4.0)) == [(1, "A")]


def test_a_timeout_of_0_has_one_try_at_each_card() -> None:
    dispatcher, effects = waiting(entry(1, card_request(timeout=0)), A=card(), B=card())
    assert offers(effects) == [(1, "A")]
    effects = dispatcher.handle(Failed(first_offer(effects), HELD), 0.0)
    assert offers(effects) == [(1, "B")]
    effects = dispatcher.handle(Failed(first_offer(effects), HELD), 0.0)
    assert offers(effects) == []
    assert [type(error) for error in ends(effects)] == [CardTimeoutError]
    assert not dispatcher.needed


def test_no_reader_ends_it_unless_readers_are_waited_for() -> None:
    _, effects = waiting(entry(1, card_request("B")), A=card())
    assert [type(error) for error in ends(effects)] == [NoReaderError]
    assert "wait_for_reader=True" in str(ends(effects)[0])
    dispatcher, effects = waiting(entry(1, card_request("B", wait_for_reader=True)), A=card())
    assert effects == []
    assert offers(dispatcher.handle(looked(1, A=card(), B=card()), 1.0)) == [(1, "B")]


def test_readers_that_came_later_are_not_those_of_the_start() -> None:
    dispatcher, _ = waiting(entry(1, card_request()), A=empty())
    assert offers(dispatcher.handle(looked(1, A=empty(), B=card()), 1.0)) == []
    assert offers(dispatcher.handle(looked(1, A=card(), B=card()), 2.0)) == [(1, "A")]


def test_groups_are_asked_for_while_somebody_wants_them() -> None:
    dispatcher = Dispatcher()
    one = entry(1, CardRequest.of(None, "G", None, None, False, ShareMode.EXCLUSIVE, ANY_PROTOCOL, Lengths.AUTO))
    dispatcher.handle(Joined(one), 0.0)
    assert dispatcher.groups == (("G",),)
    effects = dispatcher.handle(looked(1, groups={("G",): frozenset({"B"})}, A=card(), B=card()), 0.0)
    assert offers(effects) == [(1, "B")]
    dispatcher.handle(Left(one), 0.0)
    assert dispatcher.groups == ()


def test_no_service_at_the_start_ends_it_and_later_ends_nobody() -> None:
    dispatcher, _ = waiting(entry(1, card_request()), A=empty())
    assert dispatcher.handle(looked(1, DOWN, A=empty()), 1.0) == []
    dispatcher.handle(Joined(entry(2, card_request())), 1.0)
    dispatcher.handle(Joined(entry(3, card_request(wait_for_reader=True))), 1.0)
    effects = dispatcher.handle(looked(dispatcher.asked, DOWN, A=empty()), 1.0)
    assert [(effect.entry.number, type(effect.error)) for effect in effects if isinstance(effect, End)] == [
        (2, ServiceUnavailableError)
    ]
    assert offers(dispatcher.handle(looked(dispatcher.asked, life=2, A=card(1)), 2.0)) == [(1, "A")]


def test_what_is_wrong_with_one_card_is_told_at_the_end() -> None:
    one = entry(1, card_request(timeout=5), deadline=5.0)
    dispatcher, effects = waiting(one, A=card())
    mismatch = error_for(PROTO_MISMATCH, "SCardConnect", "A")
    for second in range(4):  # tried again every second
        effects = dispatcher.handle(Failed(first_offer(effects), mismatch), float(second))
        assert offers(effects) == []
        effects = dispatcher.tick(second + 1.0)
        assert offers(effects) == [(1, "A")]
    dispatcher.handle(Failed(first_offer(effects), mismatch), 4.5)
    (end,) = (effect for effect in dispatcher.tick(5.0) if isinstance(effect, End))
    assert isinstance(end.cause, ProtocolMismatchError)
    assert "could not be opened" in str(end.error)


def test_what_was_seen_in_words() -> None:
    def text(reading: Reading, request: CardRequest | None = None) -> str:
        one = entry(1, request or card_request(timeout=1), deadline=1.0)
        dispatcher, effects = waiting(one, A=reading)
        if offers(effects):
            dispatcher.handle(Failed(first_offer(effects), HELD), 0.9)
        return str(ends(dispatcher.tick(1.0))[0])

    assert text(empty()).endswith("seen: no card")
    assert "does not answer" in text(Reading(PRESENT | int(StateFlag.MUTE), 1, b""))
    assert "did not match (3f 65 00), in reader 'A'" in text(card(1, OTHER_ATR), card_request(timeout=1, atr=b"^\x3b"))
    assert "held by another program, in reader 'A'" in text(card())
    assert "was in before" in text(card(), card_request(timeout=1, new_only=True))


def test_a_try_that_is_on_its_way_again_at_the_deadline_is_no_blocked_connect() -> None:
    for before, words in [([HELD], "held by another program"), ([], "a connect still not answered")]:
        dispatcher, effects = waiting(entry(1, card_request(timeout=1), deadline=1.0), A=card())
        for error in before:
            dispatcher.handle(Failed(first_offer(effects), error), 0.5)
            effects = dispatcher.tick(0.75)
        assert offers(effects) == [(1, "A")]
        assert words in str(ends(dispatcher.tick(1.0))[0])


def test_a_connect_of_somebody_who_did_not_ask_here_keeps_its_reader() -> None:
    elsewhere = Offer(entry(1, card_request()), "A", card())
    dispatcher, effects = Dispatcher(), []
    dispatcher.handle(Connecting(elsewhere), 0.0)
    dispatcher.handle(Joined(entry(2, card_request())), 0.0)
    effects = dispatcher.handle(looked(1, A=card(), B=empty()), 0.0)
    assert offers(effects) == []
    assert offers(dispatcher.handle(Connected(elsewhere), 1.0)) == [(2, "A")]


def test_who_looks_by_itself_is_not_overtaken_for_a_quarter_of_a_second() -> None:
    ahead = entry(1, card_request("A"))
    for through in (True, False):
        dispatcher = Dispatcher()
        dispatcher.handle(Joined(entry(2, card_request()), (ahead,)), 0.0)
        assert offers(dispatcher.handle(looked(1, A=card(), B=empty()), 0.0)) == []
        assert offers(dispatcher.handle(Through(ahead), 0.1) if through else dispatcher.tick(0.25)) == [(2, "A")]


def test_a_closed_loop_gives_up_all_that_waits_there() -> None:
    dispatcher, effects = waiting(
        entry(1, card_request(), "loop"), entry(2, card_request(), "loop"), entry(3, card_request(), "other"), A=card()
    )
    assert offers(effects) == [(1, "A")]
    effects = dispatcher.handle(HomeGone("loop"), 0.0)
    assert [effect.entry.number for effect in effects if isinstance(effect, End)] == [1, 2]
    (back,) = (effect for effect in effects if isinstance(effect, TakeBack))
    assert offers(dispatcher.handle(Untaken(back.offer), 0.0)) == [(3, "A")]


def test_a_pattern_is_asked_once_for_each_atr() -> None:
    class Pattern:
        def __init__(self) -> None:
            self.asked: Counter[bytes] = Counter()

        def search(self, atr: bytes) -> bool:
            self.asked[atr] += 1
            return False

    pattern = Pattern()
    request = card_request()
    object.__setattr__(request, "atr", pattern)
    dispatcher, _ = waiting(*(entry(number, request) for number in range(1, 100)), A=card(), B=card(1, OTHER_ATR))
    for counter in range(2, 20):
        dispatcher.handle(looked(1, A=card(counter), B=card(counter, OTHER_ATR)), 0.0)
    assert pattern.asked == {ATR: 1, OTHER_ATR: 1}


def test_timers_of_those_who_left_do_not_pile_up() -> None:
    dispatcher, _ = waiting(entry(1, card_request()), A=empty())
    for number in range(2, 5000):
        one = entry(number, card_request(timeout=3600), deadline=3600.0)
        dispatcher.handle(Joined(one), 0.0)
        dispatcher.handle(Left(one), 0.0)
    assert len(dispatcher._timers) < 100
    assert len(dispatcher._lines) == 1
