"""A card without a reader: what `--virtual` puts in the place of the machine's PC/SC.

Rules:

- One simulated reader with a FileCard in it, or with the card that somebody brings; nothing of the machine is touched.
- The card stays in, but for those who watch: for them it goes and comes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..testing import FileCard, SimulatedPCSC, VirtualCard

READER = "Virtual Reader 0"
PAUSE = 1.0
"""Seconds that a card that comes and goes is in, and out."""


@contextmanager
def virtual_pcsc(card: VirtualCard | None = None) -> Iterator[SimulatedPCSC]:
    """The process's PC/SC for the length of a block.

    Args:
        card: what is in the reader; None: a FileCard.
    """
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader(READER)
        pcsc.insert(READER, FileCard() if card is None else card)
        yield pcsc


@contextmanager
def visits(pcsc: SimulatedPCSC, pause: float = PAUSE) -> Iterator[None]:
    """Have the card go and come, for the length of a block."""
    over = threading.Event()

    def go_and_come() -> None:
        while not over.wait(pause):
            card = pcsc.remove(READER)
            over.wait(pause)
            pcsc.insert(READER, card)

    thread = threading.Thread(target=go_and_come, name="scardface-visits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
