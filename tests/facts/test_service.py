"""Facts about a service that ends or is frozen, and about forks; the numbers are those of docs/pcsc-facts.md."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from smartcard import scard

from scardface.errors import COMM_ERROR, NO_SERVICE, SECURITY_VIOLATION, SUCCESS
from scardface.testing import PrivatePcscd
from tests.support.bare import Establish, coded, in_a_process, list_readers, opened, put_in, state_of, status_change, transmit
from tests.support.conformance import PATIENCE, Call, SlowCard
from tests.support.freezing import freeze

DEAD = {COMM_ERROR, NO_SERVICE, SECURITY_VIOLATION}
SELECT = bytes.fromhex("00a40000")


def test_what_calls_answer_when_the_service_dies(pcscd: PrivatePcscd, establish: Establish, reader: str) -> None:
    """Fact 22: a context is dead for good, also when the service is back, and does not know it."""
    card, waits, exchanges, idle = SlowCard(), establish(), establish(), establish()
    put_in(pcscd, reader, card)
    exchange = Call(transmit, opened(exchanges, reader), SELECT)
    wait = Call(status_change, waits, 20_000, (reader, state_of(waits, reader)))
    assert card.asked.wait(PATIENCE)
    os.kill(pcscd.pid, signal.SIGKILL)
    assert exchange.result()[0] == COMM_ERROR
    assert wait.result()[0] in DEAD  # it may have come too late to be blocked
    card.go.set()
    assert list_readers(idle) in DEAD
    assert coded(scard.SCardIsValidContext, idle) == coded(scard.SCardCancel, idle) == SUCCESS
    pcscd.stop()
    pcscd.start()
    assert list_readers(idle) == NO_SERVICE
    assert coded(scard.SCardReleaseContext, idle) == NO_SERVICE
    assert list_readers(establish()) == SUCCESS


def test_a_frozen_service_holds_everything_up(pcscd: PrivatePcscd, establish: Establish, context: int, reader: str) -> None:
    """Fact 23: a status call past its timeout, too."""
    state = state_of(context, reader)
    freeze(pcscd.pid)
    try:
        wait = Call(status_change, context, 50, (reader, state))
        begin = Call(establish)
        assert not wait.ended(0.5)
        assert not begin.ended()
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)
    wait.result()
    begin.result()


FORK = """
import os
from smartcard import scard

def opened():
    context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)[1]
    reader = scard.SCardListReaders(context, [])[1][0]
    return context, scard.SCardConnect(context, reader, scard.SCARD_SHARE_DIRECT, 0)[1]

def child(run):
    pid = os.fork()
    if not pid:
        os._exit(run())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

context, handle = opened()
print(scard.SCardStatus(handle)[0])
child(lambda: bool(scard.SCardReleaseContext(context)))
print(scard.SCardStatus(handle)[0])
print(child(lambda: bool(scard.SCardStatus(opened()[1])[0])))
"""


def test_a_child_that_releases_takes_its_parents_context(pcscd: PrivatePcscd) -> None:
    """Fact 9: a context of the child's own works."""
    done = in_a_process(FORK)
    before, after, child = map(int, done.stdout.split())
    assert before == child == SUCCESS, done.stderr
    assert after != SUCCESS


def test_a_full_queue_of_connections_is_told_at_once(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    """Fact 78: whatever the timeout of the socket, on Linux; so does the socket of a frozen service."""
    path, clients = str(tmp_path / "socket"), []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        try:
            for _ in range(4):
                clients.append(socket.socket(socket.AF_UNIX))
                clients[-1].settimeout(3600)
                try:
                    clients[-1].connect(path)
                except BlockingIOError:
                    return
            raise AssertionError("the queue never was full")
        finally:
            for client in clients:
                client.close()
