"""Read one file of a card, after its PIN where that is needed: `python read_file.py F0534341524446414345 0003 --pin`.

It waits for a card that has the application, reads the file and prints it. The PIN is asked for without an echo, and is
sent only while the card has more than one try left.
"""

import argparse
from collections.abc import Callable
from getpass import getpass

from scardface import CardTimeoutError, StatusError, iso7816
from scardface.sync import SCard


def has(application: bytes) -> Callable[[SCard], bool]:
    """A `match=` for cards with this application: each card is asked once while it is in."""
    return lambda card: card.send(iso7816.select(application)).is_successful()


def read(application: bytes, file: int, pin: bytes = b"", timeout: float = 30) -> bytes:
    with SCard(timeout=timeout, match=has(application)) as card:
        card.send(iso7816.select(application)).check()
        if pin:
            iso7816.verify_pin(card, 0x01, pin).check()
        return iso7816.read_file(card, file).check()


def main(*words: str) -> str | None:
    parser = argparse.ArgumentParser()
    parser.add_argument("application", type=bytes.fromhex)
    parser.add_argument("file", type=lambda digits: int(digits, 16))
    parser.add_argument("--pin", action="store_true", help="ask for the PIN")
    arguments = parser.parse_args(words or None)
    try:
        pin = getpass("PIN: ").encode() if arguments.pin else b""
        print(read(arguments.application, arguments.file, pin).decode(errors="replace"))
    except CardTimeoutError as error:
        return f"no such card: {error}"  # the text says what was seen meanwhile
    except (StatusError, iso7816.FileError, iso7816.PinTriesError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    raise SystemExit(main())
