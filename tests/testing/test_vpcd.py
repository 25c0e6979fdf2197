"""scardface.testing._vpcd: the wire to the driver, with the test in the driver's place."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.testing import VirtualCard
from scardface.testing import _vpcd as vpcd

BOUND = 30.0
"""Seconds that anything here may take."""
OFF, ON, RESET, ATR = b"\x00", b"\x01", b"\x02", b"\x04"


class Recorder(VirtualCard):
    """A card that echoes, and notes what was done to it and in which thread."""

    def __init__(self) -> None:
        self.done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.threads: set[int] = set()

    def note(self, what: str) -> None:
        self.threads.add(threading.get_ident())
        self.done.put(what)

    def next(self) -> str:
        return self.done.get(timeout=BOUND)

    def process(self, command: bytes) -> bytes:
        self.note("process")
        return command + b"\x90\x00"

    def power_on(self) -> None:
        self.note("on")

    def power_off(self) -> None:
        self.note("off")

    def reset(self) -> None:
        self.note("reset")


class Driver:
    """vpcd's side of one slot."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(BOUND)
        self._address = self._listener.getsockname()
        self.connections: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """What the card's side calls."""
        return socket.create_connection(self._address)

    def accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(BOUND)
        self.connections.append(connection)

    def send(self, message: bytes) -> None:
        self.connections[-1].sendall(struct.pack(">H", len(message)) + message)

    def receive(self) -> bytes:
        header = self._exactly(2)
        return self._exactly(int.from_bytes(header, "big"))

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            part = self.connections[-1].recv(count - len(received))
            assert part, "the card closed the connection"
            received += part
        return received

    def ask(self, message: bytes) -> bytes:
        self.send(message)
        return self.receive()

    def at_end(self) -> bool:
        return self.connections[-1].recv(1) == b""

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self._listener.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


@contextlib.contextmanager
def inserted(driver: Driver, card: VirtualCard) -> Iterator[vpcd.CardLink]:
    link = vpcd.CardLink(card, driver.connect)
    driver.accept()
    try:
        yield link
    finally:
        link.close()


def test_commands_and_control_bytes(driver: Driver, no_leaks: None) -> None:
    card = Recorder()
    with inserted(driver, card):
        assert driver.ask(ATR) == card.atr
        driver.send(ON)
        driver.send(RESET)
        assert driver.ask(b"\x00\xa4\x00\x00") == b"\x00\xa4\x00\x00\x90\x00"
        driver.send(OFF)
        assert [card.next() for _ in range(4)] == ["on", "reset", "process", "off"]
    assert driver.at_end()
    assert card.done.empty()  # it was off already
    assert len(card.threads) == 1
    assert threading.get_ident() not in card.threads
    assert card.error is None


def test_what_is_no_message_of_the_driver_is_passed_over(driver: Driver) -> None:
    card = Recorder()
    with inserted(driver, card):
        driver.send(b"")
        driver.send(b"\x03")
        assert driver.ask(ATR) == card.atr
    assert card.done.empty()


@pytest.mark.parametrize("size", [2, 260, 65533])
def test_sizes(driver: Driver, size: int) -> None:
    with inserted(driver, Recorder()):
        command = bytes(index % 251 for index in range(size))
        assert driver.ask(command) == command + b"\x90\x00"


@pytest.mark.skipif(sys.platform == "win32", reason="shutdown() ends no recv() of its own side there; vpcd's daemon is Linux'")
@pytest.mark.parametrize("message", [ON, RESET])
def test_taken_out_a_card_loses_its_power(driver: Driver, message: bytes) -> None:
    card = Recorder()
    with inserted(driver, card):
        driver.send(message)
        card.next()
    assert card.next() == "off"
    assert card.done.empty()


@pytest.mark.slow
def test_a_message_cut_off_is_the_end(driver: Driver) -> None:
    card = Recorder()
    with inserted(driver, card):
        driver.connections[0].sendall(b"\x00\x05\x00\xa4")
        driver.connections[0].shutdown(socket.SHUT_WR)
        assert driver.at_end()
        driver.accept()
        assert driver.ask(ATR) == card.atr
    assert card.done.empty()


