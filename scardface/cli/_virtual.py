"""The simulated PC/SC of the option `--virtual`.

Rules:

- One simulated reader with a FileCard in it, or with the given card; nothing of the machine is used.
- The card stays in, except for `watch`: there it is removed and inserted repeatedly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..testing import FileCard, SimulatedPCSC, VirtualCard

READER = "Virtual Reader 0"
PAUSE = 1.0
"""Seconds for which the card is in, and out, in turn."""


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
def card_comes_and_goes(pcsc: SimulatedPCSC, pause: float = PAUSE) -> Iterator[None]:
    """Within the block, remove and insert the card repeatedly."""
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
