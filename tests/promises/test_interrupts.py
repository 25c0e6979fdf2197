"""The promise: Ctrl-C at any moment of a call takes effect, and leaves nothing locked, neither in this process nor for other
programs; a `close()` in a signal handler that interrupted a call is carried out.

Proved here: `send` (one command, several with a callback, one with a timeout), `while_present`, `transmit`, `transaction` and
`close`, on the sync face, shared and exclusive, interrupted 10,000 times each at random moments on the simulation and 1,000
times on a real daemon, by signals of another process (fewer in the usual run); SIGTERM in `send` and in `close`. Proved
elsewhere: an interrupt at each place of the lock's code (test_session_lock.py), while a card is waited for
(test_cancellation.py).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scardface.testing import PrivatePcscd
from tests.support.cards import LogCard
from tests.support.figures import tell, times

ROOT = Path(__file__).resolve().parents[2]
CALLS = ["send", "send_several", "send_in_time", "present", "transmit", "transaction", "close"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signal can be had at a random moment there")


def storm(call: str, count: int, where: str) -> None:
    """Run the program of tests/support/interrupted.py; a hang would take longer than its own bounds and the time of this."""
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-m", "tests.support.interrupted", call, str(count), where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + count / 5)
    assert done.returncode == 0, done.stderr[-2000:]
    tell(f"{'simulation' if where == 'simulation' else 'pcscd'}: {done.stdout.strip()}")


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_at_random_on_the_simulation(call: str) -> None:
    storm(call, times(200, 10_000), "simulation")


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_at_random_on_pcscd(pcscd: PrivatePcscd, call: str) -> None:
    pcscd.insert(0, LogCard())
    pcscd.wait_for_card(0)
    storm(call, times(40, 1_000), pcscd.readers[0])


PROGRAM = """
import signal, sys, threading, time
from scardface import C_APDU, ShareMode
from scardface.sync import SCard
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard

call, share = sys.argv[1:]
pcsc = SimulatedPCSC(latency={"SCardTransmit": 0.5, "SCardReleaseContext": 0.5})
pcsc.__enter__()
pcsc.add_reader("A")
pcsc.insert("A", LogCard())
card = SCard(timeout=5, share=ShareMode[share])

def leave(*_):
    card.close()
    print("handled", flush=True)
    handled.append(True)
    if call.endswith("leave"):
        sys.exit(3)

handled = []
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
try:
    if call.startswith("send"):
        print(f"{card.send(C_APDU(0, 0x10), C_APDU(0, 0x10)).sw:04X}", flush=True)
    elif call.startswith("transaction"):
        with card.transaction():
            card.send(C_APDU(0, 0x10))
    else:
        card.close()
    while not handled:  # the signal comes late on a busy machine
        time.sleep(0.01)
finally:
    assert card.closed
    pcsc.latency = 0
    end = time.monotonic() + 60
    while pcsc.open_contexts and time.monotonic() < end:
        time.sleep(0.01)
    print(f"{pcsc.open_contexts} open", flush=True)
"""


@pytest.mark.parametrize("share", ["SHARED", "EXCLUSIVE"])
@pytest.mark.parametrize(
    "call", ["send", "send, then leave", "transaction", "transaction, then leave", "close", "close, then leave"]
)
def test_a_signal_handler_that_closes_the_card(call: str, share: str) -> None:
    """It neither waits for itself nor is it lost: the call that it interrupted closes the card when it leaves."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, call, share], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    timer = threading.Timer(0.25, child.send_signal, [signal.SIGTERM])  # in the middle of a call of 0.5 s; earlier is right, too
    timer.start()
    try:
        said = child.communicate(timeout=20)[0]
    finally:
        timer.join()
        child.kill()
    assert "handled" in said
    assert said.endswith("0 open\n")
    assert child.returncode == (3 if call.endswith("leave") else 0)
    if call == "send":
        assert "9000" in said  # the batch that was interrupted has its answer
