"""scardface.contactless: which card it is, and the commands for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import ATR, C_APDU, R_APDU, sync
from scardface._reader.contactless import GET_ATS, GET_UID, uid
from scardface.contactless import _NAMES, KeyType, Tag, general_authenticate, load_key, meaning, read_binary, tag, update_binary
from scardface.iso7816._apdu import redacted
from scardface.testing import SimulatedPCSC, VirtualCard

KEY = bytes.fromhex("A0A1A2A3A4A5")
ATR_1K = bytes.fromhex("3B 8F 80 01 80 4F 0C A0 00 00 03 06 03 00 01 00 00 00 00 6A")


def response(status: int, data: bytes = b"") -> R_APDU:
    return R_APDU(data, status >> 8, status & 0xFF)


def made_up(historical: bytes) -> bytes:
    """An ATR as readers make it up (PC/SC part 3, 3.1.3.2.3.1)."""
    octets = bytes((0x80 | len(historical), 0x80, 0x01)) + historical
    check = 0
    for octet in octets:
        check ^= octet
    return b"\x3b" + octets + bytes((check,))


class TestCommands:
    @pytest.mark.parametrize(
        ("command", "encoded"),
        [
            (load_key(KEY, 0), "FF 82 00 00 06 A0 A1 A2 A3 A4 A5"),  # ACS AET62, reference manual 1.00, 6.1
            (load_key(KEY, 0x1F, volatile=False), "FF 82 20 1F 06 A0 A1 A2 A3 A4 A5"),  # ACS ACR128, API 1.7, 7.1
            (load_key(b"\x01", 0), "FF 82 00 00 01 01"),
            (load_key(bytes(255), 255), "FF 82 00 FF FF" + 255 * " 00"),
            (load_key(KEY, 1, reader_key=True), "FF 82 80 01 06 A0 A1 A2 A3 A4 A5"),
            (load_key(KEY, 1, encrypted_with=3), "FF 82 43 01 06 A0 A1 A2 A3 A4 A5"),
            (general_authenticate(4, KeyType.A, 0), "FF 86 00 00 05 01 00 04 60 00"),
            (general_authenticate(0x0180, KeyType.B, 1), "FF 86 00 00 05 01 01 80 61 01"),
            (general_authenticate(4, 0x17, 0), "FF 86 00 00 05 01 00 04 17 00"),
            (read_binary(4, 16), "FF B0 00 04 10"),
            (read_binary(0x0104), "FF B0 01 04 00"),
            (read_binary(0, 0x10000), "FF B0 00 00 00 00 00"),
            (update_binary(4, bytes(4)), "FF D6 00 04 04 00 00 00 00"),
            (GET_UID, "FF CA 00 00 00"),
            (GET_ATS, "FF CA 01 00 00"),
        ],
    )
    def test_are_encoded(self, command: C_APDU, encoded: str) -> None:
        assert bytes(command) == bytes.fromhex(encoded)

    @pytest.mark.parametrize("key", [b"", bytes(256)], ids=len)
    def test_keys_of_no_length(self, key: bytes) -> None:
        with pytest.raises(ValueError, match=f"1 to 255 bytes, not {len(key)}$"):
            load_key(key, 0)

    def test_numbers_out_of_range(self) -> None:
        wrongs: list[tuple[Callable[[], object], str]] = [
            (lambda: load_key(KEY, 256), "number is 0 to 255, not 256"),
            (lambda: load_key(KEY, 0, encrypted_with=16), "encrypted_with is 0 to 15"),
            (lambda: general_authenticate(0x10000, KeyType.A, 0), "block is 0 to 65535"),
            (lambda: general_authenticate(0, 256, 0), "key_type is 0 to 255"),
            (lambda: general_authenticate(0, KeyType.A, -1), "number is 0 to 255, not -1"),
            (lambda: read_binary(-1, 16), "block is 0 to 65535"),
            (lambda: read_binary(0, 0), "length is 1 to 65536, not 0"),
            (lambda: read_binary(0, 0x10001), "length is 1 to 65536"),
            (lambda: update_binary(0x10000, b"a"), "block is 0 to 65535"),
            (lambda: update_binary(0, b""), "no data to write"),
        ]
        for wrong, words in wrongs:
            with pytest.raises(ValueError, match=words):
                wrong()

    @pytest.mark.parametrize("command", [load_key(KEY, 0), update_binary(3, KEY + bytes(10)), load_key(KEY, 0, reader_key=True)])
    def test_keys_are_not_shown(self, command: C_APDU) -> None:
        shown = (repr(command) + redacted(command)).upper()
        assert "A0A1A2" not in shown
        assert f"<{len(command.data)} BYTES>" in shown


class TestMeaning:
    @pytest.mark.parametrize(
        ("command", "status", "words"),
        [
            (load_key(KEY, 0), 0x6986, "volatile=False"),
            (load_key(KEY, 0), 0x6988, "no key of this number"),
            (load_key(KEY, 0), 0x6300, "was not loaded"),
            (general_authenticate(4, KeyType.A, 0), 0x6300, "wrong key"),
            (general_authenticate(4, KeyType.A, 0), 0x6988, "no key of this number in the reader"),
            (read_binary(4), 0x6982, "authenticate to this sector first"),
            (read_binary(4), 0x6A82, "no such block"),
            (update_binary(4, b"a"), 0x6581, "writing failed"),
            (update_binary(4, b"a"), 0x9000, "success"),
            (update_binary(4, b"a"), 0x6D00, "instruction not supported"),
            (C_APDU(0x00, 0xB0, 0, 0, le=1), 0x6A82, "file or application not found"),
            (GET_UID, 0x6A81, "function not supported"),
        ],
    )
    def test_is_the_readers(self, command: C_APDU, status: int, words: str) -> None:
        assert words in meaning(command, response(status))

    @pytest.mark.parametrize(
        ("command", "statuses"),
        [
            (load_key(KEY, 0), "6300 6982 6983 6984 6985 6986 6987 6988 6989"),
            (general_authenticate(4, KeyType.A, 0), "6300 6581 6982 6983 6984 6985 6986 6988"),
            (read_binary(4), "6281 6282 6300 6981 6982 6986 6A81 6A82"),
            (update_binary(4, b"a"), "6282 6300 6581 6981 6982 6986 6A81 6A82"),
        ],
    )
    def test_of_each_command_is_its_own(self, command: C_APDU, statuses: str) -> None:
        numbers = {int(status, 16) for status in statuses.split()}
        assert {n for n in range(0x6000, 0x7000) if meaning(command, response(n)) != response(n).meaning} == numbers


class TestTag:
    @pytest.mark.parametrize(
        ("atr", "expected"),
        [
            # Gemalto Prox-DU, PC/SC guide, tables 16 and 17.
            ("3B 8F 80 01 80 4F 0C A0 00 00 03 06 03 00 01 00 00 00 00 6A", ("ISO 14443 A, part 3", "MIFARE Standard 1K", 3, 1)),
            ("3B 8F 80 01 80 4F 0C A0 00 00 03 06 03 00 02 00 00 00 00 69", ("ISO 14443 A, part 3", "MIFARE Standard 4K", 3, 2)),
            ("3B 8F 80 01 80 4F 0C A0 00 00 03 06 03 00 03 00 00 00 00 68", ("ISO 14443 A, part 3", "MIFARE Ultralight", 3, 3)),
            ("3B 8F 80 01 80 4F 0C A0 00 00 03 06 11 00 3B 00 00 00 00 42", ("FeliCa", "FeliCa", 0x11, 0x3B)),
            ("3B 8F 80 01 80 4F 0C A0 00 00 03 06 0A 00 1D 00 00 00 00 7F", ("ISO 15693, part 2", "PicoPass 32KS (16+16)", 10, 29)),
        ],
    )
    def test_real_ones(self, atr: str, expected: tuple[str, str, int, int]) -> None:
        assert tag(bytes.fromhex(atr)) == Tag(*expected)
        assert tag(ATR.fromhex(atr)) == Tag(*expected)

    @pytest.mark.parametrize(
        ("number", "name"),
        [
            *((0x00, "not told"), (0x05, "unknown card 0x0005"), (0x06, "SR176"), (0x0F, "SRF55V02P"), (0x14, "ICODE SLI")),
            *((0x18, "PicoPass 2KS"), (0x20, "PicoPass 32KS (8x2+8x2)"), (0x26, "MIFARE Mini"), (0x2F, "Jewel Tag")),
            *((0x30, "Topaz NFC Tag"), (0x34, "AT88RF04C"), (0x36, "MIFARE Plus SL1 2K"), (0x3A, "MIFARE Ultralight C")),
            *((0x3D, "MIFARE Ultralight EV1"), (0x3E, "unknown card 0x003E")),
        ],
    )
    def test_names(self, number: int, name: str) -> None:
        """Supplement 2.01.08, table 3, and what came later, as several programs list it; there is no number 5."""
        found = tag(made_up(bytes.fromhex("80 4F 0C A0 00 00 03 06 03") + number.to_bytes(2, "big") + bytes(4)))
        assert found is not None
        assert (found.name, found.name_number) == (name, number)

    def test_all_numbers_but_one_have_a_name(self) -> None:
        assert list(_NAMES) == [number for number in range(0x3E) if number != 5]
        assert len(set(_NAMES.values())) == len(_NAMES)

    @pytest.mark.parametrize(
        ("number", "name"),
        [
            *((0x00, "not told"), (0x01, "ISO 14443 A, part 1"), (0x02, "ISO 14443 A, part 2"), (0x03, "ISO 14443 A, part 3")),
            *((0x05, "ISO 14443 B, part 1"), (0x06, "ISO 14443 B, part 2"), (0x07, "ISO 14443 B, part 3")),
            *((0x09, "ISO 15693, part 1"), (0x0A, "ISO 15693, part 2"), (0x0B, "ISO 15693, part 3"), (0x0C, "ISO 15693, part 4")),
            *((0x0D, "ISO 7816-10, I2C"), (0x0E, "ISO 7816-10, extended I2C"), (0x0F, "ISO 7816-10, 2WBP")),
            *((0x10, "ISO 7816-10, 3WBP"), (0x11, "FeliCa"), (0x40, "low frequency"), (0x04, "unknown standard 0x04")),
        ],
    )
    def test_standards(self, number: int, name: str) -> None:
        found = tag(made_up(bytes.fromhex("80 4F 0C A0 00 00 03 06") + bytes((number, 0, 1)) + bytes(4)))
        assert found is not None
        assert (found.standard, found.standard_number) == (name, number)

    def test_without_the_four_bytes_for_the_future(self) -> None:
        found = tag(made_up(bytes.fromhex("80 4F 08 A0 00 00 03 06 F0 FF 88")))
        assert found == Tag("unknown standard 0xF0", "unknown card 0xFF88", 0xF0, 0xFF88)

    @pytest.mark.parametrize(
        "atr",
        [
            b"",
            b"\x3b",
            b"\x3b\x80\x01\x81",
            ATR_1K[:12],
            ATR_1K[:-4],  # the length announces more than there is
            made_up(bytes.fromhex("80 4F 07 A0 00 00 03 06 03 00")),
            made_up(bytes.fromhex("80 4F 0D A0 00 00 03 06 03 00 01 00 00 00 00")),
            made_up(bytes.fromhex("80 4F 0C A0 00 00 03 08 03 00 01 00 00 00 00")),
            made_up(bytes.fromhex("00 4F 0C A0 00 00 03 06 03 00 01 00 00 00 00")),
            made_up(bytes.fromhex("80 4F")),
            bytes.fromhex("3B 8A 80 01 00 31 C1 73 C8 40 00 00 90 00 90"),  # a card with ISO 14443-4 has its own
        ],
        ids=lambda one: one.hex(),
    )
    def test_of_others(self, atr: bytes) -> None:
        assert tag(atr) is None

    @given(st.binary(max_size=40) | st.binary(max_size=15).map(lambda rest: made_up((b"\x80\x4f" + rest)[:15])))
    def test_nonsense_never_raises(self, atr: bytes) -> None:
        found = tag(atr)
        assert found is None or isinstance(found, Tag)


class Mifare(VirtualCard):
    """A MIFARE card, and the reader that speaks for it: one sector key, one block."""

    atr = ATR_1K

    def __init__(self) -> None:
        self._loaded: bytes = b""
        self._open = False

    def process(self, command: bytes) -> bytes:
        header, data = command[:4], command[5:]
        if header == b"\xff\x82\x00\x00":
            self._loaded = data
            return b"\x90\x00"
        if header == b"\xff\x86\x00\x00":
            self._open = data == b"\x01\x00\x04\x60\x00" and self._loaded == KEY
            return b"\x90\x00" if self._open else b"\x63\x00"
        if header == b"\xff\xca\x00\x00":
            return b"\x04\x11\x22\x33\x90\x00"
        return bytes(16) + b"\x90\x00" if self._open and header == b"\xff\xb0\x00\x04" else b"\x69\x82"


def test_in_one_batch() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Mifare())
        with sync.SCard(timeout=30) as card:
            assert tag(card.atr) == Tag("ISO 14443 A, part 3", "MIFARE Standard 1K", 3, 1)
            steps = [load_key(KEY, 0), general_authenticate(4, KeyType.A, 0), read_binary(4, 16)]
            assert card.send(*steps).check().data == bytes(16)
            heard: list[str] = []
            steps[0] = load_key(bytes(6), 0)
            card.send(*steps, callback=lambda command, answer: heard.append(meaning(command, answer)))
            assert heard == ["success", "authentication failed: a wrong key, or the card went away"]
            assert uid(card.send(GET_UID)) == b"\x04\x11\x22\x33"
