"""The options that commands share.

Rules:

- The same thing has the same name in every command: `--json` and `--virtual` in all, the choice of a card in all that open one, the
  source of commands and the form of the output in all that send some.
- Options that belong together are passed to a command as one value.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from .. import R_APDU, ExchangeOptions, Lengths, Protocol
from ._tracing import logged, traced_to
from ._virtual import virtual_pcsc

F = TypeVar("F", bound=Callable[..., Any])

_ATR_DIGITS = re.compile(r"(?:[0-9A-Fa-f]{2}|\.\.|[ :])+")


class CardChoice(NamedTuple):
    """Which card to open.

    Attributes:
        reader: the reader's name, a part of it, or its number in the list; None: any.
        atr: searched in the ATR; None: any.
        timeout: seconds; None: for ever.
        shared: whether others may use the card meanwhile.
        wait_for_reader: whether to wait for a reader, or the service, that is not there yet.
        lengths: how long commands are sent.
        success: patterns of the status words that are no failure; None: 9000.
        serial: the serial number of the reader; None: any.
        protocols: which protocols may be used.
        exchange: how far an exchange may go, and what it may fetch.
    """

    reader: str | None
    atr: re.Pattern[bytes] | None
    timeout: float | None
    shared: bool
    wait_for_reader: bool = False
    lengths: Lengths = Lengths.AUTO
    success: tuple[str, ...] | None = None
    serial: str | None = None
    protocols: Protocol = Protocol.T0 | Protocol.T1
    exchange: ExchangeOptions = ExchangeOptions()


class CommandSource(NamedTuple):
    """Where the commands come from.

    Attributes:
        texts: commands on the command line.
        file: a file with more, one a line; None: no file.
        pin_prompt: whether the PIN that the word PIN stands for may be asked for.
        keep_going: whether to go on after a status that is no success.
    """

    texts: tuple[str, ...]
    file: str | None
    pin_prompt: bool
    keep_going: bool


class OutputOptions(NamedTuple):
    """How exchanges are shown.

    Attributes:
        json: as JSON, one object a line.
        secrets: with data that may be a PIN or a key.
    """

    json: bool
    secrets: bool


def atr_pattern(text: str) -> re.Pattern[bytes]:
    """The pattern for `--atr`: the first bytes in hexadecimal digits, `..` for any, or a regular expression over bytes.

    Raises:
        BadParameter: it is neither.
    """
    try:
        if _ATR_DIGITS.fullmatch(text):
            pairs = re.findall(r"[0-9A-Fa-f]{2}|\.\.", text)
            pattern = b"".join(b"." if pair == ".." else re.escape(bytes.fromhex(pair)) for pair in pairs)
            return re.compile(b"^" + pattern, re.DOTALL)
        return re.compile(text.encode("latin-1"), re.DOTALL)
    except (re.error, ValueError) as error:
        raise click.BadParameter(f"not the beginning of an ATR, and no regular expression: {error}") from None


def common(function: F) -> F:
    """`--json`, `--virtual`, and what every command can be traced by."""

    def begin(context: click.Context, parameter: click.Parameter, wanted: bool) -> bool:
        if wanted:
            context.meta[VIRTUAL] = context.with_resource(virtual_pcsc())
        return wanted

    def log(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            context.with_resource(logged())

    def trace(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
        if path is not None:
            context.with_resource(traced_to(path))

    file = click.option(
        "--trace-file",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=trace,
        help="Write each step on the wire to a file: .pcap (for Wireshark), .jsonl, else text. Without PINs and keys.",
    )
    trace_log = click.option(
        "--trace", is_flag=True, expose_value=False, callback=log, help="Show what the library logs, on standard error."
    )
    json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    virtual = click.option(
        "--virtual", is_flag=True, expose_value=False, callback=begin, help="A simulated reader with a card, in place of real ones."
    )
    return json(virtual(trace_log(file(function))))


VIRTUAL = "scardface.virtual"
"""Where a command finds the simulated PC/SC, in its context's `meta`."""


class Seconds(click.FloatRange):
    """A number of seconds, 0 or more; infinity is one, NaN, which is in any range, is none."""

    name = "number of seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("not a number of seconds", param, ctx)
        return seconds


def timeout(help_text: str) -> Callable[[F], F]:
    """`--timeout`, with this help text."""
    return click.option("--timeout", metavar="S", type=Seconds(), help=help_text)


READER = "Its name, a part of it that no other has, or its number in 'scardface readers'."
WAIT_FOR_READER = "Wait for a reader, or for PC/SC itself, that is not there yet, too."


def success_words(function: F) -> F:
    """`--success`: an argument `success`."""

    def patterns(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...] | None:
        words = tuple(word for text in texts for word in text.replace(",", " ").split())
        try:
            if texts:
                R_APDU(b"", 0x90, 0x00).is_successful_with(words)
        except ValueError as error:
            raise click.BadParameter(str(error).removeprefix("success: ")) from None
        return words if texts else None

    help_text = "The status words that are no failure, 'x' for any digit: 9000,91xx. Without it 9000 alone."
    return click.option("--success", metavar="SW", multiple=True, callback=patterns, help=help_text)(function)


def serial_option(function: F) -> F:
    """`--serial`: an argument `serial_number`."""
    return click.option("--serial", "serial_number", metavar="S", help="The reader with this serial number, whatever its name.")(
        function
    )


