"""The command `scardface`.

Rules of this wing:

- It uses public names only.
- Exit status: 0 done, 1 it cannot be done here (one sentence on standard error says why), 2 wrong usage, 130 interrupted.
- A command is loaded when it is called; what needs no extra must run without one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; None: the process's own.

    Returns:
        The exit status.

    Raises:
        SystemExit: status 2 after wrong usage, 0 after `--help`, as argparse does it.
    """
    parser = argparse.ArgumentParser(prog="scardface", description="Smart cards over PC/SC.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="wait for a card, talk to it, hear it leave: on a PC/SC daemon with virtual cards")
    parser.parse_args(arguments)
    from . import demo

    try:
        return demo.run()
    except KeyboardInterrupt:
        return INTERRUPTED
