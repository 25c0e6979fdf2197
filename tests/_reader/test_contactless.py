"""scardface._reader.contactless: what a reader answers when it is asked for the UID or the ATS."""

from __future__ import annotations

import pytest

from scardface import R_APDU, CardCommunicationError, StatusError
from scardface._reader.contactless import ats, uid


def response(status: int, data: bytes = b"") -> R_APDU:
    return R_APDU(data, status >> 8, status & 0xFF)


class TestUid:
    @pytest.mark.parametrize("status", [0x9000, 0x6282])
    def test_is_what_the_reader_answers(self, status: int) -> None:
        assert uid(response(status, b"\x04\x01\x02\x03")) == b"\x04\x01\x02\x03"
        assert ats(response(status, b"\x80\x31")) == b"\x80\x31"
        assert ats(response(status)) == b""

    def test_has_bytes(self) -> None:
        with pytest.raises(CardCommunicationError, match="a UID without bytes"):
            uid(response(0x9000))

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (0x6A81, "6A81: the reader does not know this for such a card"),
            (0x6300, "6300: the reader has no such information"),
            (0x6D00, "6D00: the reader does not report this; is it a contactless reader"),
            (0x6E00, "6E00: the reader does not report this"),
            (0x6700, "6700: wrong length"),
        ],
    )
    def test_is_refused_in_words(self, status: int, words: str) -> None:
        for read in (uid, ats):
            with pytest.raises(StatusError, match=words) as caught:
                read(response(status))
            assert caught.value.response.sw == status
