"""Who hears what the library logs."""

from __future__ import annotations

import logging

import pytest

from scardface.cli._log import Warnings, logging_to

LOGGER = logging.getLogger("scardface")


class Kept(logging.Handler):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.commands.append(record.getMessage())


def test_one_hears_at_a_time() -> None:
    before = LOGGER.level, list(LOGGER.handlers)
    outer, inner = Kept(), Kept()
    with logging_to(outer, logging.WARNING):
        LOGGER.warning("one")
        LOGGER.info("none")
        with logging_to(inner, logging.DEBUG):
            LOGGER.debug("two")
            LOGGER.warning("loud")
        LOGGER.warning("three")
    LOGGER.warning("four")
    assert (outer.commands, inner.commands) == (["one", "three"], ["two", "loud"])
    assert (LOGGER.level, list(LOGGER.handlers)) == before


def test_a_program_that_wants_more_gets_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "scardface")
    with logging_to(Kept(), logging.WARNING):
        LOGGER.debug("one")
    assert caplog.messages == ["one"]


def test_a_warning_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(Warnings(), logging.WARNING):
        LOGGER.warning("reader %r, share=ShareMode.SHARED", "\x1b[31m")
    assert capsys.readouterr().err == "scardface: reader '\\x1b[31m', --shared\n"
