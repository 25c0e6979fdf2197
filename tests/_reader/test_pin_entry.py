"""scardface._reader.pin_entry: the structures, byte for byte as others build them, and as the test's own parser has them.

The offsets of the parser are those of pcsc-lite's reader.h (PIN_VERIFY_STRUCTURE, PIN_MODIFY_STRUCTURE).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import C_APDU
from scardface._reader.features import EntryEnd
from scardface._reader.pin_entry import PinEntry, PinFormat, modify_structure, verify_structure

VERIFY = C_APDU(0x00, 0x20, 0x00, 0x00)
CHANGE = C_APDU(0x00, 0x24, 0x00, 0x00)
ISO = PinFormat.ISO_9564_2


def hexadecimal(text: str) -> bytes:
    return bytes.fromhex(text)


class TestWorkedExamples:
    """What other programs send to real readers."""

    def test_scardcontrol_verify(self) -> None:
        """libccid's examples/scardcontrol.c, but that its longest PIN, 8 digits, does not fit into its block of 4 bytes."""
        command = C_APDU(0x00, 0x20, 0x00, 0x00, b"0000\0\0\0\0")
        entry = PinEntry(max_length=4, block_size=4, messages=(0,), language=0x0904)
        assert verify_structure(command, entry) == hexadecimal(
            "00 00 82 04 00 04 04 02 01 04 09 00 00 00 00 0D 00 00 00  00 20 00 00 08 30 30 30 30 00 00 00 00"
        )
        with pytest.raises(ValueError, match="max_length is 8: as ASCII that takes 8 bytes"):
            PinEntry(max_length=8, block_size=4)

    def test_scardcontrol_modify(self) -> None:
        command = C_APDU(0x00, 0x24, 0x00, 0x00, b"00000000")
        entry = PinEntry(max_length=4, block_size=4, messages=(0, 0, 0), language=0x0904)
        assert modify_structure(command, entry) == hexadecimal(
            "00 00 82 04 00 00 04 04 04 03 02 03 04 09 00 00 00 00 00 00 0D 00 00 00  00 24 00 00 08 30 30 30 30 30 30 30 30"
        )

    def test_gnupg_verify_as_long_as_the_pin(self) -> None:
        """GnuPG 2, scd/apdu.c, pcsc_pinpad_verify with fixedlen 0: min 6, max 15; it sets bTeoPrologue[2], too."""
        command = C_APDU(0x00, 0x20, 0x00, 0x81)
        entry = PinEntry(min_length=6, max_length=15, messages=(0,), teo_prologue=b"\0\0\x05")
        assert verify_structure(command, entry) == hexadecimal(
            "00 00 82 00 00 0F 06 02 01 09 04 00 00 00 05 05 00 00 00  00 20 00 81 00"
        )

    def test_gnupg_verify_of_a_fixed_length(self) -> None:
        """The same with fixedlen 8, and a default message, as older versions have it."""
        entry = PinEntry(min_length=8, max_length=8, block_size=8, end=EntryEnd.KEY | EntryEnd.MAX_LENGTH, teo_prologue=b"\0\0\x0d")
        assert verify_structure(C_APDU(0x00, 0x20, 0x00, 0x80), entry) == hexadecimal(
            "00 00 82 08 00 08 08 03 FF 09 04 00 00 00 0D 0D 00 00 00  00 20 00 80 08 FF FF FF FF FF FF FF FF"
        )

    def test_opensc_verify_with_padding(self) -> None:
        """OpenSC, reader-pcsc.c, part10_build_verify_pin_block: ASCII padded to 8 bytes, reader with a display."""
        entry = PinEntry(block_size=8, padding=0, timeout=30, key_timeout=30, language=0)
        structure = verify_structure(VERIFY, entry)
        assert structure == hexadecimal(
            "1E 1E 82 08 00 08 04 02 FF 00 00 00 00 00 00 0D 00 00 00  00 20 00 00 08 00 00 00 00 00 00 00 00"
        )

    def test_acs_verify_of_format_2(self) -> None:
        """ACS APG8201-B2, reference manual 1.00, 8.5: PC_to_RDR_Secure, where bTimeOut2 and ulDataLength are left out and a card
        wants another control nibble."""
        command = C_APDU(0x00, 0x20, 0x00, 0x02, hexadecimal("2C FF FF FF FF FF FF FF"))
        structure = verify_structure(command, PinEntry(format=ISO, max_length=12, messages=(0,), end=EntryEnd(7)))
        ccid = structure[:1] + structure[2:15] + structure[19:]
        assert ccid == hexadecimal("00 89 47 04 0C 04 07 01 09 04 00 00 00 00  00 20 00 02 08 2C FF FF FF FF FF FF FF")

    def test_acs_modify_of_format_2(self) -> None:
        command = C_APDU(0x00, 0x24, 0x00, 0x01, hexadecimal("24 FF FF FF FF FF FF FF") * 2)
        structure = modify_structure(command, PinEntry(format=ISO, max_length=12, messages=(0, 1, 2), end=EntryEnd(3)))
        ccid = structure[:1] + structure[2:20] + structure[24:]
        assert ccid == hexadecimal(
            "00 89 47 04 00 08 0C 04 03 03 03 09 04 00 01 02 00 00 00  00 24 00 01 10"
            "24 FF FF FF FF FF FF FF 24 FF FF FF FF FF FF FF"
        )

    def test_acs_verify_with_a_control_byte(self) -> None:
        """ACS ACR83, reference manual 1.05, 11.5, verification example 3."""
        command = C_APDU(0x00, 0x20, 0x00, 0x01, hexadecimal("57 30 30 30 30 30 30 30 30"))
        entry = PinEntry(
            format=PinFormat.BCD, min_length=1, max_length=10, block_size=8, position=1, length_size=4, length_position=4
        )
        assert verify_structure(command, entry)[2:7] == hexadecimal("89 48 04 0A 01")
        right = PinEntry(**{**vars(entry), "right_justified": True})
        assert verify_structure(command, right)[2] == 0x8D


