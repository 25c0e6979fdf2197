"""`scardface uid` and `scardface reset`.

Rules:

- A UID is what the reader knows of a contactless card; a reader that does not tell is a status word, and an exit status of 1.
- A reset waits for other programs' transactions, and prints the ATR that the card answers then.
"""

from __future__ import annotations

import click

from ..iso7816._readable import digits
from ._failures import OK
from ._open import open_card
from ._options import CardChoice, card_choice, common
from ._output import console, print_json, print_line


@click.command()
@click.option("--ats", is_flag=True, help="The ATS, or its historical bytes, in place of the UID.")
@card_choice
@common
def uid(ats: bool, choice: CardChoice, as_json: bool) -> int:
    """Print the UID of a contactless card, as its reader knows it."""
    with open_card(choice) as card:
        found = card.ats() if ats else card.uid()
        if as_json:
            print_json(reader=card.reader, **{"ats" if ats else "uid": found.hex().upper()})
        else:
            print_line(console(), digits(found))
    return OK


@click.command()
@click.option("--cold", is_flag=True, help="Power the card down and up.")
@card_choice
@common
def reset(cold: bool, choice: CardChoice, as_json: bool) -> int:
    """Reset a card, and print the ATR that it answers.

    With --shared the card is left as it is then; what other programs have selected and verified is gone.
    """
    with open_card(choice) as card:
        card.reset(cold=cold)
        if as_json:
            print_json(reader=card.reader, atr=card.atr.hex().upper(), protocol=card.protocol.name)
        else:
            print_line(console(), f"{digits(card.atr)}   {card.protocol.name}, in {card.reader}")
    return OK
