"""Under monkey patching every way in refuses at once; with threads left alone it works, and the greenlets run on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

import scardface
from scardface import sync
from scardface._pcsc.binding_choice import system_pcsc
from scardface._threads import refuse_green_threads
from scardface.testing import PrivatePcscd, SimulatedPCSC, _private_pcscd
from tests.support.cards import LogCard

BOUND = 60.0
"""Seconds after which a program counts as frozen."""

PATCHED = {
    "gevent.monkey": SimpleNamespace(is_module_patched=lambda name: name == "threading", is_object_patched=lambda *_: False),
    "eventlet.patcher": SimpleNamespace(is_monkey_patched=lambda name: name == "thread"),
}
UNPATCHED = {
    "gevent.monkey": SimpleNamespace(is_module_patched=lambda _: False, is_object_patched=lambda *_: False),
    "eventlet.patcher": SimpleNamespace(is_monkey_patched=lambda _: False),
}
WAYS_IN: dict[str, Callable[[], object]] = {
    "SCard": lambda: sync.SCard(timeout=0),
    "readers": sync.readers,
    "states": sync.states,
    "groups": sync.groups,
    "monitor": lambda: sync.ReaderMonitor().__enter__(),
    "daemon": system_pcsc,
}


@pytest.mark.parametrize("module", PATCHED)
@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in_refuses(module: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for running in _private_pcscd._last if way == "daemon" else ():
        running.stop()  # the test run's own: there is room for one
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        monkeypatch.setitem(sys.modules, module, PATCHED[module])
        with pytest.raises(RuntimeError, match=rf"^{module.split('.')[0]} has patched .*thread=False"):
            WAYS_IN[way]()
        assert pcsc.calls == {}
        monkeypatch.undo()


@pytest.mark.anyio
@pytest.mark.parametrize("module", PATCHED)
async def test_so_does_the_async_face(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedPCSC() as pcsc:
        monkeypatch.setitem(sys.modules, module, PATCHED[module])
        with pytest.raises(RuntimeError, match="thread=False"):
            await scardface.readers()
        with pytest.raises(RuntimeError, match="thread=False"):
            async with scardface.SCard():
                pass
        with pytest.raises(RuntimeError, match="thread=False"):
            async with scardface.ReaderMonitor():
                pass
        assert pcsc.calls == {}
        monkeypatch.undo()


def test_loaded_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, fake in UNPATCHED.items():
        monkeypatch.setitem(sys.modules, module, fake)
    refuse_green_threads()
    queues = SimpleNamespace(is_module_patched=lambda _: False, is_object_patched=lambda *of: of == ("queue", "SimpleQueue"))
    monkeypatch.setitem(sys.modules, "gevent.monkey", queues)
    with pytest.raises(RuntimeError, match="queue=False"):  # real threads, and greenlets' queues between them
        refuse_green_threads()


PATCH = {
    "gevent": ("from gevent import monkey; monkey.patch_all({})", "thread=False, queue=False"),
    "eventlet": ("import eventlet; eventlet.monkey_patch({})", "thread=False"),
}
REFUSED = """
import asyncio, scardface
from scardface import sync

async def one():
    async with scardface.SCard(timeout=1):
        pass

async def events():
    async with scardface.ReaderMonitor() as monitor:
        async for event in monitor:
            break

ways = [
    lambda: sync.SCard(timeout=1), sync.readers, lambda: list(zip([1], sync.ReaderMonitor().__enter__())),
    lambda: asyncio.run(one()), lambda: asyncio.run(events()), lambda: asyncio.run(scardface.states()),
]
for way in ways:
    try:
        way()
    except RuntimeError as error:
        print(error)
"""
WORKS = """
import asyncio, time, scardface
from scardface import sync

ticks = []

def tick():
    while True:
        ticks.append(time.monotonic())
        {name}.sleep(0.01)

async def one():
    async with scardface.SCard(timeout=30) as card:
        return await card.send(bytes.fromhex("00100000021234"))

def work():
    before = len(ticks)
    with sync.ReaderMonitor() as monitor:
        print("waits", flush=True)
        for event in monitor:
            if type(event).__name__ == "CardInserted":
                break
    print(len(ticks) - before > 3, flush=True)
    with sync.SCard(timeout=30) as card:
        print(card.send(bytes.fromhex("00100000021234")).data.hex())
    print(asyncio.run(one()).data.hex())

{name}.spawn(tick)
{call}(work)
"""
CALL = {
    "gevent": "import gevent; call = gevent.get_hub().threadpool.apply",
    "eventlet": "from eventlet import tpool; call = tpool.execute",
}


def needs(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[gevent-test]'")


@pytest.mark.parametrize("name", PATCH)
def test_a_patched_program_does_not_freeze(name: str, pcscd: PrivatePcscd) -> None:
    needs(name)
    program = PATCH[name][0].format("") + REFUSED
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert said.returncode == 0, said
    lines = said.stdout.splitlines()
    assert [line.startswith(f"{name} has patched thread") for line in lines] == [True] * 6, said


@pytest.mark.parametrize("name", PATCH)
def test_what_the_error_advises_works(name: str, pcscd: PrivatePcscd) -> None:
    """Sync and async face in a thread of the pool, on the real daemon, while greenlets run."""
    needs(name)
    patch, options = PATCH[name]
    program = "\n".join((patch.format(options), CALL[name], WORKS.format(name=name, call="call")))
    command = [sys.executable, "-W", "ignore", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            pcscd.insert(0, LogCard())
            out, err = process.communicate(timeout=BOUND)
        finally:
            process.kill()
    assert out.splitlines() == ["True", "1234", "1234"], err
    pcscd.remove_all()


@pytest.mark.parametrize("module", PATCHED)
def test_no_thread_is_started_under_them(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a backend of one's own, which no default one is asked for."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        monkeypatch.setitem(sys.modules, module, PATCHED[module])
        for call in (lambda: sync.SCard(backend=pcsc), lambda: sync.ReaderMonitor(backend=pcsc).__enter__()):
            with pytest.raises(RuntimeError, match="thread=False"):
                call()
        assert pcsc.calls == {}
        monkeypatch.undo()
