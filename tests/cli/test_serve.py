"""`scardface serve`: its options, and how it ends. That cards are served is in tests/distributed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.support.command_line import BOUND, ROOT, Command

pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason="distributed is not installed: pip install -e '.[distributed]'"
)

NOWHERE = "tcp://127.0.0.1:1"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Missing argument 'SCHEDULER'"),
        (("scheduler:8786",), "tcp://HOST:PORT or tls://HOST:PORT"),
        ((NOWHERE, "--label", "visa"), "'visa' is not NAME=ATR"),
        ((NOWHERE, "--label", "=3B"), "'=3B' is not NAME=ATR"),
        ((NOWHERE, "--label", "visa=("), "no regular expression"),
        ((NOWHERE, "--label", "card=3B"), "that of all cards"),
        ((NOWHERE, "--label", "a b=3B"), "no label"),
        ((NOWHERE, "--label", "a=3B", "--label", "a=3F"), "given twice"),
        ((NOWHERE, "--timeout", "0"), "more than 0"),
        ((NOWHERE, "--host", ""), "not empty"),
        ((NOWHERE, "--tls-cert", "host.pem"), "tls://"),
        (("tls://127.0.0.1:1", *(word for name in ("ca-file", "cert", "key") for word in (f"--tls-{name}", "no.pem"))), "no.pem"),
        (("tls://127.0.0.1:1",), "needs certificates"),
    ],
)
def test_wrong_usage_is_one_sentence(scardface: Command, words: tuple[str, ...], says: str) -> None:
    done = scardface("serve", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert says in done.err


def test_no_scheduler(scardface: Command) -> None:
    import distributed  # noqa: F401  it sets the level

    level = logging.getLogger("distributed").level
    done = scardface("serve", NOWHERE, "--timeout", "0.5", "--virtual")
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith(f"scardface: no scheduler answered at {NOWHERE} within 0.5 s")
    assert logging.getLogger("distributed").level == level, "Dask's own log is as before"


SCHEDULER = """
import asyncio, sys
from distributed import Scheduler

async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    command = [sys.executable, "-c", SCHEDULER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(scheduler: str, number: signal.Signals, status: int) -> None:
    command = [sys.executable, "-m", "scardface", "serve", scheduler, "--virtual", "--json", "--host", "h", "--label", "any=3B"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            told = [json.loads(process.stdout.readline())["message"] for _ in range(2)]
            process.send_signal(number)
            out, err = process.communicate(timeout=BOUND)
        finally:
            process.kill()
    assert process.returncode == status, err
    assert err == ""
    assert told[0] == f"host 'h' serves its cards to {scheduler}"
    assert "is served as card, any" in told[1]
    assert "not served any more" in json.loads(out)["message"]


def test_a_signal_ends_the_wait_for_a_scheduler() -> None:
    command = [sys.executable, "-m", "scardface", "serve", NOWHERE, "--virtual", "--retry", "--timeout", "0.5"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert "it is waited for" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=BOUND)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")
