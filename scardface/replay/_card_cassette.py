"""The cassette of one pytest test: where it is, and whether it is recorded or played.

Rules:

- A test has one cassette, `cassettes/MODULE/TEST.cassette` beside the test's module. Its folder is made only to record.
- A cassette belongs to one session with one card.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ._recorder import CardT, Mode, Recorder, SecretPredicate
from ._secrets import carries_secret

__all__ = ["CardCassette", "path_of"]


def path_of(module: Path, test: str) -> Path:
    """Where the cassette of a test is.

    Args:
        module: the test's file.
        test: the test's name, with that of its class in front.
    """
    return module.parent / "cassettes" / module.stem / (re.sub(r"[^\w.-]+", "_", test) + ".cassette")


class CardCassette:
    """What the fixture `card_cassette` is: call it with the open card, and use what it returns instead of the card.

    Attributes:
        path: where the test's cassette is: `cassettes/MODULE/TEST.cassette` beside the module. Its folder is made to record.
        mode: how it is used, see `scardface.replay.Recorder`; option `--card-record`.
        replays: whether the test runs without a live card.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path: Path = path
        self.mode: Mode = mode
        self.replays: bool = mode == "none" or (mode == "once" and path.exists())
        self._recorder: Recorder[Any] | None = None

    def __call__(self, card: CardT, *, redact: SecretPredicate = carries_secret) -> Recorder[CardT]:
        """Wrap a card: it is recorded, or played from the cassette.

        Args:
            card: an open card, of either face.
            redact: which commands are written without their data.

        Raises:
            RuntimeError: called a second time; a test has one cassette, and that one card's session.
            CassetteError: the cassette is damaged.
        """
        if self._recorder is not None:
            raise RuntimeError("a test has one cassette, and a cassette one session: card_cassette can be called once")
        if not self.replays:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        recorder = Recorder(card, self.path, self.mode, redact=redact)
        self._recorder = recorder
        return recorder

    def save(self) -> None:
        """Write what was recorded."""
        if self._recorder is not None:
            self._recorder.save()
