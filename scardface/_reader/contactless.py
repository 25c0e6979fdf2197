"""A contactless card's UID and ATS, which the reader knows (PC/SC part 3, 2.01.09, 3.2.2.1.3 GET DATA), without I/O.

Rules:

- These are commands to the reader, in class FF, sent like any other. A card with contacts, or a reader that does not support them,
  answers an error, usually 6A81, 6D00 or 6E00, and `meaning` says what that means here.
- 6282 says that there are fewer bytes than asked for; the data is complete.
- A UID has at least one byte (4, 7, 10 or 8, by the kind of card); an answer without data is an error. An ATS may have no
  historical bytes.
"""

from __future__ import annotations

from ..errors import COMM_DATA_LOST, CardCommunicationError
from ..iso7816._apdu import C_APDU, R_APDU

__all__ = ["GET_ATS", "GET_UID", "ats", "uid"]

GET_UID = C_APDU(0xFF, 0xCA, 0x00, 0x00, le=256)
"""GET DATA: the UID (PUPI, IDm), whole."""
GET_ATS = C_APDU(0xFF, 0xCA, 0x01, 0x00, le=256)
"""GET DATA: the historical bytes of the ATS; many readers answer the whole ATS."""

_END_OF_DATA = 0x6282
_NOT_CONTACTLESS = "the reader does not report this; is it a contactless reader, and a contactless card?"
_MEANINGS = {
    0x6300: "the reader has no such information about this card",
    0x6A81: "the reader does not know this for such a card",
    0x6D00: _NOT_CONTACTLESS,
    0x6E00: _NOT_CONTACTLESS,
}


class _ReaderResponse(R_APDU):
    """A reader's response to GET DATA, whose status words mean something else than a card's."""

    __slots__ = ()

    @property
    def meaning(self) -> str:
        """The status word in words."""
        return _MEANINGS.get(self.sw) or super().meaning


def uid(response: R_APDU) -> bytes:
    """The UID that a reader answered to `GET_UID`.

    Raises:
        StatusError: the reader has none.
        CardCommunicationError: it answered no bytes.
    """
    found = ats(response)
    if not found:
        raise CardCommunicationError("GET DATA: the reader answered a UID without bytes", COMM_DATA_LOST)
    return found


def ats(response: R_APDU) -> bytes:
    """The ATS, or its historical bytes, that a reader answered to `GET_ATS`.

    Raises:
        StatusError: the reader has none.
    """
    if response.sw != _END_OF_DATA:
        _ReaderResponse(response.data, response.sw1, response.sw2).check()
    return response.data
