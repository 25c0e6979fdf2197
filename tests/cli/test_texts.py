"""Text in the encodings of all platforms."""

from __future__ import annotations

import io
import os
import threading

import pytest

from scardface.cli._texts import lines_of, text_of

TEXT = "00A40000  # erste Datei\r\n00B0000000\r\n"
MARK = "\ufeff"
ENCODED = {
    "utf-8": TEXT.encode(),
    "utf-8, mark": (MARK + TEXT).encode(),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "utf-16-be, mark": (MARK + TEXT).encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "utf-32-le": TEXT.encode("utf-32-le"),
    "utf-32-be": TEXT.encode("utf-32-be"),
}


@pytest.mark.parametrize("content", ENCODED.values(), ids=ENCODED)
def test_a_text_is_read_in_its_encoding(content: bytes) -> None:
    assert text_of(content) == TEXT
    assert list(lines_of(io.TextIOWrapper(io.BytesIO(content)))) == TEXT.splitlines(keepends=True)


def test_comments_in_another_encoding_do_no_harm() -> None:
    assert text_of("00A40000 # für\n".encode("latin-1")) == "00A40000 # für\n"
    assert "".join(lines_of(io.TextIOWrapper(io.BytesIO("00A40000 # für\n".encode("latin-1"))))).startswith("00A40000 # f")


@pytest.mark.parametrize("content", [b"", b"\xff", b"\0", b"\xff\xfe", b"0", b"0\n"])
def test_the_shortest_texts(content: bytes) -> None:
    assert len(text_of(content)) <= 2
    assert len(list(lines_of(io.TextIOWrapper(io.BytesIO(content))))) <= 1


def test_a_stream_without_bytes() -> None:
    assert list(lines_of(io.StringIO(MARK + "a\nb"))) == ["a\n", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_line_is_there_as_soon_as_it_is_written(encoding: str) -> None:
    """Whoever converses with us writes a line and waits for the answer."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stream, open(writing, "wb", buffering=0) as pipe:
        heard = lines_of(stream)
        for line in ("00A40000\n", "00B0000000\n"):
            pipe.write(line.encode(encoding))
            assert _within(10, lambda: next(heard)) == line
        pipe.write("last".encode(encoding))
        pipe.close()
        assert next(heard) == "last"


def _within(seconds: float, call: object) -> object:
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(call()), daemon=True)  # type: ignore[operator]  a callable
    thread.start()
    thread.join(seconds)
    assert got, "the line has not come"
    return got[0]
