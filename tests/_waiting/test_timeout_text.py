"""The text of a time-out: what stood between the waiter and a card, and the error of the last card that could not be opened."""

from __future__ import annotations

from scardface._enums import StateFlag
from scardface._pcsc.events import Reading
from scardface._session.card_request import CardRequest
from scardface._waiting.messages import End, Failed
from scardface.errors import PROTO_MISMATCH, ProtocolMismatchError, error_for
from tests.support.dispatching import HELD, PRESENT, card_request, ends, first_offer, make_waiter, offers, waiting
from tests.support.readings import OTHER_ATR, card, empty


def test_what_is_wrong_with_one_card_is_told_at_the_end() -> None:
    one = make_waiter(1, card_request(timeout=5), deadline=5.0)
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
        one = make_waiter(1, request or card_request(timeout=1), deadline=1.0)
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
        dispatcher, effects = waiting(make_waiter(1, card_request(timeout=1), deadline=1.0), A=card())
        for error in before:
            dispatcher.handle(Failed(first_offer(effects), error), 0.5)
            effects = dispatcher.tick(0.75)
        assert offers(effects) == [(1, "A")]
        assert words in str(ends(dispatcher.tick(1.0))[0])
