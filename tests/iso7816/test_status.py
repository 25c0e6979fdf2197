"""Status words in words."""

from __future__ import annotations

import pytest

from scardface.iso7816._status import status_meaning

# ISO/IEC 7816-4:2020, 5.6: all that has a meaning of its own there, with a word that must be in ours.
ISO = {
    0x9000: "success", 0x6100: "256", 0x6120: "32 more",
    0x6200: "warning", 0x6202: "query of 2", 0x6280: "query of 128", 0x6281: "corrupted", 0x6282: "end of file",
    0x6283: "deactivated", 0x6284: "formatted", 0x6285: "termination", 0x6286: "sensor", 0x6287: "record",
    0x6300: "warning", 0x6340: "comparison", 0x6381: "filled up", 0x63C0: "counter is 0", 0x63CF: "counter is 15",
    0x6400: "execution error", 0x6401: "immediate", 0x6402: "query of 2", 0x6480: "query of 128", 0x6481: "shared",
    0x6482: "opening",
    0x6500: "changed", 0x6581: "memory failure", 0x6600: "security",
    0x6700: "wrong length", 0x6701: "format", 0x6702: "length",
    0x6800: "class", 0x6881: "logical channel", 0x6882: "secure messaging", 0x6883: "last command", 0x6884: "chaining not",
    0x6900: "not allowed", 0x6981: "file structure", 0x6982: "security status", 0x6983: "blocked", 0x6984: "reference data",
    0x6985: "conditions of use", 0x6986: "no current EF", 0x6987: "missing", 0x6988: "incorrect",
    0x6A00: "wrong parameters", 0x6A80: "command data", 0x6A81: "not supported", 0x6A82: "not found", 0x6A83: "record",
    0x6A84: "memory space", 0x6A85: "TLV", 0x6A86: "P1-P2", 0x6A87: "length", 0x6A88: "not found", 0x6A89: "exists",
    0x6A8A: "DF name",
    0x6B00: "P1-P2", 0x6C00: "256", 0x6C10: "16", 0x6D00: "instruction", 0x6E00: "class", 0x6F00: "no precise",
}  # fmt: skip


@pytest.mark.parametrize(("sw", "word"), ISO.items(), ids=lambda value: f"{value:04X}" if isinstance(value, int) else None)
def test_iso(sw: int, word: str) -> None:
    assert word in status_meaning(sw >> 8, sw & 0xFF)


def test_own_meanings_differ_from_each_other() -> None:
    assert len({status_meaning(sw >> 8, sw & 0xFF) for sw in ISO}) == len(ISO)


@pytest.mark.parametrize(
    ("sw", "word"), [(0x6310, "more data"), (0x9484, "algorithm"), (0x9485, "check value"), (0x6989, "key length")]
)
def test_others_where_iso_leaves_room(sw: int, word: str) -> None:
    assert word in status_meaning(sw >> 8, sw & 0xFF)


@pytest.mark.parametrize("ins", [0x20, 0x21, 0x24, 0x25, 0x26, 0x28, 0x2C, 0x2D, 0x82])
def test_tries_left_after_verify_and_its_family(ins: int) -> None:
    assert status_meaning(0x63, 0xC2, ins) == "comparison failed, 2 tries left"
    assert status_meaning(0x63, 0xC1, ins) == "comparison failed, 1 try left"
    assert "blocked" in status_meaning(0x63, 0xC0, ins)


def test_a_counter_of_something_else() -> None:
    assert status_meaning(0x63, 0xC2, 0xD6) == "warning: counter is 2"
    assert "tries" in status_meaning(0x63, 0xC2)


@pytest.mark.parametrize(
    ("sw", "word"),
    [
        *((0x62F0, "warning (nothing"), (0x6342, "warning (something"), (0x6490, "execution error (nothing")),
        *((0x65FF, "something"), (0x6601, "security"), (0x6703, "wrong length, proprietary"), (0x68FF, "class byte")),
        *((0x69F0, "not allowed"), (0x6AF0, "wrong parameters"), (0x6B01, "P1-P2"), (0x6D01, "instruction"), (0x6E01, "class")),
        *((0x6F42, "detail 42"), (0x9001, "proprietary"), (0x9901, "proprietary"), (0x9210, "proprietary")),
        *((0x6000, "no valid"), (0x0000, "no valid"), (0xA000, "no valid")),
    ],
)
def test_general_meanings(sw: int, word: str) -> None:
    assert word in status_meaning(sw >> 8, sw & 0xFF)


@pytest.mark.parametrize(
    ("sw", "words"),
    [
        (0x9180, "success, and a proactive command of 128 bytes to fetch (SIM, UICC)"),
        (0x9F16, "success, 22 bytes to fetch (SIM)"),
        (0x9F00, "success, 256 bytes to fetch (SIM)"),
        (0x9E10, "error in SIM data download, 16 bytes to fetch (SIM)"),
        (0x91AF, "more data waits (additional frame) (MIFARE DESFire); or success, and a proactive command of 175 bytes"),
        (0x919D, "permission denied (MIFARE DESFire); or"),
        (0x9100, "success (MIFARE DESFire); or success, and a proactive command of 256 bytes to fetch (SIM, UICC)"),
        (0x920F, "15 internal retries"),
        *(
            (0x9203, "3 internal retries"),
            (0x9240, "memory problem"),
            (0x9300, "busy"),
            (0x9404, "not found"),
            (0x9804, "PIN wrong"),
        ),
        *((0x9840, "blocked"), (0x9862, "incorrect MAC"), (0x62F3, "response data"), (0x63F1, "more data expected")),
    ],
)
def test_sims_and_desfire(sw: int, words: str) -> None:
    assert words in status_meaning(sw >> 8, sw & 0xFF)


def test_no_word_of_a_status_advises_what_the_command_may_not_have_been() -> None:
    """A status word does not know whether its command was of extended length."""
    for sw in range(0x10000):
        assert "Lengths" not in status_meaning(sw >> 8, sw & 0xFF)


def test_every_status_word_has_a_phrase() -> None:
    for sw in range(0x10000):
        phrase = status_meaning(sw >> 8, sw & 0xFF)
        assert phrase
        assert phrase.isprintable()
        assert not phrase.endswith(".")
