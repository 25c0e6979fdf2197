"""Text without anything that a terminal would interpret.

Names of readers, texts of cards and lines of files are data: control characters in them, and those that turn the direction of
writing, are shown as `\\x1b`.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with everything escaped that is not printable, except line ends."""
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
