"""The library's texts for users of the command line.

Rules:

- The library's texts name arguments and methods of Python; on the command line the options are named instead.
- A test goes through all texts of the library, and fails if one is not covered here.
"""

from __future__ import annotations

import re

_ADVICE: tuple[tuple[str, str], ...] = (
    (r"share=ShareMode\.SHARED", "--shared"),
    (r"(?:pnp|wait_for_reader)=True", "--wait-for-reader"),
    (r"(?:lengths=)?Lengths\.([A-Z]+)", r"--lengths \1"),
    (r"lengths=", "--lengths"),
    (r"\btimeout=(?=\d)", "--timeout "),
    (r"\breaders\(\)", "'scardface readers'"),
    (r"\ba new SCard\b", "the same command, given again,"),
    (r"a card held by another SCard of this program", "a card held by another part of this program"),
    (r"volatile=False", "P1 20"),
    (r"volatile=True", "P1 00"),
    (r"delete the cassette, or choose the mode 'new' or 'all'", "give the commands to 'scardface record --overwrite'"),
    (r" \(ExchangeOptions\.\w+\)", ""),
)
_PATTERNS = tuple((re.compile(pattern), advice) for pattern, advice in _ADVICE)


def in_options(text: str) -> str:
    """A text of the library, with options in place of arguments."""
    for pattern, advice in _PATTERNS:
        text = pattern.sub(advice, text)
    return text
