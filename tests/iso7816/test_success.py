"""Patterns of status words, and what a response makes of them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import R_APDU, StatusError
from scardface.iso7816._apdu import judge, success_rule
from scardface.iso7816._success import success_words

DIGITS = "0123456789abcdefABCDEF"


def response(sw: int, data: bytes = b"") -> R_APDU:
    return R_APDU(data, sw >> 8, sw & 0xFF)


@given(st.integers(0, 0xFFFF), st.lists(st.text(DIGITS + "xX", min_size=4, max_size=4), min_size=1, max_size=4))
def test_each_digit_is_that_digit_and_x_is_any(sw: int, patterns: list[str]) -> None:
    def fits(pattern: str) -> bool:
        return all(digit in "xX" or digit.upper() == has for digit, has in zip(pattern, f"{sw:04X}", strict=True))

    assert success_words(patterns).matches(sw) is any(map(fits, patterns))
    assert response(sw).is_successful_with(patterns) is any(map(fits, patterns))


def test_9000_is_not_implied() -> None:
    assert not response(0x9000).is_successful_with(["91xx"])
    assert response(0x91AF).is_successful_with(["9000", "91xx"])
    assert response(0x9000).is_successful()


@pytest.mark.parametrize(
    ("patterns", "error", "words"),
    [
        ("9000", TypeError, r"\['9000'\] for instance"),
        (b"9000", TypeError, "list of patterns"),
        (0x9000, TypeError, "list of patterns or a function"),
        ([0x9000], TypeError, "a pattern is a str"),
        ([], ValueError, "nothing would succeed"),
        (["900"], ValueError, "'900' is no pattern"),
        (["90000"], ValueError, "'90000'"),
        (["90 00"], ValueError, "'90 00'"),
        (["90y0"], ValueError, "'90y0'"),
        (["9000\n"], ValueError, "no pattern"),
        (["\uff19000"], ValueError, "no pattern"),
        (["9000", "91?x"], ValueError, "'91\\?x'"),
    ],
)
def test_what_is_no_list_of_patterns_is_refused_by_name(patterns: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        response(0x9000).is_successful_with(patterns)


def test_any_iterable_of_str_will_do() -> None:
    assert response(0x9100).is_successful_with(iter(("9100",)))
    assert response(0x9100).is_successful_with({"9100", "9000"})


def test_a_function_sees_the_response() -> None:
    assert response(0x6A82, b"x").is_successful_with(lambda answer: answer.data)
    assert response(0x9000).is_successful_with(lambda answer: answer.data) is False


def judged(sw: int, success: Any) -> R_APDU:
    found = response(sw)
    judge(found, success_rule(success))
    return found


def test_a_judged_response_keeps_its_verdict_wherever_it_goes() -> None:
    verdicts = iter((True, False))
    for found, verdict in (
        (judged(0x91AF, ["91xx"]), True),
        (judged(0x9000, ["91xx"]), False),
        (judged(0x6A82, lambda _: next(verdicts)), True),  # asked once
    ):
        for each in (found, found, copy.copy(found), pickle.loads(pickle.dumps(found))):
            assert each.is_successful() is verdict
            assert each == found
            assert hash(each) == hash(found)
            if verdict:
                assert each.check() is each
            else:
                with pytest.raises(StatusError) as caught:
                    each.check()
                assert caught.value.response is each


def test_the_error_says_which_words_were_asked_for() -> None:
    def fine(answer: R_APDU) -> bool:
        return False

    assert str(StatusError(response(0x6A82))) == "the card answered 6A82: file or application not found"
    assert str(StatusError(judged(0x9000, ["9100", "91AF"]))) == "the card answered 9000: success; success is 9100, 91AF"
    assert str(StatusError(judged(0x9000, fine))) == "the card answered 9000: success; success is what fine says"
    again = pickle.loads(pickle.dumps(StatusError(judged(0x9000, ["91af"]))))
    assert str(again) == "the card answered 9000: success; success is 91AF"


def test_a_response_of_an_older_pickle_is_judged_by_9000() -> None:
    function, arguments = response(0x9000).__reduce__()
    assert function(*arguments[:5]).is_successful()
