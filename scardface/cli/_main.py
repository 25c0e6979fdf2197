"""The click commands, their help, and the handling of wrong usage.

Rules:

- A command returns its exit status; errors are handled by `_failures`, so that all commands end in the same way.
- Wrong usage is one sentence, too, which names the command for help.
"""

from __future__ import annotations

import os

import click

from .. import __version__
from ._atr import atr
from ._card import reset, uid
from ._doctor import doctor
from ._failures import EXITS, INTERRUPTED, OK, USAGE, print_error
from ._files import directory, read
from ._options import VIRTUAL, common
from ._reader import reader
from ._readers import readers
from ._record import record
from ._replay import replay
from ._schema import schema
from ._send import send
from ._serve import serve
from ._shell import shell
from ._trace import trace
from ._watch import watch

PROGRAM = "scardface"


def _epilog() -> str:
    """The exit statuses; \\b has click leave the lines as they are."""
    rows = "\n".join(f"  {status:>3}  {meaning}" for status, meaning in EXITS.items())
    return f"\b\nExit status:\n{rows}"


@click.group(epilog=_epilog(), context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Smart cards over PC/SC."""


@commands.command()
@common
@click.pass_context
def demo(context: click.Context, as_json: bool) -> int:
    """Show the library at work, on a PC/SC daemon with virtual cards.

    With --virtual on a simulated PC/SC; also where no such daemon can run.
    """
    from . import demo as demo_command

    return demo_command.run(as_json=as_json, virtual=VIRTUAL in context.meta)


for command in (
    readers,
    reader,
    watch,
    atr,
    uid,
    reset,
    send,
    shell,
    directory,
    read,
    record,
    replay,
    trace,
    serve,
    doctor,
    schema,
):
    commands.add_command(command)
for command in commands.commands.values():
    command.epilog = _epilog()


def run(argv: list[str]) -> int:
    """Run a command; its exit status. Errors other than wrong usage are raised.

    Args:
        argv: the command's name and its arguments.
    """
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:  # called by the shell for completion
        commands.main(argv, PROGRAM)
    try:
        with commands.make_context(PROGRAM, [*argv] or ["--help"]) as context:
            status = commands.invoke(context)
    except click.exceptions.Exit as end:
        return (end.exit_code or OK) if argv else USAGE
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        context_of = getattr(error, "ctx", None)
        path = context_of.command_path if context_of is not None else PROGRAM
        message = error.format_message().rstrip(".")
        print_error(f"{message}{'' if message.endswith('?') else ';'} '{path} --help' tells more")
        return USAGE
    return status if isinstance(status, int) else OK
