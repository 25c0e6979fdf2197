"""A trace of the wire: every call of PC/SC for a card, on both faces, written as it happens.

    with tracing.trace(tracing.TextWriter(sys.stderr), tracing.PcapWriter("card.pcap")):
        ...

What is told: connecting, each command with all its steps (61xx, 6Cxx, GET RESPONSE, chaining), `transmit`, control commands,
attributes, resets, removals, the close. Of cards of all threads and loops of the process, also those that were open before.

Rules:

- What may carry a secret is left out of all writers, by the rule of repr and the logs: data are `<8 bytes>`, or zeros where a
  format has no place for that. `show_secrets=True` is the user's own word.
- A record is written when its command has ended, since only then is it known what in it is secret.
- A writer is any callable that takes a `Record`; it is called in the thread that speaks to the card, which waits for it. If it
  raises, that is logged by "scardface.session", and the exchange goes on.
"""

from __future__ import annotations

from ._json_lines import JSONLinesWriter
from ._open_telemetry import OpenTelemetryWriter
from ._pcap import PcapWriter
from ._record import Record, RecordStep
from ._text import TextWriter
from ._trace import Trace, Writer, trace

__all__ = [
    "JSONLinesWriter",
    "OpenTelemetryWriter",
    "PcapWriter",
    "Record",
    "RecordStep",
    "TextWriter",
    "Trace",
    "Writer",
    "trace",
]
