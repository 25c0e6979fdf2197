"""scardface.testing.PinPad: the commands it makes of structures, against worked examples; the user; and a card behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import C_APDU, Protocol, SCardError, ShareMode
from scardface._reader.control_exchange import run
from scardface._reader.features import (
    CM_IOCTL_GET_FEATURE_REQUEST,
    EntryEnd,
    Feature,
    ReaderProperties,
    query_features,
    query_properties,
)
from scardface._reader.pin_entry import PinEntry, PinFormat, modify_structure, verify_structure
from scardface._reader.pin_pad import PadResult, modify, verify
from scardface.errors import NOT_TRANSACTED, error_for
from scardface.testing import FileCard, PinPad, SimulatedPCSC
from tests.support.conformance import Call

VERIFY, CHANGE = C_APDU(0x00, 0x20, 0x00, 0x01), C_APDU(0x00, 0x24, 0x00, 0x01)
ISO = PinFormat.ISO_9564_2
DIRECT = {"verify": Feature.VERIFY_PIN_DIRECT, "modify": Feature.MODIFY_PIN_DIRECT}


class Wire:
    """A pad, and a card that takes everything."""

    def __init__(self, pad: PinPad | None = None) -> None:
        self.pad = pad or PinPad()
        self.sent: list[bytes] = []

    def control(self, code: int, data: bytes) -> bytes:
        answer = self.pad(code, data, self._transmit)
        if answer is None:
            raise error_for(0x8010001F, "SCardControl", "A")
        return answer

    def _transmit(self, command: bytes) -> bytes:
        self.sent.append(command)
        return b"\x90\x00"

    def give(self, structure: bytes, feature: Feature = Feature.VERIFY_PIN_DIRECT) -> str:
        """Have the pad work on a structure; the command that it made, or the status word that it answered."""
        code = run(query_features(), self.control)[feature]
        answer = self.control(code, structure)
        return self.sent[-1].hex(" ") if answer == b"\x90\x00" else answer.hex()


def raw(fields: str, template: str, *, longest: int = 16, shortest: int = 1) -> bytes:
    """PIN_VERIFY around three format bytes."""
    data = bytes.fromhex(template)
    head = bytes((0, 0)) + bytes.fromhex(fields) + bytes((longest, shortest, 2, 1, 9, 4, 0, 0, 0, 0))
    return head + len(data).to_bytes(4, "little") + data


class TestWorkedExamples:
    """ACS ACR83 PINeasy, reference manual 1.05, 11.3 to 11.5 and 12.9 to 12.12: what a real reader makes of a structure."""

    @pytest.mark.parametrize(
        ("fields", "template", "pin", "command"),
        [
            ("39 49 02", "09 57 30 30 30 30 30 30 30 30", "123456780", "09 66 24 68 ac f0 10 30 30 30"),
            ("3d 49 02", "09 57 30 30 30 30 30 30 30 30", "123456780", "09 67 30 30 30 31 23 45 67 80"),
            ("59 48 06", "08 57 a5 30 30 30 30 30 30", "12345", "08 55 62 46 8a 30 30 30 30"),
            ("5d 48 06", "08 57 a5 30 30 30 30 30 30", "12345", "08 55 65 30 30 30 31 23 45"),
            ("89 48 04", "09 57 30 30 30 30 30 30 30 30", "123456780", "09 59 12 34 56 78 00 30 30 30"),
        ],
    )
    def test_verify(self, fields: str, template: str, pin: str, command: str) -> None:
        wire = Wire()
        wire.pad.type(pin)
        assert wire.give(raw(fields, "00 20 00 01 " + template)) == "00 20 00 01 " + command

    @pytest.mark.parametrize(
        ("pin", "fields", "template", "command"),
        [
            ("1357", "82 08 00", "08 FF FF FF FF FF FF FF FF", "08 31 33 35 37 ff ff ff ff"),
            ("13579", "8d 04 00", "05 01 00 00 00 00", "05 01 00 01 35 79"),
        ],
    )
    def test_ccid(self, pin: str, fields: str, template: str, command: str) -> None:
        """USB CCID specification 1.1: ASCII with padding; BCD, justified right, behind a control field."""
        wire = Wire()
        wire.pad.type(pin)
        assert wire.give(raw(fields, "00 20 00 01 " + template)) == "00 20 00 01 " + command

    def test_modify(self) -> None:
        """Example 4; its blocks have their position in bits, 8."""
        template = bytes.fromhex("00 24 00 01 12 08 02 30 30 30 30 30 30 30 09 03 30 30 30 30 30 30 30")
        head = bytes.fromhex("00 00 41 48 04 01 0A 0A 01 02 02 FF 09 04 00 01 02 00 00 00")
        wire = Wire()
        wire.pad.type("123456", "1234567890")
        command = wire.give(head + len(template).to_bytes(4, "little") + template, Feature.MODIFY_PIN_DIRECT)
        assert command == "00 24 00 01 12 08 06 12 34 56 30 30 30 30 09 0a 12 34 56 78 90 30 30"
        assert wire.pad.asked == ["PIN", "new PIN"]


def counted(position: int, length_position: int) -> PinEntry:
    """Asks for a PIN in 8 bytes, and for the number of its digits in a byte before them."""
    return PinEntry(block_size=8, position=position, length_size=8, length_position=length_position, padding=0)


class TestWithOurStructures:
    @pytest.mark.parametrize(
        ("entry", "pin", "data"),
        [
            (PinEntry(), "1234", "04 31 32 33 34"),
            (PinEntry(block_size=8), "1234", "08 31 32 33 34 ff ff ff ff"),
            (PinEntry(block_size=8, right_justified=True, padding=0), "1234", "08 00 00 00 00 31 32 33 34"),
            (PinEntry(format=PinFormat.BINARY, block_size=8), "1234", "08 01 02 03 04 ff ff ff ff"),
            (PinEntry(format=PinFormat.BCD, block_size=4), "12345", "04 12 34 5f ff"),
            (PinEntry(format=PinFormat.BCD), "12345", "03 12 34 5f"),
            (PinEntry(format=ISO), "1234", "08 24 12 34 ff ff ff ff ff"),
            (PinEntry(format=ISO, max_length=12), "123456789012", "08 2c 12 34 56 78 90 12 ff"),
            (counted(2, 8), "1234", "0a 00 04 31 32 33 34 00 00 00 00"),
            (counted(4, 24), "12345", "0c 00 00 00 05 31 32 33 34 35 00 00 00"),
        ],
    )
    def test_verify(self, entry: PinEntry, pin: str, data: str) -> None:
        wire = Wire()
        wire.pad.type(pin)
        assert run(verify(VERIFY, entry), wire.control).is_successful()
        assert wire.sent == [bytes.fromhex("00 20 00 01 " + data)]

    @pytest.mark.parametrize(
        ("entry", "how", "data"),
        [
            (PinEntry(block_size=6, max_length=6), {}, "0c 31 32 33 34 ff ff 35 36 37 38 39 ff"),
            (PinEntry(), {}, "09 31 32 33 34 35 36 37 38 39"),
            (PinEntry(), {"ask_current": False}, "05 35 36 37 38 39"),
            (PinEntry(format=ISO), {}, "10 24 12 34 ff ff ff ff ff 25 56 78 9f ff ff ff ff"),
            (PinEntry(format=ISO), {"current_offset": 8, "new_offset": 0}, "10 25 56 78 9f ff ff ff ff 24 12 34 ff ff ff ff ff"),
        ],
    )
    @pytest.mark.parametrize("confirm", [True, False])
    def test_modify(self, entry: PinEntry, how: dict[str, Any], data: str, confirm: bool) -> None:
        wire = Wire()
        both: dict[str, Any] = {"ask_current": True, "current_offset": 0, "new_offset": None, "confirm": confirm, **how}
        wire.pad.type(*(["1234"] if both["ask_current"] else []), "56789", *(["56789"] if confirm else []))
        assert run(modify(CHANGE, entry, **both), wire.control).is_successful()
        assert wire.sent == [bytes.fromhex("00 24 00 01 " + data)]
        assert wire.pad.asked == ["PIN"] * both["ask_current"] + ["new PIN"] + ["new PIN again"] * confirm

    @given(st.text("0123456789", min_size=4, max_size=12), st.sampled_from(PinFormat), st.booleans())
    def test_every_pin_can_be_read_out_of_the_command_again(self, pin: str, form: PinFormat, right: bool) -> None:
        rest: dict[str, Any] = {} if form is ISO else {"block_size": 12, "position": 1, "length_size": 8, "right_justified": right}
        wire = Wire()
        wire.pad.type(pin)
        assert run(verify(VERIFY, PinEntry(format=form, max_length=12, **rest)), wire.control).is_successful()
        size, block = wire.sent[0][4], wire.sent[0][5:]
        assert size == len(block)
        if form is ISO:
            assert (block[0] >> 4, block[0] & 0x0F, block.hex()[2 : 2 + len(pin)]) == (2, len(pin), pin)
            assert set(block.hex()[2 + len(pin) :]) <= {"f"}
            return
        digits = block.hex()[2:] if form is PinFormat.BCD else "".join(f"{byte & 0x0F:x}" for byte in block[1:])
        assert block[0] == len(pin)
        assert digits.strip("f") == pin
        assert digits.endswith(pin) if right else digits.startswith(pin)


class TestTheUser:
    @pytest.mark.parametrize(
        ("entry", "pin", "expected"),
        [
            (PinEntry(), "123", "6403"),
            (PinEntry(), "123456789", "6403"),
            (PinEntry(), "", "6403"),
            (PinEntry(end=EntryEnd.MAX_LENGTH), "123456789", "00 20 00 01 08 31 32 33 34 35 36 37 38"),
        ],
    )
    def test_types_too_little_or_too_much(self, entry: PinEntry, pin: str, expected: str) -> None:
        wire = Wire()
        wire.pad.type(pin)
        assert wire.give(verify_structure(VERIFY, entry)) == expected

    def test_cancels(self) -> None:
        wire = Wire()
        wire.pad.press_cancel()
        assert run(verify(VERIFY, PinEntry()), wire.control).cancelled
        assert not wire.sent

    def test_says_nothing(self) -> None:
        wire = Wire()
        wire.pad.say_nothing()
        assert run(verify(VERIFY, PinEntry()), wire.control).timed_out

    @pytest.mark.slow
    def test_does_nothing(self) -> None:
        wire = Wire()
        assert run(verify(VERIFY, PinEntry(timeout=1)), wire.control).timed_out

    def test_types_another_pin_the_second_time(self) -> None:
        wire = Wire()
        wire.pad.type("1234", "56789", "56780")
        everything: dict[str, Any] = {"ask_current": True, "confirm": True, "current_offset": 0, "new_offset": None}
        assert run(modify(CHANGE, PinEntry(), **everything), wire.control).different
        assert not wire.sent

    def test_cancels_the_second_question(self) -> None:
        wire = Wire()
        wire.pad.type("1234")
        wire.pad.press_cancel()
        assert wire.give(modify_structure(CHANGE, PinEntry()), Feature.MODIFY_PIN_DIRECT) == "6401"
        assert wire.pad.asked == ["PIN", "new PIN"]

    def test_has_no_letters(self) -> None:
        with pytest.raises(ValueError, match="digits only"):
            PinPad().type("12a4")


VALID = verify_structure(VERIFY, PinEntry(block_size=8))
VALID_CHANGE = modify_structure(CHANGE, PinEntry(block_size=8))


def with_byte(structure: bytes, place: int, value: int) -> bytes:
    return structure[:place] + bytes((value,)) + structure[place + 1 :]


class TestWhatNoReaderTakes:
    @pytest.mark.parametrize(
        "structure",
        [
            b"",
            VALID[:22],
            VALID[:-1],
            VALID + b"\0",
            with_byte(VALID, 2, 0x83),
            with_byte(VALID, 3, 0x09),
            with_byte(VALID, 3, 0x48),
            with_byte(VALID, 4, 0x20),
            with_byte(VALID, 7, 0),
            with_byte(VALID, 7, 8),
            with_byte(VALID, 8, 2),
            with_byte(VALID, 6, 9),
            with_byte(VALID, 23, 7),
            with_byte(VALID, 2, 0x8A),
        ],
        ids=lambda one: one.hex(),
    )
    def test_verify(self, structure: bytes) -> None:
        wire = Wire()
        wire.pad.type("1234")
        assert wire.give(structure) == "6b80"

    @pytest.mark.parametrize(
        "structure",
        [
            VALID_CHANGE[:27],
            VALID_CHANGE + b"\0",
            with_byte(VALID_CHANGE, 6, 9),
            with_byte(VALID_CHANGE, 9, 4),
            with_byte(VALID_CHANGE, 11, 4),
            with_byte(VALID_CHANGE, 10, 0),
        ],
        ids=lambda one: one.hex(),
    )
    def test_modify(self, structure: bytes) -> None:
        wire = Wire()
        wire.pad.type("1234", "1234", "1234")
        assert wire.give(structure, Feature.MODIFY_PIN_DIRECT) == "6b80"

    def test_a_pin_that_its_place_cannot_hold(self) -> None:
        wire = Wire()
        wire.pad.type("12345", "1234")
        assert wire.give(raw("82 04 00", "00 20 00 01 04 00 00 00 00")) == "6b80"
        assert wire.give(raw("8A 24 00", "00 20 00 01 05 00 00 00 00 00")) == "6b80", "four digits in two bits"

    def test_a_command_that_grows_too_long(self) -> None:
        wire = Wire()
        wire.pad.type("1234")
        assert wire.give(raw("82 00 00", "00 20 00 01 FC " + "00" * 252)) == "6b80"

    def test_a_header_alone_is_a_template(self) -> None:
        wire = Wire()
        wire.pad.type("1234")
        assert wire.give(raw("82 00 00", "00 20 00 01")) == "00 20 00 01 04 31 32 33 34"

    @given(st.binary(min_size=0, max_size=60), st.sampled_from(["verify", "modify"]))
    def test_nonsense_is_refused(self, structure: bytes, kind: str) -> None:
        wire = Wire()
        wire.pad.type("1234", "1234", "1234")
        assert wire.give(structure, DIRECT[kind])


class TestFeatures:
    def test_direct(self) -> None:
        assert set(run(query_features(), Wire().control)) == {
            *(Feature.VERIFY_PIN_DIRECT, Feature.MODIFY_PIN_DIRECT, Feature.GET_TLV_PROPERTIES)
        }

    def test_in_two_steps(self) -> None:
        wire = Wire(PinPad(direct=False, properties={}))
        assert set(run(query_features(), wire.control)) == {
            *(Feature.VERIFY_PIN_START, Feature.VERIFY_PIN_FINISH, Feature.MODIFY_PIN_START, Feature.MODIFY_PIN_FINISH)
        }
        wire.pad.type("1234", "1234", "5678")
        assert run(verify(VERIFY, PinEntry()), wire.control).is_successful()
        everything: dict[str, Any] = {"ask_current": True, "confirm": False, "current_offset": 0, "new_offset": None}
        assert run(modify(CHANGE, PinEntry(), **everything), wire.control).is_successful()
        assert [one.hex() for one in wire.sent] == ["002000010431323334", "00240001083132333435363738"]

    def test_an_end_without_a_beginning(self) -> None:
        wire = Wire(PinPad(direct=False))
        assert wire.give(b"", Feature.VERIFY_PIN_FINISH) == "6b80"

    def test_properties(self) -> None:
        found = run(query_properties(), Wire().control)
        assert (found.display_columns, found.display_lines, found.entry_end) == (16, 2, EntryEnd(7))
        assert (found.min_pin_size, found.max_pin_size, found.firmware, found.other) == (1, 15, "scardface", {})
        assert run(query_properties(), Wire(PinPad(properties={7: b"\x08"})).control) == ReaderProperties(max_pin_size=8)
        assert run(query_properties(), Wire(PinPad(properties={})).control) == ReaderProperties()

    def test_other_control_codes(self) -> None:
        assert PinPad()(CM_IOCTL_GET_FEATURE_REQUEST + 1, b"", lambda command: command) is None


class TestInAReader:
    """With a card, through the simulated PC/SC."""

    @pytest.fixture
    def pad(self) -> PinPad:
        return PinPad()

    @pytest.fixture
    def control(self, pad: PinPad) -> Iterator[Callable[[int, bytes], bytes]]:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("Pad", controls=pad)
            pcsc.insert("Pad", FileCard(pin=b"1234"))
            context = pcsc.establish()
            yield context.connect("Pad", ShareMode.SHARED, Protocol.T0 | Protocol.T1).control
            context.release()

    @staticmethod
    def ask(control: Callable[[int, bytes], bytes]) -> PadResult:
        return run(verify(VERIFY, PinEntry()), control)

    def test_right_wrong_cancelled_timed_out_blocked(self, pad: PinPad, control: Callable[[int, bytes], bytes]) -> None:
        pad.type("1234", "9999")
        assert self.ask(control).is_successful()
        assert self.ask(control).tries_left == 2
        pad.press_cancel()
        assert self.ask(control).cancelled
        pad.say_nothing()
        assert self.ask(control).timed_out
        pad.type("9999", "9999", "1234")
        assert self.ask(control).tries_left == 1
        assert self.ask(control).blocked
        assert self.ask(control).sw == 0x6983

    def test_the_user_hesitates(self, pad: PinPad, control: Callable[[int, bytes], bytes]) -> None:
        asking = Call(self.ask, control)
        assert not asking.ended()
        pad.type("1234")
        assert asking.result().is_successful()

    def test_nobody_else_is_held_up_meanwhile(self, pad: PinPad) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("Pad", controls=pad)
            pcsc.insert("Pad", FileCard())
            context, other = pcsc.establish(), pcsc.establish()
            handle = context.connect("Pad", ShareMode.SHARED, Protocol.T1)
            asking = Call(self.ask, handle.control)
            assert not asking.ended()
            assert other.list_readers() == ("Pad",)
            pcsc.add_reader("Other")
            pad.press_cancel()
            assert asking.result().cancelled
            context.release()
            other.release()

    def test_the_card_is_pulled_meanwhile(self, pad: PinPad) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("Pad", controls=pad)
            pcsc.insert("Pad", FileCard())
            context = pcsc.establish()
            asking = Call(self.ask, context.connect("Pad", ShareMode.SHARED, Protocol.T1).control)
            assert not asking.ended()
            pcsc.remove("Pad")
            pad.type("1234")
            assert asking.code() == NOT_TRANSACTED
            context.release()

    def test_the_service_stops_meanwhile(self, pad: PinPad) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("Pad", controls=pad)
            pcsc.insert("Pad", FileCard())
            context = pcsc.establish()
            asking = Call(self.ask, context.connect("Pad", ShareMode.SHARED, Protocol.T1).control)
            assert not asking.ended()
            pcsc.stop_service()
            pad.press_cancel()
            with pytest.raises(SCardError):
                asking.result()
            with pytest.raises(SCardError):
                context.release()
