"""Exchanges of control commands with a reader."""

from __future__ import annotations

import pytest

from scardface._reader.control_exchange import ControlExchange, run
from scardface.errors import SCardError, error_for

UNSUPPORTED = 0x8010001F


def counted(steps: int) -> ControlExchange[list[bytes]]:
    """Asks so often, and returns what it heard; an error is heard as one, too."""
    heard = []
    for step in range(steps):
        try:
            heard.append((yield step, bytes([step])))
        except SCardError as error:
            heard.append(error.call.encode())
    return heard


def test_it_goes_to_and_fro_until_it_ends() -> None:
    asked = []

    def control(code: int, data: bytes) -> bytes:
        asked.append((code, data))
        return data * 2

    assert run(counted(3), control) == [b"\0\0", b"\1\1", b"\2\2"]
    assert asked == [(0, b"\0"), (1, b"\1"), (2, b"\2")]
    assert run(counted(0), control) == []


def test_it_hears_of_failures_and_may_go_on() -> None:
    def control(code: int, data: bytes) -> bytes:
        if code == 1:
            raise error_for(UNSUPPORTED, "SCardControl", "A")
        return data

    assert run(counted(3), control) == [b"\0", b"SCardControl", b"\2"]


def test_what_it_does_not_expect_comes_out() -> None:
    def exchange() -> ControlExchange[None]:
        yield 1, b""

    def control(code: int, data: bytes) -> bytes:
        raise error_for(UNSUPPORTED, "SCardControl", "A")

    with pytest.raises(SCardError) as caught:
        run(exchange(), control)
    assert caught.value.code == UNSUPPORTED
