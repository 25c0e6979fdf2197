"""scardface._reader.features: control codes, features and properties, against answers of real drivers and against nonsense."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import CardCommunicationError, Disposition, Protocol, SCardError, ShareMode
from scardface._pcsc.pyscard import PYSCARD
from scardface._reader.control_exchange import run
from scardface._reader.features import (
    CM_IOCTL_GET_FEATURE_REQUEST,
    EntryEnd,
    Feature,
    ReaderProperties,
    control_code,
    query_features,
    query_properties,
)
from scardface.errors import NOT_TRANSACTED, error_for
from scardface.testing import PrivatePcscd

# What libccid answers for a Gemalto PC Pinpad, as rdesktop's pull request 238 prints it.
PINPAD = bytes.fromhex("06 04 42 33 00 06  07 04 42 33 00 07  0A 04 42 33 00 0A  12 04 42 33 00 12")
# What libccid answers for a Gemalto GemPC Twin, as the tests of Google's Smart Card Connector have it.
TWIN = bytes.fromhex("01 02 00 00  03 01 00  09 01 00  0B 02 E6 08  0C 02 37 34  0A 04 00 00 01 00")


def reader(answers: dict[int, bytes]) -> Callable[[int, bytes], bytes]:
    """A reader that answers some control codes, and gets no data."""

    def control(code: int, data: bytes) -> bytes:
        assert not data
        if code not in answers:
            raise error_for(0x8010001F, "SCardControl", "A")
        return answers[code]

    return control


def listing(answer: bytes) -> Callable[[int, bytes], bytes]:
    return reader({CM_IOCTL_GET_FEATURE_REQUEST: answer})


class TestControlCodes:
    def test_are_pyscards(self) -> None:
        from smartcard.scard import SCARD_CTL_CODE

        assert [control_code(n) for n in (1, 3400, 3500)] == [SCARD_CTL_CODE(n) for n in (1, 3400, 3500)]
        assert SCARD_CTL_CODE(3400) == CM_IOCTL_GET_FEATURE_REQUEST

    def test_of_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        assert control_code(3400) == 0x313520
        with pytest.raises(ValueError, match="0 to 0xFFF, not 4096"):
            control_code(0x1000)

    def test_of_pcsclite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        assert control_code(0x330006) == 0x42330006
        assert control_code(0xFFFFFF) == 0x42FFFFFF
        for function in (-1, 0x1000000):
            with pytest.raises(ValueError, match="function is 0 to 0xFFFFFF"):
                control_code(function)


class TestFeatures:
    def test_numbers_are_pyscards(self) -> None:
        from smartcard.pcsc import PCSCPart10

        theirs = {name: getattr(PCSCPart10, name) for name in dir(PCSCPart10) if name.startswith("FEATURE_")}
        assert {f"FEATURE_{one.name}": int(one) for one in Feature if one is not Feature.EXECUTE_PACE} == theirs

    def test_of_a_reader_with_a_pad(self) -> None:
        found = run(query_features(), listing(PINPAD))
        assert found == {
            Feature.VERIFY_PIN_DIRECT: 0x42330006,
            Feature.MODIFY_PIN_DIRECT: 0x42330007,
            Feature.IFD_PIN_PROPERTIES: 0x4233000A,
            Feature.GET_TLV_PROPERTIES: 0x42330012,
        }
        assert all(isinstance(one, Feature) for one in found)

    @given(st.dictionaries(st.sampled_from([one for one in Feature if one < 0x20]), st.integers(0, 0xFFFFFFFF)))
    def test_are_read_as_pyscard_reads_them_where_it_can(self, codes: dict[Feature, int]) -> None:
        from smartcard.pcsc.PCSCPart10 import Features, parseFeatureRequest

        answer = b"".join(bytes((tag, 4)) + code.to_bytes(4, "big") for tag, code in codes.items())
        assert run(query_features(), listing(answer)) == {Features[name]: code for name, code in parseFeatureRequest(list(answer))}

    @pytest.mark.parametrize("code", [0x8010001F, 0x80100022, 1, 50])
    def test_of_a_driver_that_knows_nothing_of_them(self, code: int) -> None:
        def refuse(_code: int, _data: bytes) -> bytes:
            raise error_for(code, "SCardControl", "A")

        assert run(query_features(), refuse) == {}
        assert run(query_properties(), refuse) == ReaderProperties()

    def test_of_a_reader_that_has_none(self) -> None:
        assert run(query_features(), listing(b"")) == {}

    def test_another_failure_is_one(self) -> None:
        def fail(_code: int, _data: bytes) -> bytes:
            raise error_for(NOT_TRANSACTED, "SCardControl", "A")

        with pytest.raises(SCardError) as caught:
            run(query_features(), fail)
        assert caught.value.code == NOT_TRANSACTED

    def test_unknown_ones_are_numbers(self) -> None:
        assert run(query_features(), listing(b"\x7f\x04\0\0\0\x05")) == {0x7F: 5}

    def test_the_first_of_two_counts(self) -> None:
        assert run(query_features(), listing(b"\x06\x04\0\0\0\x05\x06\x04\0\0\0\x07")) == {6: 5}

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"\x06", "cut off behind tag 06"),
            (b"\x06\x04", "announces 4 bytes, and 0 follow"),
            (b"\x06\x04\0\0\0", "announces 4 bytes, and 3 follow"),
            (b"\x06\x03\0\0\0", "feature 06 has 3 bytes"),
            (b"\x06\x00", "feature 06 has 0 bytes"),
            (PINPAD + b"\x06\xff", "announces 255 bytes"),
        ],
    )
    def test_malformed(self, answer: bytes, words: str) -> None:
        with pytest.raises(CardCommunicationError, match=words) as caught:
            run(query_features(), listing(answer))
        assert caught.value.call == "SCardControl"

    @given(st.binary(max_size=40))
    def test_nonsense_raises_nothing_else(self, answer: bytes) -> None:
        try:
            found = run(query_features(), listing(answer))
        except CardCommunicationError:
            return
        assert len(answer) % 6 == 0
        assert len(found) <= len(answer) // 6


def told(answer: bytes) -> ReaderProperties:
    return run(query_properties(), reader({CM_IOCTL_GET_FEATURE_REQUEST: PINPAD, 0x42330012: answer}))


class TestProperties:
    def test_are_read_as_pyscard_reads_them_where_it_can(self) -> None:
        from smartcard.pcsc.PCSCPart10 import parseTlvProperties

        theirs, ours = parseTlvProperties(list(TWIN)), told(TWIN)
        prefix = "PCSCv2_PART10_PROPERTY_"
        assert theirs[prefix + "wLcdLayout"] == (ours.display_lines or 0) << 8 | (ours.display_columns or 0)
        assert theirs[prefix + "bTimeOut2"] == ours.distinguishes_timeouts
        assert (theirs[prefix + "wIdVendor"], theirs[prefix + "wIdProduct"]) == (ours.vendor_id, ours.product_id)
        assert theirs[prefix + "dwMaxAPDUDataSize"] == ours.max_apdu_data_size

    def test_of_a_real_reader(self) -> None:
        assert told(TWIN) == ReaderProperties(
            display_columns=0,
            display_lines=0,
            distinguishes_timeouts=False,
            ppdu_support=0,
            vendor_id=0x08E6,
            product_id=0x3437,
            max_apdu_data_size=0x10000,
        )

    def test_all_of_them(self) -> None:
        answer = bytes.fromhex(
            "01 02 10 02  02 01 07  03 01 01  04 02 10 00  05 02 02 00  06 01 04  07 01 08  08 04 47 4B 31 00  09 01 03"
            "0A 04 00 01 00 00  0B 02 E6 08  0C 02 78 34  77 03 01 02 03"
        )
        found = told(answer)
        assert found == ReaderProperties(
            16, 2, EntryEnd(7), True, 16, 2, 4, 8, "GK1", 3, 256, 0x08E6, 0x3478, other={0x77: b"\1\2\3"}
        )
        assert hash(found) == hash(told(answer))

    def test_a_structure_instead(self) -> None:
        """ACS APG8201-B2, reference manual 1.00, 9.3.4: wLcdLayout 0210h, two lines of 16 characters."""
        answers = {CM_IOCTL_GET_FEATURE_REQUEST: b"\x0a\x04\0\0\0\x0a", 10: bytes.fromhex("10 02 07 00")}
        expected = ReaderProperties(display_columns=16, display_lines=2, entry_end=EntryEnd(7), distinguishes_timeouts=False)
        assert run(query_properties(), reader(answers)) == expected

    @pytest.mark.parametrize("size", [0, 3, 5])
    def test_a_structure_of_another_size(self, size: int) -> None:
        answers = {CM_IOCTL_GET_FEATURE_REQUEST: b"\x0a\x04\0\0\0\x0a", 10: bytes(size)}
        with pytest.raises(CardCommunicationError, match=f"have {size} bytes"):
            run(query_properties(), reader(answers))

    def test_neither(self) -> None:
        assert run(query_properties(), listing(b"\x06\x04\0\0\0\x06")) == ReaderProperties()

    def test_values_of_another_length_are_kept_as_they_are(self) -> None:
        assert told(b"\x06\x02\x04\x00\x01\x01\x10") == ReaderProperties(other={6: b"\x04\0", 1: b"\x10"})

    def test_the_first_of_two_counts(self) -> None:
        assert told(b"\x06\x01\x04\x06\x01\x05\x77\x00\x77\x01a") == ReaderProperties(min_pin_size=4, other={0x77: b""})

    def test_bits_that_nobody_defined_are_left_out(self) -> None:
        assert told(b"\x02\x01\xfa").entry_end == EntryEnd.KEY

    def test_a_name_that_is_no_ascii(self) -> None:
        assert told(b"\x08\x02\xe9\x41").firmware == "\ufffdA"

    @pytest.mark.parametrize("answer", [b"\x01", b"\x01\x02\x00", b"\x08\xff"])
    def test_cut_off(self, answer: bytes) -> None:
        with pytest.raises(CardCommunicationError, match="the properties: "):
            told(answer)

    @given(st.binary(max_size=60))
    def test_nonsense_raises_nothing_else(self, answer: bytes) -> None:
        with contextlib.suppress(CardCommunicationError):
            told(answer)

    def test_a_failure_is_one(self) -> None:
        with pytest.raises(SCardError, match="UNSUPPORTED_FEATURE"):
            run(query_properties(), listing(PINPAD))


def test_a_virtual_reader_of_a_real_pcscd_has_none(pcscd: PrivatePcscd) -> None:
    context = PYSCARD.establish()
    handle = context.connect(pcscd.readers[0], ShareMode.DIRECT, Protocol.UNDEFINED)
    try:
        with pytest.raises(SCardError, match="0x8010001F"):
            handle.control(CM_IOCTL_GET_FEATURE_REQUEST, b"")
        assert run(query_features(), handle.control) == {}
        assert run(query_properties(), handle.control) == ReaderProperties()
    finally:
        handle.disconnect(Disposition.LEAVE)
        context.release()
