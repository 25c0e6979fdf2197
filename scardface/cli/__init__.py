"""The command `scardface`.

Rules:

- It uses public names, and the tables of `iso7816` by which bytes are put into words.
- `demo` needs only the package; all other commands need the extra `cli` (click, rich, prompt_toolkit), and say so if it is missing.
  Neither is loaded before a command is called.
- An error is one sentence on standard error and an exit status, never a traceback: see `_failures`.
- Output for programs is JSON, one object a line. Text from cards and readers is never printed unescaped: see `_output`.
- No PIN and no key is printed without `--show-secrets`, or kept in a history.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from ..errors import pip_install
from . import _interrupt
from ._failures import USAGE, guarded, print_error
from ._log import Warnings, logging_to

__all__ = ["main"]

EXTRA = {"click", "rich", "prompt_toolkit"}
COMMANDS = (
    "readers",
    "reader",
    "watch",
    "atr",
    "uid",
    "reset",
    "send",
    "shell",
    "dir",
    "read",
    "record",
    "replay",
    "trace",
    "serve",
    "doctor",
    "schema",
)
"""The commands that need the extra."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; None: those of the process.

    Returns:
        The exit status, see `_failures`.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a reader's name that cannot be encoded must not end the command
    with logging_to(Warnings(), logging.WARNING), _interrupt.running_command():
        return guarded(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    try:
        from ._main import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in EXTRA:
            raise
        return _run_without_extra(argv)
    return run(argv)


def _run_without_extra(argv: list[str]) -> int:
    """The command line with the standard library alone: `demo`, and how to get the other commands."""
    if argv and argv[0] in COMMANDS:
        print_error(f"the command {argv[0]!r} needs click, rich and prompt_toolkit: {pip_install('cli')}")
        return USAGE
    parser = argparse.ArgumentParser(
        prog="scardface",
        description="Smart cards over PC/SC.",
        epilog=f"Further commands ({', '.join(COMMANDS)}) come with: {pip_install('cli')}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo_parser = commands.add_parser(
        "demo", help="wait for a card, exchange commands with it, notice its removal: on a PC/SC daemon with virtual cards"
    )
    demo_parser.add_argument("--json", action="store_true", help="one JSON object a line")
    demo_parser.add_argument("--virtual", action="store_true", help="on a simulated PC/SC, no daemon")
    try:
        chosen = parser.parse_args(argv)
    except SystemExit as ended:  # argparse has printed the error, or its help
        return ended.code if isinstance(ended.code, int) else USAGE
    from . import demo

    return demo.run(as_json=chosen.json, virtual=chosen.virtual)