def parsed(structure: bytes, *, modify: bool) -> dict[str, Any]:
    """The fields of a structure, by the names of part 10."""
    assert isinstance(structure, bytes)
    names = ["bTimeOut", "bTimeOut2", "bmFormatString", "bmPINBlockString", "bmPINLengthFormat"]
    names += ["bInsertionOffsetOld", "bInsertionOffsetNew"] * modify
    names += ["max", "min"] + ["bConfirmPIN"] * modify + ["bEntryValidationCondition", "bNumberMessage", "lang_low", "lang_high"]
    names += ["bMsgIndex1", "bMsgIndex2", "bMsgIndex3"] if modify else ["bMsgIndex1"]
    names += ["teo1", "teo2", "teo3", "len1", "len2", "len3", "len4"]
    assert len(names) == (24 if modify else 19)
    fields: dict[str, Any] = dict(zip(names, structure, strict=False))
    fields["abData"] = structure[len(names) :]
    size = sum(fields[f"len{place}"] << 8 * (place - 1) for place in (1, 2, 3, 4))
    assert size == len(fields["abData"])
    return fields


@st.composite
def entries(draw: st.DrawFn) -> PinEntry:
    form = draw(st.sampled_from(PinFormat))
    rest: dict[str, Any] = {}
    if form is ISO:
        longest = 12
    else:
        block = draw(st.integers(0, 15))
        position = draw(st.integers(0, 15))
        longest = 255 if not block else 2 * block if form is PinFormat.BCD else block
        rest = {"block_size": block, "position": position, "padding": draw(st.integers(0, 255))}
        rest["right_justified"] = draw(st.booleans())
        if position and draw(st.booleans()):
            rest["length_size"] = draw(st.integers(1, min(15, 8 * position)))
            place = draw(st.integers(0, 8 * position - rest["length_size"]))
            rest["length_position"] = place if place <= 15 else place // 8 * 8
            longest = min(longest, (1 << rest["length_size"]) - 1)
    most = draw(st.integers(min(4, longest) if form is not ISO else 4, longest))
    least = draw(st.integers(4 if form is ISO else 1, most))
    return PinEntry(
        format=form,
        min_length=least,
        max_length=most,
        timeout=draw(st.integers(0, 255)),
        key_timeout=draw(st.integers(0, 255)),
        end=EntryEnd(draw(st.integers(1, 7))),
        messages=draw(st.none() | st.lists(st.integers(0, 255), max_size=1).map(tuple)),
        language=draw(st.integers(0, 0xFFFF)),
        teo_prologue=draw(st.binary(min_size=3, max_size=3)),
        **rest,
    )


