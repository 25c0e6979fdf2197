"""Bytes as people read them: hexadecimal digits, and the text that may be in them."""

from __future__ import annotations


def digits(data: bytes) -> str:
    """Hexadecimal digits, a blank between bytes."""
    return data.hex(" ").upper()


def legible(data: bytes) -> str:
    """The text in bytes, `.` for what is none."""
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in data)


def is_text(data: bytes) -> bool:
    """Whether bytes are readable as they stand."""
    return bool(data) and all(0x20 <= octet < 0x7F for octet in data)
