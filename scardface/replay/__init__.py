"""Record a session with a card, and replay it without one.

`Recorder` wraps an open card and writes commands and responses to a cassette, a text file; `ReplayCard` is a virtual card that
plays one. A cassette contains no PINs and keys, as far as standards define which commands carry them: see `carries_secret`.
"""

from __future__ import annotations

from ._cassette import CassetteError
from ._recorder import Mode, Recorder
from ._replay_card import ReplayCard
from ._secrets import carries_secret, may_carry_secret
from ._tape import UnrecordedCommandError

__all__ = [
    "CassetteError",
    "Mode",
    "Recorder",
    "ReplayCard",
    "UnrecordedCommandError",
    "carries_secret",
    "may_carry_secret",
]