def agree(fields: dict[str, Any], entry: PinEntry) -> None:
    """What both structures have."""
    assert (fields["bTimeOut"], fields["bTimeOut2"]) == (entry.timeout, entry.key_timeout)
    assert (fields["min"], fields["max"]) == (entry.min_length, entry.max_length)
    assert fields["bEntryValidationCondition"] == entry.end
    assert fields["lang_low"] + 256 * fields["lang_high"] == entry.language
    assert bytes(fields[f"teo{place}"] for place in (1, 2, 3)) == entry.teo_prologue
    if entry.messages is None:
        assert fields["bNumberMessage"] == 0xFF
    else:
        assert fields["bNumberMessage"] == len(entry.messages)
        assert not entry.messages or fields["bMsgIndex1"] == entry.messages[0]
    form, block, place = (f"{fields[name]:08b}" for name in ("bmFormatString", "bmPINBlockString", "bmPINLengthFormat"))
    assert form[0] == "1", "the position counts bytes"
    assert place[:3] == "000"
    if entry.format is ISO:
        assert (form, block, place) == ("10001001", "01000111", "00000100")
        return
    assert int(form[1:5], 2) == entry.position
    assert (form[5] == "1") is entry.right_justified
    assert form[6:] == {"BINARY": "00", "BCD": "01", "ASCII": "10"}[entry.format.name]
    assert (int(block[:4], 2), int(block[4:], 2)) == (entry.length_size, entry.block_size)
    assert int(place[4:], 2) * (8 if place[3] == "1" else 1) == entry.length_position


class TestRoundTrip:
    @given(entries(), st.integers(0, 255), st.integers(0, 255))
    def test_verify(self, entry: PinEntry, ins: int, p2: int) -> None:
        fields = parsed(verify_structure(C_APDU(0, ins, 0, p2), entry), modify=False)
        agree(fields, entry)
        blank = b"\x20" + b"\xff" * 7 if entry.format is ISO else bytes([entry.padding]) * (entry.position + entry.block_size)
        assert fields["abData"] == bytes((0, ins, 0, p2, len(blank))) + blank

    @given(entries(), st.booleans(), st.booleans(), st.integers(0, 60))
    def test_modify(self, entry: PinEntry, ask_current: bool, confirm: bool, offset: int) -> None:
        structure = modify_structure(CHANGE, entry, ask_current=ask_current, confirm=confirm, current_offset=offset)
        fields = parsed(structure, modify=True)
        agree(fields, entry)
        assert fields["bConfirmPIN"] == (2 if ask_current else 0) + (1 if confirm else 0)
        assert fields["bInsertionOffsetOld"] == offset
        size = 8 if entry.format is ISO else entry.block_size and entry.block_size + entry.position
        assert fields["bInsertionOffsetNew"] == (offset + size if ask_current and size else 0)
        assert fields["abData"][:4] == bytes(CHANGE)
        assert fields["abData"][4] == len(fields["abData"]) - 5


