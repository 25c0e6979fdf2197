"""What a judgement does with the responses of a batch."""

from __future__ import annotations

from scardface import R_APDU
from scardface.iso7816._judgement import Judgement, ends_batch
from scardface.iso7816._success import success_words

FINE, OTHER, MISSING = R_APDU(b"", 0x90, 0), R_APDU(b"", 0x91, 0xAF), R_APDU(b"", 0x6A, 0x82)


def test_without_one_9000_goes_on() -> None:
    assert [ends_batch(each, None) for each in (FINE, OTHER, MISSING)] == [False, True, True]


def test_without_words_9000_is_the_success() -> None:
    judgement = Judgement(None, True, [])
    for each in (FINE, OTHER):
        judgement.take(each)
    assert judgement.responses == [FINE, OTHER]
    assert [ends_batch(each, judgement) for each in (FINE, OTHER)] == [False, True]


def test_words_decide_and_are_remembered() -> None:
    judgement = Judgement(success_words(["91xx"]), True, [])
    fine, other = (R_APDU(bytes(each.data), each.sw1, each.sw2) for each in (FINE, OTHER))
    judgement.take(fine)
    judgement.take(other)
    assert [ends_batch(each, judgement) for each in (fine, other)] == [True, False]
    assert (fine.is_successful(), other.is_successful()) == (False, True)


def test_nothing_ends_a_batch_that_is_to_be_sent_whole() -> None:
    assert not ends_batch(MISSING, Judgement(stop=False))


def test_what_is_played_stays_as_it_was() -> None:
    judgement = Judgement(success_words(["6A82"]), True, [])
    played = judgement.take_played(MISSING)
    assert played.is_successful()
    assert not MISSING.is_successful()
    assert judgement.responses == [played]
