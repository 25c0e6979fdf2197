"""The arguments of an acquisition or a monitor, checked once, before any I/O.

Rules:

- Wrong arguments are a TypeError or ValueError that names the argument; nothing has been sent or started then.
- A pattern is the program's own code: it is matched once per ATR, and how long that takes is not bounded.
- Checked arguments are immutable and may be used by any thread.
"""

from __future__ import annotations

import enum
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

from .._enums import Lengths, Protocol, ShareMode
from ..iso7816._apdu import Success, SuccessRule, success_rule
from ..iso7816._exchange import ExchangeOptions


@dataclass(frozen=True, slots=True)
class Serial:
    """A reader by its serial number; made by `serial`."""

    number: str


def serial(number: str) -> Serial:
    """The reader with this serial number, whatever it is called now: `SCard(readers=serial("5C000123"))`.

    Identical readers may swap their names when they are plugged in elsewhere; serial numbers stay. The number is looked up when
    the wait starts, in the reader's name or by asking the reader (VENDOR_IFD_SERIAL_NO); from then on the reader is known by its
    name. A reader that another program has opened exclusively, and whose name does not contain the number, cannot be asked. To
    give readers names of your own, keep them in a dictionary: `READERS = {"entrance": serial("5C000123"), "exit":
    serial("5C000124")}`.

    Args:
        number: exactly as the reader gives it: `SCard.attribute(Attribute.VENDOR_IFD_SERIAL_NO)`.

    Raises:
        TypeError, ValueError: not a str, or an empty one.
    """
    if not isinstance(number, str):
        raise TypeError(f"a serial number is a str, not {type(number).__name__}")
    if not number:
        raise ValueError("a serial number has at least one character")
    return Serial(number)


Names: TypeAlias = str | Iterable[str] | re.Pattern[str] | None
Readers: TypeAlias = Names | Serial
Groups: TypeAlias = str | Iterable[str] | None

E = TypeVar("E", bound=enum.Enum)

OnReset: TypeAlias = Literal["raise", "reconnect"]
_ON_RESET = get_args(OnReset)

ANY_PROTOCOL = Protocol.T0 | Protocol.T1
DEFAULT_OPTIONS = ExchangeOptions()
_MAX_SETTLE = 60.0
"""Seconds; longer than any contact bounce."""


@dataclass(frozen=True, slots=True)
class ReaderFilter:
    """Which readers an acquisition or a monitor is for.

    Attributes:
        names: exact names; None: any.
        pattern: searched in the name; None: any.
        groups: reader groups; None: PC/SC is asked for all.
        serial: the reader's serial number, which has to be looked up.
    """

    names: frozenset[str] | None = None
    pattern: re.Pattern[str] | None = None
    groups: tuple[str, ...] | None = None
    serial: str | None = None

    @classmethod
    def from_arguments(cls, readers: Readers, groups: Groups) -> ReaderFilter:
        """The filter for these two arguments.

        Raises:
            TypeError: not a str, an iterable of str or (readers only) a compiled str pattern or a serial number.
        """
        if readers is None and groups is None:
            return _ANY_READER
        pattern = names = number = None
        if isinstance(readers, Serial):
            number = readers.number
        elif isinstance(readers, re.Pattern):
            if not isinstance(readers.pattern, str):
                raise TypeError("readers: a pattern is searched in names, so it must be a str pattern, not a bytes one")
            pattern = readers
        elif readers is not None:
            names = frozenset(_strings("readers", readers))
        return cls(names, pattern, None if groups is None else tuple(_strings("groups", groups)), number)

    @classmethod
    def to_watch(cls, readers: Names, groups: Groups) -> ReaderFilter:
        """As `from_arguments`, for a monitor, which takes names only: readers come and go while it runs."""
        if isinstance(readers, Serial):
            raise TypeError("readers: a monitor takes names; serial numbers are for SCard")
        return cls.from_arguments(readers, groups)

    def with_names(self, names: frozenset[str]) -> ReaderFilter:
        """The filter once the names of the readers with the serial number are known."""
        return ReaderFilter(names, None, self.groups)

    def accepts(self, name: str) -> bool:
        """Whether the reader's name matches; its groups have to be asked for."""
        if self.names is not None:
            return name in self.names
        return self.pattern is None or self.pattern.search(name) is not None

    @property
    def named(self) -> bool:
        """Whether particular readers were asked for."""
        return self.names is not None or self.pattern is not None or self.serial is not None