class TestTemplates:
    def test_the_data_given_are_the_block(self) -> None:
        structure = verify_structure(C_APDU(0, 0x20, 0, 1, b"\x01\x02ab"), PinEntry(block_size=2, max_length=2, min_length=1))
        assert structure.endswith(b"\x00\x20\x00\x01\x04\x01\x02ab")

    def test_an_open_block_behind_what_the_template_has(self) -> None:
        structure = verify_structure(C_APDU(0, 0x20, 0, 1, b"\x80"), PinEntry(position=1))
        assert structure.endswith(b"\x00\x20\x00\x01\x01\x80")

    @pytest.mark.parametrize(
        ("data", "entry"),
        [
            (b"1234567", PinEntry(block_size=8)),
            (b"\x20\xff", PinEntry(format=ISO)),
            (b"\xff", PinEntry()),  # which of the two the reader would do is not said
            (b"12345678", PinEntry(block_size=8, position=1)),
        ],
    )
    def test_data_that_do_not_fit_the_block(self, data: bytes, entry: PinEntry) -> None:
        with pytest.raises(ValueError, match="bytes of data"):
            verify_structure(C_APDU(0, 0x20, 0, 1, data), entry)

    def test_a_new_pin_alone(self) -> None:
        structure = modify_structure(C_APDU(0, 0x2C, 0, 1), PinEntry(format=ISO), ask_current=False, new_offset=2)
        assert structure[5:7] == b"\x00\x02"
        assert structure.endswith(b"\x00\x2c\x00\x01\x0a\xff\xff\x20" + b"\xff" * 7)

    def test_a_new_pin_before_the_current_one(self) -> None:
        structure = modify_structure(CHANGE, PinEntry(block_size=8), current_offset=8, new_offset=0)
        assert structure[5:7] == b"\x08\x00"
        assert structure[24 + 4] == 16

    def test_two_open_blocks_are_the_readers_to_place(self) -> None:
        structure = modify_structure(CHANGE, PinEntry())
        assert structure[5:7] == b"\0\0"
        assert structure.endswith(b"\x00\x24\x00\x00\x00")

    def test_messages(self) -> None:
        entry = PinEntry(block_size=8, messages=[1, 2])
        assert entry.messages == (1, 2)
        assert modify_structure(CHANGE, entry)[11:17] == b"\x02\x09\x04\x01\x02\x00"
        assert modify_structure(CHANGE, PinEntry(messages=()))[11] == 0
        assert modify_structure(CHANGE, PinEntry())[11:17] == b"\xff\x09\x04\x00\x01\x02"
        with pytest.raises(ValueError, match="messages: 1 at most here, not 2"):
            verify_structure(VERIFY, entry)

    def test_overlapping_blocks(self) -> None:
        with pytest.raises(ValueError, match="two PIN blocks of 8 bytes overlap"):
            modify_structure(CHANGE, PinEntry(block_size=8), current_offset=0, new_offset=7)
        modify_structure(CHANGE, PinEntry(block_size=8), current_offset=0, new_offset=7, ask_current=False)

    @pytest.mark.parametrize("offsets", [{"current_offset": 256}, {"new_offset": -1}, {"new_offset": 256}, {"current_offset": -1}])
    def test_offsets_out_of_range(self, offsets: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="_offset is 0 to 255"):
            modify_structure(CHANGE, PinEntry(block_size=8), **offsets)  # type: ignore[arg-type]  # one of several

    def test_data_too_short_for_two_blocks(self) -> None:
        with pytest.raises(ValueError, match="end behind 16 bytes, and the command has 15"):
            modify_structure(C_APDU(0, 0x24, 0, 0, bytes(15)), PinEntry(block_size=8))

    def test_a_command_that_wants_an_answer(self) -> None:
        with pytest.raises(ValueError, match="no Le"):
            verify_structure(C_APDU(0, 0x20, 0, 0, le=256), PinEntry())

    def test_a_command_that_is_none(self) -> None:
        for build in (verify_structure, modify_structure):
            with pytest.raises(TypeError, match="a C_APDU, not bytes"):
                build(bytes(VERIFY), PinEntry())  # type: ignore[arg-type]  # on purpose

    def test_a_command_that_no_reader_could_take(self) -> None:
        with pytest.raises(ValueError, match="255 bytes of data at most, not 256"):
            verify_structure(C_APDU(0, 0x20, 0, 0, bytes(256)), PinEntry(block_size=8))
        with pytest.raises(ValueError, match="at most, not 263"):
            modify_structure(CHANGE, PinEntry(block_size=8), current_offset=0, new_offset=255)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_length": 0}, "min_length is 1 to 255, not 0"),
        ({"max_length": 256}, "max_length"),
        ({"min_length": 5, "max_length": 4}, "min_length is 5, more than max_length, 4"),
        ({"block_size": 16}, "block_size is 0 to 15"),
        ({"padding": 256}, "padding"),
        ({"position": 16}, "position"),
        ({"length_size": 16, "position": 4}, "length_size"),
        ({"length_size": -1}, "length_size"),
        ({"timeout": 256}, "timeout is 0 to 255"),
        ({"key_timeout": -1}, "key_timeout"),
        ({"language": 0x10000}, "language"),
        ({"teo_prologue": b"\0\0"}, "teo_prologue has 3 bytes, not 2"),
        ({"end": EntryEnd(0)}, "something must end the entry"),
        ({"end": EntryEnd(8)}, "something must end the entry"),
        ({"messages": (0, 1, 2, 3)}, "messages: 3 at most"),
        ({"messages": (256,)}, "messages is 0 to 255"),
        ({"block_size": 7}, "max_length is 8: as ASCII that takes 8 bytes"),
        ({"block_size": 7, "format": PinFormat.BINARY}, "as BINARY that takes 8 bytes"),
        ({"block_size": 3, "format": PinFormat.BCD}, "as BCD that takes 4 bytes"),
        ({"length_position": 4}, "length_position needs a length_size"),
        ({"length_size": 8}, "the length must end before the digits begin"),
        ({"length_size": 4, "length_position": 5, "position": 1}, "the length must end before"),
        ({"length_size": 4, "length_position": 17, "position": 4}, "0 to 15 or a multiple of 8, not 17"),
        ({"length_size": 3, "position": 1}, "max_length is 8, which length_size, 3 bits, cannot say"),
        ({"format": ISO, "block_size": 8}, "a block of its own"),
        ({"format": ISO, "position": 1}, "a block of its own"),
        ({"format": ISO, "min_length": 3}, "4 to 12 digits"),
        ({"format": ISO, "max_length": 13}, "4 to 12 digits"),
    ],
)
def test_what_cannot_be_asked_for(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PinEntry(**fields)


def test_odd_digits_in_half_a_byte() -> None:
    assert PinEntry(format=PinFormat.BCD, max_length=7, block_size=4).span == 4
