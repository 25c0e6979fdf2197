"""`scardface trace`: what is in a trace, a log or a cassette, in words.

Rules:

- It shows what `scardface replay` plays: commands with their answers, as `send` prints them. No card is needed.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..iso7816._apdu import R_APDU, as_command
from ..replay._cassette import read
from ..replay._tape import Raw
from ._exchanges import print_exchange
from ._failures import OK
from ._options import OutputOptions, output_options
from ._output import console


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@output_options
def trace(file: Path, output: OutputOptions) -> int:
    """Show the commands and answers in a trace, in words.

    FILE is a trace of '--trace-file' (text or .jsonl), a cassette of 'record', a log of pcscd (--apdu), a debug log of OpenSC, what
    GlobalPlatformPro prints with -d, or a dump of apdu4j.
    """
    screen = console()
    for exchange in read(file).exchanges:
        if isinstance(exchange, Raw):
            response = R_APDU.from_bytes(exchange.response)
            print_exchange(output, screen, "", as_command(exchange.command), response)
        else:
            print_exchange(output, screen, "", exchange.command, exchange.response)
    return OK
