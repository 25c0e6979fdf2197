"""`scardface record`: a session with a card, written to a cassette that plays without the card.

Rules:

- An existing file is not changed without `--overwrite`. Whether the cassette can be written is checked first.
- PINs and keys, as far as standards define the commands that carry them, are not written: see `scardface.replay`.
- Without commands, on a terminal, a shell is recorded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryFile

import click

from ..replay import Recorder, carries_secret, may_carry_secret
from ._failures import FILE, print_error
from ._interrupt import called_on_exit
from ._open import open_card, uninterrupted
from ._options import CardChoice, CommandSource, OutputOptions, card_choice, command_source, output_options
from ._send import read_commands, send_all
from ._shell import run_shell


@click.command(short_help="Send commands, and keep them with the responses in a file.")
@click.argument("cassette", metavar="CASSETTE", type=click.Path(path_type=Path, dir_okay=False))
@command_source
@card_choice
@click.option("--overwrite", is_flag=True, help="Replace a cassette that is there.")
@click.option("--hide-unknown", is_flag=True, help="Leave out all data that no standard says to be harmless, too.")
@output_options
def record(
    cassette: Path,
    overwrite: bool,
    hide_unknown: bool,
    source: CommandSource,
    choice: CardChoice,
    output: OutputOptions,
) -> int:
    """Send commands to a card, and write them and the responses to a cassette.

    Commands are given as to 'send'; without any, on a terminal, the shell is recorded. PINs and keys are not written, as far as
    standards tell which commands carry them. 'scardface replay' plays the cassette.
    """
    if cassette.exists() and not overwrite:
        print_error(f"{cassette}: the file exists; --overwrite replaces it")
        return FILE
    check_writable(cassette)
    typed = is_interactive(source)
    commands = [] if typed else read_commands(source)
    redact = may_carry_secret if hide_unknown else carries_secret
    with (
        open_card(choice) as card,
        Recorder(card, cassette, "all", redact=redact) as recorder,
        called_on_exit(recorder.save),
    ):
        if typed:
            return run_shell(recorder, card, output)
        with uninterrupted(card, choice):
            return send_all(recorder, commands, source.keep_going, output)


def check_writable(cassette: Path) -> None:
    """Check before the wait for a card and the entry of a PIN; the recorder checks again, more strictly, before anything is sent.

    Raises:
        OSError: it cannot; the error names the cassette.
    """
    try:
        with TemporaryFile(dir=cassette.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(cassette)) from None


def is_interactive(source: CommandSource) -> bool:
    """Whether commands are to be entered in a shell."""
    return not source.texts and source.file is None and sys.stdin.isatty()
