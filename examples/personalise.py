"""Write what is personal onto card after card, through a secure channel: `python personalise.py people.csv`.

Each line has what one card is to say. A card that fails is reported and the same line is tried on the next card; what was
written is read back before the card counts as done.
"""

import csv
import sys
from collections.abc import Iterable

from scardface import iso7816, scp03
from scardface.sync import SCard, SCardError, StatusError, cards

APPLICATION, FILE = b"\xf0SCARDFACE", 0x0002
KEYS = scp03.Keys(enc=bytes(16), mac=bytes(16), dek=bytes(16))  # yours come from a vault, and are different for each card
FAILURES = (SCardError, StatusError, iso7816.FileError, scp03.SecureChannelError, ValueError)


def write(card: SCard, keys: scp03.Keys, text: str) -> None:
    """Write a text, and make sure of it.

    Raises:
        SCardError, StatusError: the card was pulled, or refused.
        iso7816.FileError: it did not take all of it.
        scp03.SecureChannelError: it has other keys, or somebody is in between.
        ValueError: it says something else when it is read.
    """
    secure = scp03.open(card, keys)
    secure.send(iso7816.select(APPLICATION)).check()
    octets = text.encode()
    iso7816.write_file(secure, FILE, octets, part=200).check()
    written = iso7816.read_file(secure, FILE, part=200).check()
    if written[: len(octets)] != octets:
        raise ValueError("the card says something else than was written")


def personalise(rows: Iterable[str], keys: scp03.Keys = KEYS) -> int:
    """How many cards were written: one for each row."""
    done = 0
    with cards() as line:
        for text in rows:
            for card in line:
                try:
                    write(card, keys, text)
                except FAILURES as error:
                    print(f"{card.reader}: {error}; the next card, please")
                    continue
                print(f"{card.reader}: {text}")
                done += 1
                break
    return done


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8", newline="") as people:
        print(personalise(row[0] for row in csv.reader(people) if row), "cards")
