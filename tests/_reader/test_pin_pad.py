"""scardface._reader.pin_pad: the talk with a reader, and what came of it in words. With a keypad: tests/testing/test_pin_pad.py."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from scardface import C_APDU, R_APDU, CardCommunicationError, SCardError, StatusError
from scardface._reader.control_exchange import run
from scardface._reader.features import CM_IOCTL_GET_FEATURE_REQUEST, Feature
from scardface._reader.pin_entry import PinEntry, modify_structure, verify_structure
from scardface._reader.pin_pad import PadResult, modify, verify
from scardface.errors import error_for

VERIFY, CHANGE = C_APDU(0x00, 0x20, 0x00, 0x01), C_APDU(0x00, 0x24, 0x00, 0x01)
ENTRY = PinEntry(block_size=8)


class Reader:
    """Has features, answers each with the next of `answers`, and keeps what it was called with."""

    def __init__(self, features: list[Feature], *answers: bytes) -> None:
        self._features = features
        self._answers = list(answers)
        self.calls: list[tuple[int, bytes]] = []

    def __call__(self, code: int, data: bytes) -> bytes:
        if code == CM_IOCTL_GET_FEATURE_REQUEST:
            return b"".join(bytes((one, 4, 0, 0, 0, one)) for one in self._features)
        self.calls.append((code, data))
        return self._answers.pop(0)


def test_verify_in_one_call() -> None:
    reader = Reader([Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH, Feature.VERIFY_PIN_DIRECT], b"\x90\x00")
    result = run(verify(VERIFY, ENTRY), reader)
    assert reader.calls == [(Feature.VERIFY_PIN_DIRECT, verify_structure(VERIFY, ENTRY))]
    assert result == R_APDU(b"", 0x90, 0x00)
    assert type(result) is PadResult


def test_data_before_the_status_word_are_kept() -> None:
    came = run(verify(VERIFY, ENTRY), Reader([Feature.VERIFY_PIN_DIRECT], b"ab\x90\x00"))
    assert (came.data, came.sw) == (b"ab", 0x9000)


def test_modify_in_one_call() -> None:
    reader = Reader([Feature.VERIFY_PIN_DIRECT, Feature.MODIFY_PIN_DIRECT], b"\x63\xc2")
    result = run(modify(CHANGE, ENTRY, ask_current=False, confirm=False, current_offset=0, new_offset=2), reader)
    structure = modify_structure(CHANGE, ENTRY, ask_current=False, confirm=False, new_offset=2)
    assert reader.calls == [(Feature.MODIFY_PIN_DIRECT, structure)]
    assert result.tries_left == 2


@pytest.mark.parametrize("accepted", [b"", b"\x90\x00"])
def test_verify_in_two_calls(accepted: bytes) -> None:
    reader = Reader([Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH], accepted, b"\x64\x01")
    assert run(verify(VERIFY, ENTRY), reader).cancelled
    assert reader.calls == [(Feature.VERIFY_PIN_START, verify_structure(VERIFY, ENTRY)), (Feature.VERIFY_PIN_FINISH, b"")]


def test_modify_in_two_calls() -> None:
    reader = Reader([Feature.MODIFY_PIN_START, Feature.MODIFY_PIN_FINISH], b"", b"\x64\x02")
    assert run(modify(CHANGE, ENTRY, ask_current=True, confirm=True, current_offset=0, new_offset=None), reader).different
    assert [code for code, _ in reader.calls] == [Feature.MODIFY_PIN_START, Feature.MODIFY_PIN_FINISH]


def test_a_structure_that_is_refused_at_the_start() -> None:
    reader = Reader([Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH], b"\x6b\x80")
    assert not run(verify(VERIFY, ENTRY), reader).entered
    assert len(reader.calls) == 1


@pytest.mark.parametrize(
    "features",
    [[], [Feature.MODIFY_PIN_DIRECT], [Feature.VERIFY_PIN_START], [Feature.VERIFY_PIN_FINISH], [Feature.GET_TLV_PROPERTIES]],
    ids=str,
)
def test_no_pad(features: list[Feature]) -> None:
    reader = Reader(features)
    with pytest.raises(SCardError, match=r"no VERIFY_PIN_DIRECT.*ask for the PIN yourself") as caught:
        run(verify(VERIFY, ENTRY), reader)
    assert caught.value.code == 0x8010001F
    assert not reader.calls


def test_a_driver_without_features() -> None:
    def refuse(_code: int, _data: bytes) -> bytes:
        raise error_for(0x8010001F, "SCardControl", "A")

    with pytest.raises(SCardError, match="no MODIFY_PIN_DIRECT"):
        run(modify(CHANGE, ENTRY, ask_current=True, confirm=True, current_offset=0, new_offset=None), refuse)


@pytest.mark.parametrize("answer", [b"", b"\x90"])
def test_an_answer_without_a_status_word(answer: bytes) -> None:
    with pytest.raises(CardCommunicationError, match=f"answered with {len(answer)} bytes"):
        run(verify(VERIFY, ENTRY), Reader([Feature.VERIFY_PIN_DIRECT], answer))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: verify(C_APDU(0, 0x20, 0, 1, le=1), ENTRY),
        lambda: modify(C_APDU(0, 0x24, 0, 1, b"short"), ENTRY, ask_current=True, confirm=True, current_offset=0, new_offset=None),
    ],
)
def test_wrong_arguments_are_refused_before_the_talk_begins(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"Le|bytes of data"):
        wrong()


def result(status: str) -> PadResult:
    octets = bytes.fromhex(status)
    return PadResult(b"", octets[0], octets[1])


class TestResults:
    @pytest.mark.parametrize(
        ("status", "true", "words"),
        [
            ("9000", {"entered"}, "success"),
            ("63C2", {"entered"}, "wrong PIN, 2 tries left"),
            ("63C1", {"entered"}, "wrong PIN, 1 try left"),
            ("63C0", {"entered", "blocked"}, "wrong PIN, 0 tries left: blocked"),
            ("6983", {"entered", "blocked"}, "the PIN is blocked"),
            ("6400", {"timed_out"}, "no PIN was entered in time"),
            ("6401", {"cancelled"}, "the entry was cancelled on the reader's keypad"),
            ("6402", {"different"}, "the new PIN and its repetition differ"),
            ("6403", {"wrong_length"}, "the PIN is too short or too long"),
            ("6404", set(), "the reader lets no such command pass"),
            ("6B80", set(), "the reader does not ask for a PIN in this way: it refuses the structure"),
            ("6A88", {"entered"}, "referenced data or reference data not found"),
            ("6985", {"entered"}, "conditions of use not satisfied"),
        ],
    )
    def test_in_words(self, status: str, true: set[str], words: str) -> None:
        came = result(status)
        names = ("entered", "cancelled", "timed_out", "different", "wrong_length", "blocked")
        assert {name for name in names if getattr(came, name)} == true
        assert came.meaning == words
        assert came.is_successful() is (status == "9000")

    def test_tries_left(self) -> None:
        assert [result(status).tries_left for status in ("9000", "63C5", "63C0", "6983", "6401", "6382")] == [
            *(None, 5, 0, 0, None, None)
        ]

    def test_check_says_it_in_the_same_words(self) -> None:
        assert result("9000").check().is_successful()
        with pytest.raises(StatusError, match="63C2: wrong PIN, 2 tries left"):
            result("63C2").check()

    def test_survives_pickle(self) -> None:
        again = pickle.loads(pickle.dumps(result("6401")))
        assert type(again) is PadResult
        assert again.cancelled
        assert repr(again) == 'PadResult(b"", 0x64, 0x01)'
