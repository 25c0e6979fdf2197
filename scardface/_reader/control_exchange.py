"""A talk with the reader: protocols of several control commands, written without I/O.

Rules of this room:

- A dialogue is a generator: it yields a control code and the data that goes with it, is sent the reader's answer, or thrown PC/SC's
  error, and returns what came of it. It never ends in the middle of a step, so whoever runs it need not know what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from ..errors import SCardError

T = TypeVar("T")

Dialogue: TypeAlias = Generator["tuple[int, bytes]", bytes, T]


def converse(dialogue: Dialogue[T], control: Callable[[int, bytes], bytes]) -> T:
    """Run a dialogue to its end.

    Args:
        control: one control command, and its answer (SCardControl).
    """
    try:
        code, data = next(dialogue)
        while True:
            try:
                answer = control(code, data)
            except SCardError as error:
                code, data = dialogue.throw(error)
            else:
                code, data = dialogue.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value
