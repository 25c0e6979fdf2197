"""Success words: which status words are no failure, written as patterns. No I/O.

Rules:

- A pattern has four characters: hexadecimal digits in either case, and `x` for any digit: "9000", "91xx", "63Cx".
- A list of patterns is all that succeeds. 9000 succeeds where one of them matches it, and not otherwise.
- A list without a pattern would let nothing succeed, a str would be read as patterns of one character: both are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_PATTERN = re.compile(r"[0-9A-Fa-fXx]{4}")


@dataclass(frozen=True, slots=True)
class SuccessWords:
    """Patterns of status words, compiled.

    Attributes:
        patterns: as they were written, digits in upper case.
        masks: for each, the bits that are compared, and what they must be.
    """

    patterns: tuple[str, ...]
    masks: tuple[tuple[int, int], ...]

    def matches(self, sw: int) -> bool:
        """Whether a status word is one of them."""
        return any(sw & mask == word for mask, word in self.masks)

    def __str__(self) -> str:
        return ", ".join(self.patterns)


def success_words(patterns: Iterable[str]) -> SuccessWords:
    """Compile patterns.

    Raises:
        TypeError: no iterable of str, or a str.
        ValueError: none, or one that is no pattern; the text names it.
    """
    if isinstance(patterns, (str, bytes, bytearray)):
        raise TypeError(f"success: a list of patterns is needed, [{patterns!r}] for instance, not {type(patterns).__name__}")
    try:
        words = tuple(patterns)
    except TypeError:
        text = f"success: a list of patterns or a function of the response is needed, not {type(patterns).__name__}"
        raise TypeError(text) from None
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f'success: a pattern is a str such as "9000" or "91xx", not {type(word).__name__}')
        if not _PATTERN.fullmatch(word):
            raise ValueError(f"success: {word!r} is no pattern of four hexadecimal digits, with x for any of them")
    if not words:
        raise ValueError("success: no pattern is given, so that nothing would succeed")
    return _compiled(words)


@lru_cache(maxsize=64)
def _compiled(words: tuple[str, ...]) -> SuccessWords:
    patterns = tuple(word.upper().replace("X", "x") for word in words)
    masks = tuple(
        (int("".join("0" if digit == "x" else "F" for digit in each), 16), int(each.replace("x", "0"), 16)) for each in patterns
    )
    return SuccessWords(patterns, masks)
