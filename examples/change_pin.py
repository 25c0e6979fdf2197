"""Change the PIN of a card, and never use up its last try: `python change_pin.py`."""

from getpass import getpass

from scardface import iso7816
from scardface.sync import SCard, SCardError

APPLICATION = b"\xf0SCARDFACE"
PIN = 0x01  # P2 of VERIFY and CHANGE REFERENCE DATA; the card's manual has it


def change_pin(card: SCard, current: bytes, new: bytes) -> str:
    """What became of it, in words for the user."""
    with card.transaction():  # nobody resets or selects in between, if the card is shared
        card.send(iso7816.select(APPLICATION)).check()
        left = iso7816.tries_left(card.send(iso7816.verify(PIN)))
        if left is not None and left < 2:
            return f"the card has {left} tries left: not touched"
        response = card.send(iso7816.change_reference_data(PIN, current, new))
        if response.is_successful():
            return "changed"
        left = iso7816.tries_left(response)
        return response.meaning if left is None else f"wrong PIN, {left} tries left"


def main() -> None:
    try:
        with SCard(timeout=30) as card:
            current, new, again = (getpass(f"{name} PIN: ").encode() for name in ("current", "new", "new, again,"))
            print(change_pin(card, current, new) if new == again else "the new PINs differ")
    except SCardError as error:
        print(error)


if __name__ == "__main__":
    main()
