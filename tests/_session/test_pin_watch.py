"""What a card refuses is noted, and not sent to one that may be the same."""

from __future__ import annotations

import pickle

import pytest

from scardface import C_APDU, R_APDU, CardRemovedError, CardResetError
from scardface._session.pin_watch import PinRefusedError, PinWatch, Refusal
from scardface.iso7816 import verify

VERIFY = verify(0x81, b"1234")
REFERENCE = (0x20, 0x00, 0x81)


def after(*refusals: Refusal, unanswered: bool = False) -> PinWatch:
    """That of a card which may be one that has refused this."""
    others = []
    for refusal in refusals:
        other = PinWatch()
        other.refused[refusal.reference] = refusal
        others.append(other)
    if unanswered:
        other = PinWatch()
        other.lose(VERIFY, CardRemovedError("pulled"))
        others.append(other)
    return PinWatch(lambda: others)


def answer(sw: int) -> R_APDU:
    return R_APDU(b"", sw >> 8, sw & 0xFF)


@pytest.mark.parametrize("sw", [0x63C2, 0x6300, 0x6982, 0x6983, 0x9804, 0x6F00])
def test_what_is_refused_is_noted_until_it_is_taken(sw: int) -> None:
    watch = PinWatch()
    watch.take(VERIFY, answer(sw))
    assert watch.refused == {REFERENCE: Refusal(REFERENCE, sw, {0x63C2: 2, 0x6983: 0}.get(sw))}
    watch.take(verify(0x82, b"1234"), answer(0x9000))
    assert len(watch.refused) == 1
    watch.take(VERIFY, answer(0x9000))
    assert not watch.refused


@pytest.mark.parametrize(
    "command",
    [verify(0x81), C_APDU(0, 0xB0, 0, 0, b"data"), C_APDU(0xFF, 0x82, 0, 0, b"key"), C_APDU(0, 0x20, 0, 0x81)],
)
def test_what_carries_no_pin_is_not(command: C_APDU) -> None:
    watch = PinWatch()
    watch.take(command, answer(0x63C2))
    assert not watch.refused


@pytest.mark.parametrize("instruction", [0x20, 0x21, 0x24, 0x2C, 0x82])
def test_every_command_that_a_card_counts_is(instruction: int) -> None:
    watch = PinWatch()
    watch.take(C_APDU(0, instruction, 0, 1, b"secret"), answer(0x6300))
    assert [reference[0] for reference in watch.refused] == [instruction & 0xFE]


@pytest.mark.parametrize("told", [0x63C3, 0x9000])
def test_another_card_is_sent_its_pin(told: int) -> None:
    asked: list[C_APDU] = []

    def ask(command: C_APDU) -> R_APDU:
        asked.append(command)
        return answer(told)

    watch = after(Refusal(REFERENCE, 0x63C2, 2))
    watch.check(VERIFY, ask, "A")
    watch.check(VERIFY, ask, "A")
    assert [bytes(command) for command in asked] == [bytes.fromhex("00200081")]


@pytest.mark.parametrize("told", [0x63C2, 0x63C0, 0x6983, 0x6A80, 0x6D00])
def test_one_that_may_be_the_same_is_not(told: int) -> None:
    watch = after(Refusal(REFERENCE, 0x63C2, 2))
    with pytest.raises(PinRefusedError, match=f"answers {told:04X}") as caught:
        watch.check(VERIFY, lambda command: answer(told), "Reader 1")
    assert "'Reader 1'" in str(caught.value)
    assert "1234" not in repr(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reader) == (str(caught.value), "Reader 1")


def test_it_is_not_asked_where_that_tells_nothing() -> None:
    def ask(command: C_APDU) -> R_APDU:
        raise AssertionError(command)

    watch = after(Refusal(REFERENCE, 0x6982, None))
    with pytest.raises(PinRefusedError, match="6982"):
        watch.check(VERIFY, ask, "A")
    watch = after(Refusal(REFERENCE, 0x63C2, 2))
    with pytest.raises(PinRefusedError):
        watch.check(VERIFY, None, "A")  # through a layer
    watch = after(Refusal((0x82, 0, 0), 0x63C2, 2))
    with pytest.raises(PinRefusedError):
        watch.check(C_APDU(0x84, 0x82, 0, 0, b"cryptogram"), ask, "A")
    watch.check(VERIFY, ask, "A")  # another reference
    watch.check(C_APDU(0x84, 0x82, 0, 0), ask, "A")


def test_several_that_have_refused_and_it_may_be_any_of_them() -> None:
    watch = after(Refusal(REFERENCE, 0x63C1, 1), Refusal(REFERENCE, 0x63C2, 2))
    with pytest.raises(PinRefusedError):
        watch.check(VERIFY, lambda command: answer(0x63C2), "A")
    watch.check(VERIFY, lambda command: answer(0x63C3), "A")


@pytest.mark.parametrize(("told", "sent"), [(0x63C3, True), (0x63C5, True), (0x63C2, False), (0x6983, False), (0x6A80, True)])
def test_what_was_not_answered_may_have_been_refused(told: int, sent: bool) -> None:
    """A card that was pulled in the middle of it, or another one; and the same one that failed, and is still there."""
    own = PinWatch()
    own.lose(VERIFY, CardRemovedError("pulled"))
    for watch in (own, after(unanswered=True)):
        if sent:
            watch.check(VERIFY, lambda command: answer(told), "A")
        else:
            with pytest.raises(PinRefusedError, match="not answered"):
                watch.check(VERIFY, lambda command: answer(told), "A")
    own.take(VERIFY, answer(0x9000))
    assert not own.has_seen_any
    own.check(VERIFY, None, "A")


def test_what_was_not_carried_out_was_not_refused() -> None:
    watch = PinWatch()
    watch.lose(VERIFY, CardResetError("reset"))
    watch.lose(VERIFY, PinRefusedError("not sent"))
    watch.lose(verify(0x81), CardRemovedError("pulled"))
    assert not watch.has_seen_any