_PROTOCOLS = {"any": Protocol.T0 | Protocol.T1, "t0": Protocol.T0, "t1": Protocol.T1}
_EXCHANGE = {
    "response-class": "the class of GET RESPONSE, two digits",
    "response-instruction": "the instruction that fetches what 61xx announces, two digits",
    "fetch-after": "first status bytes besides 61 after which the rest is fetched: 9F, or 62+63",
    "follow-61": "'no' leaves 61xx as it is",
    "max-steps": "the most steps of a command",
    "max-bytes": "the most bytes of an answer",
}


def exchange_options(texts: Sequence[str]) -> ExchangeOptions:
    """What `--exchange` says.

    Raises:
        BadParameter: it is none, or out of range.
    """
    fields: dict[str, Any] = {}
    for text in [part for each in texts for part in each.split(",")]:
        name, _, value = text.strip().partition("=")
        if name not in _EXCHANGE:
            there = "; ".join(f"{each}={words}" for each, words in _EXCHANGE.items())
            raise click.BadParameter(f"{text!r} is none of: {there}")
        try:
            fields[name.replace("-", "_")] = _exchange_value(name, value)
        except ValueError:
            raise click.BadParameter(f"{text!r}: {_EXCHANGE[name]}") from None
    try:
        return ExchangeOptions(**fields)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _exchange_value(name: str, value: str) -> object:
    if name in ("response-class", "response-instruction"):
        return int(value, 16)
    if name == "fetch-after":
        return frozenset(int(each, 16) for each in value.split("+"))
    if name == "follow-61":
        return {"yes": True, "no": False}[value] if value in ("yes", "no") else int("no number")
    return int(value)


def card_choice(function: Callable[..., int]) -> Callable[..., int]:
    """Which card: an argument `choice`."""

    @click.option("--reader", metavar="R", help=READER)
    @serial_option
    @click.option("--wait-for-reader", is_flag=True, help=WAIT_FOR_READER)
    @click.option(
        "--atr",
        metavar="RE",
        callback=lambda context, parameter, text: None if text is None else atr_pattern(text),
        help="Only a card whose ATR begins with these hex digits ('..': any byte), or in which this regular expression is found.",
    )
    @timeout("Seconds to wait for the card; for ever without it.")
    @click.option("--shared", is_flag=True, help="Let other programs use the card meanwhile, and leave it as it is.")
    @click.option(
        "--lengths",
        type=click.Choice([each.name.lower() for each in Lengths], case_sensitive=False),
        default=Lengths.AUTO.name.lower(),
        show_default=True,
        help="How commands and answers that are too long for a short command are sent.",
    )
    @click.option(
        "--protocol",
        type=click.Choice(list(_PROTOCOLS), case_sensitive=False),
        default="any",
        show_default=True,
        help="The protocol to use, where the card has more than one.",
    )
    @click.option(
        "--exchange",
        metavar="OPTION",
        multiple=True,
        callback=lambda context, parameter, texts: exchange_options(texts),
        help="How answers are fetched: response-class=A0, fetch-after=9F (SIMs), response-instruction=A5 (YubiKey OATH), "
        "follow-61=no, max-steps=N, max-bytes=N.",
    )
    @success_words
    @functools.wraps(function)
    def command(
        *args: Any,
        reader: str | None,
        serial_number: str | None,
        wait_for_reader: bool,
        atr: re.Pattern[bytes] | None,
        timeout: float | None,
        shared: bool,
        lengths: str,
        protocol: str,
        exchange: ExchangeOptions,
        success: tuple[str, ...] | None,
        **kwargs: Any,
    ) -> int:
        if reader is not None and serial_number is not None:
            raise click.UsageError("--reader and --serial: one of the two names the reader")
        length, protocols = Lengths[lengths.upper()], _PROTOCOLS[protocol]
        choice = CardChoice(reader, atr, timeout, shared, wait_for_reader, length, success, serial_number, protocols, exchange)
        return function(*args, choice=choice, **kwargs)

    return command


def command_source(function: Callable[..., int]) -> Callable[..., int]:
    """Which commands: an argument `source`."""

    @click.argument("apdus", nargs=-1, metavar="[APDU]...")
    @click.option(
        "-f", "--file", metavar="FILE", help="Read commands from a file, one a line, '#' begins a comment; '-': standard input."
    )
    @click.option("--pin-prompt", is_flag=True, help="Ask for the PIN that the word PIN in a command stands for.")
    @click.option("--keep-going", is_flag=True, help="Go on after a status that is no success.")
    @functools.wraps(function)
    def command(*args: Any, apdus: tuple[str, ...], file: str | None, pin_prompt: bool, keep_going: bool, **kwargs: Any) -> int:
        return function(*args, source=CommandSource(apdus, file, pin_prompt, keep_going), **kwargs)

    return command


def output_options(function: Callable[..., int]) -> Callable[..., int]:
    """How exchanges are shown: an argument `output`; with `common`'s options."""

    @click.option("--show-secrets", is_flag=True, help="Print data that may be a PIN or a key, too.")
    @common
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, show_secrets: bool, **kwargs: Any) -> int:
        return function(*args, output=OutputOptions(as_json, show_secrets), **kwargs)

    return command
