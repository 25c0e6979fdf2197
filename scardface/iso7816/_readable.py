"""Bytes for display: hexadecimal digits, and the text in them."""

from __future__ import annotations


def digits(data: bytes) -> str:
    """Hexadecimal digits, a blank between bytes."""
    return data.hex(" ").upper()


def legible(data: bytes) -> str:
    """Bytes as ASCII text, `.` for those that are not printable."""
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in data)


def is_text(data: bytes) -> bool:
    """Whether all bytes are printable ASCII."""
    return bool(data) and all(0x20 <= octet < 0x7F for octet in data)
