"""Exchanges of control commands (SCardControl) with a reader, written without I/O.

Rules:

- A `ControlExchange` is a generator: it yields a control code and the data that goes with it, is sent the reader's answer (or has
  PC/SC's error thrown into it), and returns the result. So `run` can carry it out without knowing what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from ..errors import SCardError

T = TypeVar("T")

ControlExchange: TypeAlias = Generator["tuple[int, bytes]", bytes, T]


def run(exchange: ControlExchange[T], control: Callable[[int, bytes], bytes]) -> T:
    """Carry out an exchange; what it returns.

    Args:
        control: sends one control command and returns the answer (SCardControl).
    """
    try:
        code, data = next(exchange)
        while True:
            try:
                answer = control(code, data)
            except SCardError as error:
                code, data = exchange.throw(error)
            else:
                code, data = exchange.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value