class Faulty(Recorder):
    """A card with mistakes in its code."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def process(self, command: bytes) -> bytes:
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast(bytes, self.answer)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ZeroDivisionError("oh"), ZeroDivisionError),
        (None, TypeError),
        ("9000", TypeError),
        (2, TypeError),
        (bytes(65536), ValueError),
    ],
)
def test_a_mistake_in_process_answers_6f00_and_is_kept(driver: Driver, answer: object, error: type[Exception]) -> None:
    card = Faulty(answer)
    with inserted(driver, card):
        assert driver.ask(b"\x00\x01\x02\x03") == b"\x6f\x00"
        assert isinstance(card.error, error)
        assert driver.ask(ATR) == card.atr  # and the reader lives on


def test_a_mistake_in_a_hook_is_kept(driver: Driver) -> None:
    class Bad(Recorder):
        def power_on(self) -> None:
            raise KeyError("hook")

    card = Bad()
    with inserted(driver, card):
        driver.send(ON)
        assert driver.ask(ATR) == card.atr
        assert isinstance(card.error, KeyError)


@pytest.mark.parametrize(("answer", "sent"), [(b"", b""), (b"\x61", b"\x61"), (bytearray(b"\x90\x00"), b"\x90\x00")])
def test_short_answers_go_out_as_they_are(driver: Driver, answer: object, sent: bytes) -> None:
    card = Faulty(answer)
    with inserted(driver, card):
        assert driver.ask(b"\x00\x01\x02\x03") == sent
    assert card.error is None


def test_without_an_atr_a_card_is_mute(driver: Driver) -> None:
    card = Recorder()
    card.atr = b""
    with inserted(driver, card):
        assert len(driver.ask(ATR)) == 34  # longer than any ATR: the driver takes the card for present, and it for mute
    assert card.error is None


def test_an_impossible_atr_is_a_mistake(driver: Driver) -> None:
    card = Recorder()
    card.atr = bytes(34)
    with inserted(driver, card):
        assert len(driver.ask(ATR)) == 34
    assert isinstance(card.error, ValueError)


@pytest.mark.slow
def test_a_dropped_card_connects_again(driver: Driver, no_leaks: None) -> None:
    card = Recorder()
    with inserted(driver, card):
        driver.send(ON)
        assert card.next() == "on"
        driver.connections[0].close()
        driver.accept()
        assert card.next() == "off"
        assert driver.ask(b"\x00\x01") == b"\x00\x01\x90\x00"


@pytest.mark.slow
def test_a_connection_that_breaks_is_no_error(driver: Driver) -> None:
    card = Recorder()
    with inserted(driver, card):
        linger = struct.pack("ii", 1, 0)
        driver.connections[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        driver.connections[0].close()  # with a reset in place of an end
        driver.accept()
        assert driver.ask(ATR) == card.atr
    assert card.error is None


@pytest.mark.slow
def test_without_a_driver_the_card_gives_up(driver: Driver) -> None:
    card = Recorder()
    with inserted(driver, card) as link:
        driver.send(ON)
        assert card.next() == "on"
        driver.close()
        assert card.next() == "off"
        link._thread.join(BOUND)
        assert not link._thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        vpcd.CardLink(card, driver.connect)


def test_a_card_that_does_not_return_is_left_behind(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vpcd, "_JOIN_TIMEOUT", 0.05)
    go_on = threading.Event()

    class Busy(Recorder):
        def process(self, command: bytes) -> bytes:
            self.note("process")
            assert go_on.wait(BOUND)
            return b"\x90\x00"

    card = Busy()
    with inserted(driver, card) as link:
        driver.send(b"\x00\x01\x02\x03")
        assert card.next() == "process"
        link.close()
        assert [(record.levelno, record.args) for record in caplog.records] == [(logging.WARNING, ("Busy",))]
        assert driver.at_end()
        go_on.set()
    assert card.error is None


def test_a_card_may_take_itself_out(driver: Driver, no_leaks: None) -> None:
    class Leaving(Recorder):
        link: vpcd.CardLink

        def process(self, command: bytes) -> bytes:
            self.link.close()
            return b"\x90\x00"

    card = Leaving()
    with inserted(driver, card) as link:
        card.link = link
        driver.send(b"\x00\x01\x02\x03")
        assert driver.at_end()
    assert card.error is None


def test_a_child_closes_its_copy_only(driver: Driver) -> None:
    card = Recorder()
    with inserted(driver, card):
        copy = vpcd.CardLink.__new__(vpcd.CardLink)
        copy._socket = driver.connections[0].dup()
        copy.forget()
        assert copy._socket.fileno() == -1
        assert driver.ask(ATR) == card.atr


class Pieces:
    """A connection that gives what it holds in pieces."""

    def __init__(self, stream: bytes, sizes: list[int]) -> None:
        self._stream, self._sizes = stream, sizes

    def setsockopt(self, *_: int) -> None: ...

    def recv(self, count: int) -> bytes:
        size = min(count, self._sizes.pop(0) if self._sizes else count)
        piece, self._stream = self._stream[:size], self._stream[size:]
        return piece


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(1, 7)))
def test_messages_come_whole_however_they_are_cut(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    connection = cast(socket.socket, Pieces(stream, sizes))
    assert [vpcd._receive(connection) for _ in messages] == messages
    assert vpcd._receive(connection) is None
