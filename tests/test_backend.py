"""The seam to a PC/SC: which one is meant, what its answers hold, and that the real one fits it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scardface import _backend, _pcsc
from scardface._backend import (
    ATTR_ATR_STRING,
    PNP_READER,
    Backend,
    CardHandle,
    CardStatus,
    Context,
    StatusChange,
    StatusEntry,
    default_backend,
    install,
    uninstall,
)
from scardface._enums import Protocol
from scardface._pcsc import PYSCARD

ROOT = Path(__file__).resolve().parents[1]


class Other:
    """A PC/SC that offers nothing."""

    max_entries = 1
    absent_service_means_no_reader = False

    def establish(self) -> Context:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _nothing_installed() -> Iterator[None]:
    assert _backend._installed == []
    yield
    left = list(_backend._installed)
    _backend._installed.clear()
    assert left == []


def test_pyscards_is_the_default() -> None:
    assert default_backend() is PYSCARD


def test_the_last_one_installed_counts() -> None:
    first, second = Other(), Other()
    install(first)
    install(second)
    assert default_backend() is second
    uninstall(second)
    assert default_backend() is first
    uninstall(first)
    assert default_backend() is PYSCARD


def test_they_may_be_uninstalled_in_any_order() -> None:
    first, second = Other(), Other()
    install(first)
    install(second)
    uninstall(first)
    assert default_backend() is second
    uninstall(second)
    assert default_backend() is PYSCARD


def test_one_installed_twice_is_uninstalled_once_at_a_time_from_the_end() -> None:
    outer, inner = Other(), Other()
    for backend in (outer, inner, outer):
        install(backend)
    uninstall(outer)
    assert default_backend() is inner
    uninstall(inner)
    assert default_backend() is outer
    uninstall(outer)


def test_it_is_the_object_that_is_uninstalled_and_not_its_equal() -> None:
    class Equal(Other):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

    first, second = Equal(), Equal()
    install(first)
    with pytest.raises(RuntimeError, match="not installed"):
        uninstall(second)
    uninstall(first)


def test_one_that_is_not_installed() -> None:
    with pytest.raises(RuntimeError, match="not installed"):
        uninstall(Other())


def test_the_binding_is_loaded_only_when_it_is_meant() -> None:
    program = (
        "import sys\n"
        "from scardface import _backend\n"
        "class Other: pass\n"
        "other = Other()\n"
        "_backend.install(other)\n"
        "assert _backend.default_backend() is other\n"
        "assert 'smartcard.scard' not in sys.modules\n"
        "_backend.uninstall(other)\n"
        "_backend.default_backend()\n"
        "assert 'smartcard.scard' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


def signatures(kind: Any) -> dict[str, list[tuple[str, Any]]]:
    """The methods of a class and their parameters: name and default."""
    methods = {name: member for name, member in vars(kind).items() if inspect.isfunction(member) and not name.startswith("_")}
    return {
        name: [(parameter.name, parameter.default) for parameter in inspect.signature(method).parameters.values()]
        for name, method in methods.items()
    }


@pytest.mark.parametrize(
    ("seam", "real"),
    [(CardHandle, _pcsc._Handle), (Context, _pcsc._Context), (Backend, type(PYSCARD))],
    ids=["CardHandle", "Context", "Backend"],
)
def test_the_real_one_fits(seam: Any, real: Any) -> None:
    wanted, offered = signatures(seam), signatures(real)
    assert {name: offered.get(name) for name in wanted} == wanted


def test_answers_are_told_by_name() -> None:
    entry = StatusEntry("Reader", 0x00010022, b"\x3b\x00")
    assert (entry.reader, entry.state, entry.atr) == ("Reader", 0x00010022, b"\x3b\x00")
    change = StatusChange(False, [entry])
    assert not change.timed_out
    assert change.entries[0] is entry
    status = CardStatus("Reader", 0x00010022, Protocol.T1, b"\x3b\x00")
    assert (status.reader, status.state, status.protocol, status.atr) == ("Reader", 0x00010022, Protocol.T1, b"\x3b\x00")


def test_names_and_numbers_of_pcsc() -> None:
    """Fact 19, and PC/SC part 3 (SCARD_ATTR_ATR_STRING), as pyscard has them."""
    from smartcard import scard

    assert PNP_READER == r"\\?PnP?\Notification"
    assert ATTR_ATR_STRING == scard.SCARD_ATTR_ATR_STRING
