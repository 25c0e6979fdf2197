"""scardface.backend: what a writer of a backend gets, and that those that exist are what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scardface
from scardface import backend, sync
from scardface._pcsc import binding_choice
from scardface._pcsc.ctypes_binding import CTYPES
from scardface._pcsc.pyscard import PYSCARD
from scardface.backend import BindingError, Ctypes, Pyscard, binding, takes_reader_name, why_left_out
from scardface.errors import pip_install
from scardface.testing import FileCard, PrivatePcscd, SimulatedPCSC

ROOT = Path(__file__).resolve().parents[1]
SELECT = "00A4000C023F00"


class Delegating:
    """A backend with exactly the members that one needs, which are pyscard's."""

    max_entries = 16
    absent_service_means_no_reader = False
    release_disconnects = True

    def __init__(self, other: backend.Backend) -> None:
        self._other = other

    def establish(self) -> backend.Context:
        return self._other.establish()


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program of its own."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_each_binding_is_one_object() -> None:
    assert Pyscard() is Pyscard() is PYSCARD
    assert Ctypes() is Ctypes() is CTYPES
    assert backend.VERSION == 1


@pytest.mark.parametrize("choose", [Pyscard, Ctypes])
def test_a_binding_that_is_given_is_used(choose: Any, pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, FileCard())
    with sync.SCard(timeout=30, backend=choose()) as card:
        assert card.send(bytes.fromhex(SELECT)).is_successful()
    with sync.ReaderMonitor(backend=choose()) as monitor:
        assert next(monitor).reader in pcscd.readers  # type: ignore[union-attr]


class TestChoice:
    @pytest.mark.parametrize("name", ["pyscard", "ctypes"])
    def test_the_variable_chooses(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCARDFACE_BINDING", name)
        assert binding() == (name, "SCARDFACE_BINDING says so")
        assert binding_choice.default_backend() is {"pyscard": PYSCARD, "ctypes": CTYPES}[name]

    def test_an_unknown_name_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCARDFACE_BINDING", "swig")
        with pytest.raises(BindingError, match=r"SCARDFACE_BINDING is 'swig', .* pyscard or to ctypes"):
            sync.readers()

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child goes on with its parent's library")
    def test_a_forked_child_takes_the_one_by_ctypes(self) -> None:
        program = """
import os
from scardface._pcsc import ctypes_binding, pyscard
from scardface._pcsc.binding_choice import default_backend
from scardface.backend import binding

if not os.fork():
    print(binding(), default_backend() is ctypes_binding.CTYPES)
    os.environ["SCARDFACE_BINDING"] = "pyscard"
    print(binding().name, default_backend() is pyscard.PYSCARD, flush=True)
    os._exit(0)
os.wait()
"""
        told = run(program, SCARDFACE_BINDING="").stdout.splitlines()
        why = "this process was forked, and loads a libpcsclite of its own"
        assert told == [f"Binding(name='ctypes', why='{why}') True", "pyscard True"]

    def test_pyscard_is_taken_where_it_can_be_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for value in (None, ""):
            monkeypatch.delenv("SCARDFACE_BINDING", raising=False)
            if value is not None:
                monkeypatch.setenv("SCARDFACE_BINDING", value)
            assert binding() == ("pyscard", "it can be imported")

    def test_without_pyscard_it_is_ctypes(self, pcscd: PrivatePcscd) -> None:
        told = run(
            "import sys\n"
            "sys.modules['smartcard'] = None\n"
            "from scardface import backend, sync\n"
            "print(backend.default_backend() is backend.Ctypes(), *backend.binding(), len(sync.readers()))\n",
            SCARDFACE_BINDING="",
        )
        why = "pyscard cannot be imported (import of smartcard halted; None in sys.modules)"
        assert told.stdout == f"True ctypes {why} 4\n", told.stderr

    def test_pyscard_that_is_chosen_and_not_there_is_an_error(self) -> None:
        program = (
            "import sys\n"
            "sys.modules['smartcard'] = None\n"
            "from scardface import backend, sync\n"
            "for call in (sync.readers, backend.Pyscard):\n"
            "    try:\n"
            "        call()\n"
            "    except backend.BindingError as error:\n"
            "        print(error)\n"
        )
        told = run(program, SCARDFACE_BINDING="pyscard").stdout.splitlines()
        assert len(told) == 2
        for line in told:
            assert "pyscard was chosen" in line
            assert pip_install("pyscard") in line

    def test_nothing_is_loaded_with_the_names(self) -> None:
        program = "import sys, scardface.backend; print(*{'smartcard', 'ctypes'} & set(sys.modules))"
        assert run(program).stdout.split() == []


class TestNames:
    def test_a_backend_without_a_word_for_it_takes_ascii(self) -> None:
        for name, usable in (("R 00 00", True), ("Lecteur \xe9", False), ("two\0names", False)):
            assert takes_reader_name(Delegating(PYSCARD), name) is takes_reader_name(PYSCARD, name) is usable
        assert takes_reader_name(CTYPES, "Lecteur \xe9")
        assert "ASCII" in why_left_out("Lecteur \xe9")
        assert "UTF-8" in why_left_out("Lecteur \ufffd")
        assert "ASCII" not in why_left_out("Lecteur \ud800")
        assert "NUL" in why_left_out("Lecteur\0")


def test_exactly_the_members_of_the_protocol_are_enough(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, FileCard())
    with sync.SCard(timeout=30, backend=Delegating(CTYPES)) as card:
        assert card.send(bytes.fromhex(SELECT)).is_successful()


def test_a_simulation_is_a_backend_as_well() -> None:
    with SimulatedPCSC() as pcsc:
        assert backend.default_backend() is pcsc
        assert scardface.sync.readers() == ()
