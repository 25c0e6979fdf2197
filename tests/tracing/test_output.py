"""scardface.tracing: the files of writers."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from scardface import tracing


def test_a_path_is_opened_flushed_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    writer = tracing.TextWriter(os.fspath(path))
    assert path.read_text(encoding="utf-8") == "# scardface trace 1\n"
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer(tracing.Record(0.0, 0.0, "A", "removal", "", "", "", "", False, ()))


def test_a_file_of_the_callers_stays_open() -> None:
    file = io.StringIO()
    tracing.TextWriter(file).close()
    file.write("more")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        tracing.PcapWriter(tmp_path / "nowhere" / "trace.pcap")
