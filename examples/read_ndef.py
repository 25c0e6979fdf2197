"""What an NFC tag says (NFC Forum Type 4 Tag 2.0): `python read_ndef.py`. ndeflib puts it into words, where it is installed.

A Type 4 tag is a small file system: the NDEF application, a capability container that names the NDEF file, and in that file two
bytes of length and the message.
"""

import anyio

from scardface import SCard, SCardError, StatusError, cards, iso7816

try:
    import ndef
except ImportError:
    ndef = None

NDEF_APPLICATION = bytes.fromhex("D2760000850101")
CAPABILITY_CONTAINER = 0xE103
NDEF_FILE_CONTROL = b"\x04\x06"  # tag and length of the TLV in the container: file identifier, size, who may read and write


async def select_message_file(card: SCard) -> bytes:
    """Select the file with the message, and return the capability container, which says how to use it.

    Raises:
        StatusError: it is no NFC Forum Type 4 tag, or it may not be read.
        ValueError: its capability container makes no sense.
    """
    (await card.send(iso7816.select(NDEF_APPLICATION))).check()
    (await card.send(iso7816.select_file(CAPABILITY_CONTAINER, p2=0x0C, le=None))).check()
    container = (await card.send(iso7816.read_binary(0, 15))).check().data
    if len(container) < 15 or container[7:9] != NDEF_FILE_CONTROL:
        raise ValueError("no NDEF file is named in the capability container")
    (await card.send(iso7816.select_file(int.from_bytes(container[9:11], "big"), p2=0x0C, le=None))).check()
    return container


async def read_message(card: SCard) -> bytes:
    """The NDEF message of a tag, as bytes; empty if it has none. Raises as above, and a ValueError for a wrong length."""
    container = await select_message_file(card)
    at_once = max(15, min(int.from_bytes(container[3:5], "big"), 255))  # MLe: what it gives in one answer
    size = int.from_bytes(container[11:13], "big")
    length = int.from_bytes((await card.send(iso7816.read_binary(0, 2))).check().data, "big")
    if length + 2 > size:
        raise ValueError(f"a message of {length} bytes in a file of {size}")
    message = b""
    while len(message) < length:
        part = (await card.send(iso7816.read_binary(2 + len(message), min(at_once, length - len(message))))).check().data
        if not part:
            raise ValueError("the tag ends before its message")
        message += part
    return message


async def main() -> None:
    async for card in cards(settle=0.05):  # a reader may report one tap as two
        try:
            message = await read_message(card)
        except (SCardError, StatusError, ValueError) as error:
            print(card.reader, error)
            continue
        print(card.reader, list(ndef.message_decoder(message)) if ndef else message.hex(" "))


if __name__ == "__main__":
    anyio.run(main)
