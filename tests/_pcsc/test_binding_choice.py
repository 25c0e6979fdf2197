"""Which PC/SC is meant, and that the binding is loaded no sooner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scardface import NoReaderError
from scardface._pcsc import binding_choice
from scardface._pcsc.backend import Context
from scardface._pcsc.binding_choice import backend_or_default, default_backend, install, uninstall
from scardface._pcsc.pyscard import PYSCARD
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.faces import both_faces

ROOT = Path(__file__).resolve().parents[2]


class Other:
    """A PC/SC that offers nothing."""

    max_entries = 1
    absent_service_means_no_reader = False

    def establish(self) -> Context:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(binding_choice.VARIABLE, raising=False)
    assert binding_choice._installed == []
    yield
    left = list(binding_choice._installed)
    binding_choice._installed.clear()
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
        "from scardface._pcsc import binding_choice\n"
        "class Other: pass\n"
        "other = Other()\n"
        "binding_choice.install(other)\n"
        "assert binding_choice.default_backend() is other\n"
        "assert 'smartcard.scard' not in sys.modules\n"
        "binding_choice.uninstall(other)\n"
        "binding_choice.default_backend()\n"
        "assert 'smartcard.scard' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


class Countable(SimulatedPCSC):
    """A PC/SC that is false while it has no reader."""

    def __len__(self) -> int:
        return len(self.readers)


@both_faces
@pytest.mark.anyio
async def test_a_backend_that_is_given_is_used_whatever_its_truth_is(face: Any) -> None:
    mine = Countable()
    assert not mine
    assert backend_or_default(mine) is mine
    with SimulatedPCSC() as machine:
        machine.add_reader("the machine's")
        machine.insert(0, LogCard())
        with pytest.raises(NoReaderError):
            async with face.open(timeout=1, backend=mine) as card:
                pytest.fail(f"it took the card in {card.reader}")
        assert backend_or_default(None) is machine
    mine.close()
