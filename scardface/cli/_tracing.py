"""`--trace` and `--trace-file` of every command, and `scardface trace`, which shows a trace.

Rules:

- `--trace` prints what the library logs on standard error, `--trace-file` writes what goes over the wire; the name's end decides
  how: `.jsonl` and `.pcap`, else text. Data that may be secret is in neither.
- Both begin before the command does anything, and end with it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import tracing
from ._log import logging_to

_WRITERS: dict[str, Callable[[Path], tracing.Writer]] = {".jsonl": tracing.JSONLinesWriter, ".pcap": tracing.PcapWriter}


@contextmanager
def logged() -> Iterator[None]:
    """Within the block, print what the library logs on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s %(message)s", "%H:%M:%S"))
    with logging_to(handler, logging.DEBUG):
        yield


def traced_to(path: Path) -> tracing.Trace:
    """A trace into a file, whose name decides the form.

    Raises:
        OSError: it cannot be written.
    """
    return tracing.trace(_WRITERS.get(path.suffix.lower(), tracing.TextWriter)(path))