def _strings(argument: str, value: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    try:
        strings = tuple(value)
    except TypeError:
        hint = "; seconds are timeout=" if isinstance(value, (int, float)) else ""
        raise TypeError(f"{argument}: a str or an iterable of str is needed, not {type(value).__name__}{hint}") from None
    for string in strings:
        if not isinstance(string, str):
            raise TypeError(f"{argument}: names are str, not {type(string).__name__}")
    return strings


_ANY_READER = ReaderFilter()


@dataclass(frozen=True, slots=True)
class CardRequest:
    """The criteria of one acquisition; see SCard for what each means.

    Attributes:
        readers: None with plug-and-play readers, where any reader will do.
        atr: searched in the ATR; None: any ATR.
        timeout: seconds; None: for ever.
    """

    readers: ReaderFilter
    atr: re.Pattern[bytes] | None
    timeout: float | None
    pnp: bool
    share: ShareMode
    protocols: Protocol
    lengths: Lengths
    options: ExchangeOptions
    settle: float
    new_only: bool
    on_reset: OnReset
    wait_for_reader: bool = False
    success: SuccessRule | None = None

    @classmethod
    def from_arguments(
        cls,
        readers: Readers,
        groups: Groups,
        timeout: float | None,
        atr: bytes | re.Pattern[bytes] | None,
        pnp: bool,
        share: ShareMode,
        protocols: Protocol,
        lengths: Lengths,
        options: ExchangeOptions = DEFAULT_OPTIONS,
        settle: float = 0.0,
        new_only: bool = False,
        on_reset: OnReset = "raise",
        wait_for_reader: bool = False,
        success: Success | None = None,
    ) -> CardRequest:
        """The arguments of SCard, checked.

        Raises:
            TypeError: an argument of another type than it should be.
            ValueError: an argument out of its range, or two that exclude each other.
        """
        share = member("share", ShareMode, share)
        if not isinstance(options, ExchangeOptions):
            raise TypeError(f"options: ExchangeOptions are needed, not {type(options).__name__}")
        request = cls(
            ReaderFilter() if pnp else ReaderFilter.from_arguments(readers, groups),
            _atr_pattern(atr),
            seconds_of(timeout),
            bool(pnp),
            share,
            protocols_for(share, protocols),
            member("lengths", Lengths, lengths),
            options,
            _settle(settle),
            bool(new_only),
            on_reset,
            bool(wait_for_reader),
            None if success is None else success_rule(success),
        )
        if pnp and (readers is not None or groups is not None):
            warnings.warn(
                "pnp=True takes any reader: readers= and groups= are ignored; wait_for_reader=True waits for those asked for",
                UserWarning,
                stacklevel=3,
            )
        if on_reset not in _ON_RESET:
            raise ValueError(f"on_reset: {on_reset!r} is none of {', '.join(map(repr, _ON_RESET))}")
        if share is ShareMode.DIRECT and request.atr is not None:
            raise ValueError("atr: must be None with ShareMode.DIRECT, which needs no card")
        if share is ShareMode.DIRECT and (request.settle or request.new_only):
            raise ValueError("settle and new_only: not with ShareMode.DIRECT, which needs no card")
        return _shared(request)


_last: CardRequest | None = None


def _shared(request: CardRequest) -> CardRequest:
    """`request`, or the equal one that was asked for last: many waiters for the same card share one object."""
    global _last
    last = _last
    if last is None or last != request:
        last = _last = request
    return last


def _atr_pattern(atr: bytes | re.Pattern[bytes] | None) -> re.Pattern[bytes] | None:
    if atr is None:
        return None
    if isinstance(atr, re.Pattern):
        if not isinstance(atr.pattern, bytes):
            raise TypeError("atr: an ATR is bytes, so its pattern must be a bytes pattern, not a str one")
        return atr
    if not isinstance(atr, bytes):
        raise TypeError(f"atr: a regular expression as bytes (rb'...') is needed, not {type(atr).__name__}")
    try:
        return re.compile(atr, re.DOTALL)
    except re.error as error:
        raise ValueError(f"atr: not a regular expression: {error}") from error


def seconds_of(timeout: float | None) -> float | None:
    """`timeout` as seconds, None for ever; a TypeError or ValueError if it is neither."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: seconds as a number, or None, not {type(timeout).__name__}")
    if timeout == -1 or timeout == math.inf:
        return None
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError("timeout: a finite number of seconds of at least 0 is needed; None, -1 and inf mean for ever")
    return seconds


def _settle(settle: float) -> float:
    if isinstance(settle, bool) or not isinstance(settle, (int, float)):
        raise TypeError(f"settle: seconds as a number, not {type(settle).__name__}")
    if not 0 <= settle <= _MAX_SETTLE:
        raise ValueError(f"settle: 0 to {_MAX_SETTLE:g} seconds, not {settle!r}")
    return float(settle)


def member(argument: str, kind: type[E], value: E) -> E:
    """`value` as a member of `kind`; a ValueError that names the argument if it is none."""
    try:
        return kind(value)
    except (ValueError, TypeError):
        members = ", ".join(f"{kind.__name__}.{each.name}" for each in kind)
        raise ValueError(f"{argument}: {value!r} is no {kind.__name__}: {members}") from None


def protocols_for(share: ShareMode, protocols: Protocol) -> Protocol:
    """`protocols` if they can be asked for with `share`; else ValueError."""
    protocols = member("protocols", Protocol, protocols)
    if share is ShareMode.DIRECT:
        return protocols
    if protocols not in (Protocol.T0, Protocol.T1, ANY_PROTOCOL, Protocol.RAW):
        raise ValueError(f"protocols: {protocols!r} is none of T0, T1, T0|T1 and RAW (RAW beside another always wins)")
    return protocols
