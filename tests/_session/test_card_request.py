"""The arguments of an acquisition: what each may be, what is refused before any I/O and in which words."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from scardface import ReaderMonitor, SCard, sync
from scardface._enums import Lengths, Protocol, ShareMode
from scardface._pcsc.backend import Context
from scardface._session.card_request import ANY_PROTOCOL, CardRequest, ReaderFilter

FOR_EVER = dict.fromkeys([None, -1, -1.0, math.inf])


class Untouched:
    """A PC/SC that nobody may reach."""

    max_entries = 16
    absent_service_means_no_reader = False

    def establish(self) -> Context:
        pytest.fail("PC/SC was called though an argument was wrong")


def card_request(**arguments: Any) -> CardRequest:
    """The arguments, the others left as SCard has them."""
    given: dict[str, Any] = {
        "readers": None,
        "groups": None,
        "timeout": -1,
        "atr": None,
        "pnp": False,
        "share": ShareMode.EXCLUSIVE,
        "protocols": ANY_PROTOCOL,
        "lengths": Lengths.AUTO,
    }
    return CardRequest.from_arguments(**{**given, **arguments})


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("readers", b"Reader", TypeError, "readers.*str.*int"),
    ("readers", 1, TypeError, "readers.*int"),
    ("readers", ["Reader", 2], TypeError, "readers.*int"),
    ("readers", [b"Reader"], TypeError, "readers.*bytes"),
    ("readers", re.compile(b"Reader"), TypeError, "readers.*bytes"),
    ("groups", b"Group", TypeError, "groups"),
    ("groups", 1, TypeError, "groups.*int"),
    ("groups", ["Group", None], TypeError, "groups.*NoneType"),
    ("groups", re.compile("Group"), TypeError, "groups"),
    ("timeout", math.nan, ValueError, "timeout.*-1 and inf"),
    ("timeout", -math.inf, ValueError, "timeout"),
    ("timeout", -0.001, ValueError, "timeout"),
    ("timeout", -2, ValueError, "timeout"),
    ("timeout", 10**400, ValueError, "timeout"),
    ("timeout", True, TypeError, "timeout.*bool"),
    ("timeout", False, TypeError, "timeout.*bool"),
    ("timeout", "30", TypeError, "timeout.*str"),
    ("timeout", Decimal(3), TypeError, "timeout.*Decimal"),
    ("timeout", 1j, TypeError, "timeout.*complex"),
    ("atr", "^;", TypeError, "atr.*rb'.*str"),
    ("atr", bytearray(b"^;"), TypeError, "atr.*bytearray"),
    ("atr", re.compile("^;"), TypeError, "atr.*bytes.*str"),
    ("atr", rb"^\x3b(", ValueError, "atr.*regular expression"),
    ("atr", rb"*", ValueError, "atr.*regular expression"),
    ("share", 9, ValueError, "share.*9"),
    ("share", 0, ValueError, "share.*0"),
    ("share", None, ValueError, "share.*None"),
    ("share", "EXCLUSIVE", ValueError, "share.*EXCLUSIVE"),
    ("protocols", Protocol.UNDEFINED, ValueError, "protocols"),
    ("protocols", Protocol.T0 | Protocol.RAW, ValueError, "protocols.*RAW"),
    ("protocols", Protocol.T0 | Protocol.T1 | Protocol.RAW, ValueError, "protocols.*RAW"),
    ("protocols", 64, ValueError, "protocols.*64"),
    ("protocols", "T0", ValueError, "protocols.*T0"),
    ("protocols", None, ValueError, "protocols.*None"),
    ("lengths", "AUTO", ValueError, "lengths.*AUTO"),
    ("lengths", None, ValueError, "lengths.*None"),
    ("lengths", 256, ValueError, "lengths.*256"),
    ("options", None, TypeError, "options.*NoneType"),
    ("options", {}, TypeError, "options.*dict"),
]


@pytest.mark.parametrize(("argument", "value", "kind", "words"), WRONG, ids=[f"{row[0]}={row[1]!r:.30}" for row in WRONG])
def test_wrong_arguments_name_the_argument(argument: str, value: Any, kind: type[Exception], words: str) -> None:
    """On both faces, before any I/O."""
    calls: list[Callable[[], object]] = [
        lambda: card_request(**{argument: value}),
        lambda: SCard(**{argument: value}, backend=Untouched()),
        lambda: sync.SCard(**{argument: value}, backend=Untouched()),
    ]
    if argument in ("readers", "groups"):
        calls += [
            lambda: ReaderMonitor(**{argument: value}, backend=Untouched()),
            lambda: sync.ReaderMonitor(**{argument: value}, backend=Untouched()),
        ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=rf"^{words}") as raised:
            call()
        assert type(raised.value) is kind


@pytest.mark.parametrize("atr", [rb"^\x3b", re.compile(rb"^\x3b"), b""])
def test_direct_takes_no_atr(atr: bytes | re.Pattern[bytes]) -> None:
    with pytest.raises(ValueError, match=r"atr.*None.*DIRECT"):
        card_request(share=ShareMode.DIRECT, atr=atr)
    assert card_request(share=ShareMode.DIRECT).atr is None


def test_a_broken_pattern_tells_where_it_breaks() -> None:
    with pytest.raises(ValueError, match="position 4") as raised:
        card_request(atr=rb"\x3b(")
    assert isinstance(raised.value.__cause__, re.error)


@pytest.mark.parametrize("timeout", FOR_EVER)
def test_for_ever(timeout: float | None) -> None:
    assert card_request(timeout=timeout).timeout is None


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, 5, 0.25, 1e-9, 1e300])
def test_seconds(timeout: float) -> None:
    seconds = card_request(timeout=timeout).timeout
    assert seconds == timeout
    assert type(seconds) is float


@pytest.mark.parametrize("protocols", [Protocol.T0, Protocol.T1, ANY_PROTOCOL, Protocol.RAW])
def test_protocols(protocols: Protocol) -> None:
    assert card_request(protocols=protocols).protocols is protocols
    assert card_request(protocols=int(protocols)).protocols == protocols


@pytest.mark.parametrize("protocols", [*Protocol, Protocol.UNDEFINED, ANY_PROTOCOL])
def test_direct_takes_no_protocol_too(protocols: Protocol) -> None:
    direct = card_request(share=ShareMode.DIRECT, protocols=int(protocols)).protocols
    assert direct == protocols
    assert isinstance(direct, Protocol)


def test_direct_takes_protocols_alone() -> None:
    with pytest.raises(ValueError, match=r"protocols.*T0"):
        card_request(share=ShareMode.DIRECT, protocols="T0")


@pytest.mark.parametrize("share", ShareMode)
def test_share(share: ShareMode) -> None:
    assert card_request(share=share).share is share
    assert card_request(share=int(share)).share is share


@pytest.mark.parametrize("lengths", Lengths)
def test_lengths(lengths: Lengths) -> None:
    assert card_request(lengths=lengths).lengths is lengths


def test_a_pattern_is_searched_and_its_dot_is_any_byte() -> None:
    """The contract: searched, not matched; re.DOTALL, for 0A is a byte like any other."""
    pattern = card_request(atr=rb"\x3b.\x81").atr
    assert pattern is not None
    assert pattern.search(b"\x00\x3b\x0a\x81")
    assert not pattern.search(b"\x3b\x81")
    anchored = card_request(atr=rb"^\x3b").atr
    assert anchored is not None
    assert not anchored.search(b"\x00\x3b")


def test_a_compiled_pattern_is_taken_as_it_is() -> None:
    pattern = re.compile(rb"\x3b.", re.IGNORECASE)
    assert card_request(atr=pattern).atr is pattern


def test_no_pattern() -> None:
    assert card_request().atr is None


def test_names() -> None:
    for readers in ("A", ["A"], ("A",), {"A"}, iter(["A"]), {"A": 1}):
        made = ReaderFilter.from_arguments(readers, None)
        assert made.named
        assert (made.accepts("A"), made.accepts("AB"), made.accepts("a")) == (True, False, False)
    several = ReaderFilter.from_arguments(["A", "B"], None)
    assert [name for name in ("A", "B", "C") if several.accepts(name)] == ["A", "B"]


def test_no_names_at_all() -> None:
    nothing = ReaderFilter.from_arguments([], None)
    assert nothing.named
    assert not nothing.accepts("A")


def test_a_pattern_for_names_is_searched() -> None:
    made = ReaderFilter.from_arguments(re.compile(r"PCD \d"), None)
    assert made.named
    assert made.accepts("Virtual PCD 0 00 00")
    assert not made.accepts("Virtual PCD x")


def test_any_reader() -> None:
    made = ReaderFilter.from_arguments(None, None)
    assert not made.named
    assert made.accepts("whatever")
    assert made == ReaderFilter()


@pytest.mark.parametrize(
    ("groups", "kept"), [(None, None), ("G", ("G",)), (["G", "H"], ("G", "H")), (iter(["G"]), ("G",)), ([], ())]
)
def test_groups(groups: Any, kept: tuple[str, ...] | None) -> None:
    made = ReaderFilter.from_arguments(None, groups)
    assert made.groups == kept
    assert not made.named
    assert made.accepts("A"), "groups are PC/SC's to tell"


def test_with_pnp_readers_and_groups_are_ignored() -> None:
    with pytest.warns(UserWarning, match="wait_for_reader=True"):
        made = card_request(readers="A", groups="G", pnp=True)
    assert made.pnp
    assert made.readers == ReaderFilter()
    assert card_request(pnp=True).pnp, "nothing is dropped, so nothing is said"
    assert not card_request(readers="A").pnp


def test_what_is_checked_cannot_change_and_is_hashable() -> None:
    made = card_request(readers=["A"], groups=["G"], atr=rb"^\x3b", timeout=3)
    assert hash(made) == hash(card_request(readers=["A"], groups=["G"], atr=rb"^\x3b", timeout=3))
    for part, name in ((made, "timeout"), (made.readers, "names")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, None)
