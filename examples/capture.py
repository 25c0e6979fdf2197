"""Take down what a card and this program say to each other: `python capture.py session`.

`session.pcap` is for Wireshark, `session.jsonl` for programs, `session.cassette` to be played in tests, without the card. PINs
and keys are in none of them.
"""

import sys

from scardface import iso7816, tracing
from scardface.replay import Recorder
from scardface.sync import SCard

APPLICATION = b"\xf0SCARDFACE"


def main(name: str) -> None:
    writers = tracing.PcapWriter(f"{name}.pcap"), tracing.JSONLinesWriter(f"{name}.jsonl")
    with tracing.trace(*writers), SCard(timeout=30) as card, Recorder(card, f"{name}.cassette", "all") as recorder:
        recorder.send(iso7816.select(APPLICATION)).check()
        recorder.send(iso7816.verify(0x01, b"1234"))
        print(iso7816.read_file(recorder, 0x0003).check().decode())


if __name__ == "__main__":
    main(sys.argv[1])
