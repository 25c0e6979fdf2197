"""The processes of a fleet: a scheduler, and hosts, each with a private pcscd of its own. All of it on loopback.

Rules:

- The PC/SC service and the cards of a host are one process, which does what the lines of its standard input say, and
  `scardface serve` is another one: so either can be killed alone. The scheduler is a third.
- Each process is ended by whoever started it, by its process id. The one with the cards, and the scheduler, end with their standard
  input, so also if he is killed.
- What is asked for is answered by a line, also a failure. Nothing is waited for by the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from scardface.testing import PrivatePcscd, VirtualCard

__all__ = ["Cards", "Host", "Process", "Scheduler"]

_ROOT = Path(__file__).resolve().parents[1]
_ENDED = 30.0
"""Seconds in which a process that was told to end has ended; then it is killed."""


class FleetCard(VirtualCard):
    """Answers 9000, and the data of a command, after a constant time."""

    def __init__(self, latency: float, atr: bytes) -> None:
        self._latency, self.atr = latency, atr

    def process(self, command: bytes) -> bytes:
        if self._latency:
            time.sleep(self._latency)
        return command[5:] + b"\x90\x00"


class Process:
    """A process that says a line, and ends."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        errors: Path | None = None,
        folder: Path = _ROOT,
    ) -> None:
        """Start it.

        Args:
            command: Python's arguments.
            environment: variables beside those of this process.
            errors: a file for its standard error; None: that of this process.
            folder: where it is started.
        """
        self._errors: IO[bytes] | None = errors.open("ab") if errors is not None else None
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )

    def line(self) -> str:
        """The next line.

        Raises:
            RuntimeError: there is none; the process has ended, and has been cleaned up.
        """
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if said:
            return said.rstrip("\n")
        status = self.end()
        why = "why is on standard error" if self._errors is None else Path(self._errors.name).read_text(encoding="utf-8")
        raise RuntimeError(f"{self.process.args!r} has ended with {status}: {why}")

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self._clean()

    def end(self, number: int | None = None) -> int:
        """End it in order: by a signal, or the end of its standard input. Returns its exit status."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDED)
        self.process.kill()
        self._clean()
        return self.process.returncode

    def _clean(self) -> None:
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Scheduler:
    """A scheduler in a process of its own.

    Attributes:
        address: where it is; the same after `restart`.
    """

    def __init__(self, *, certificates: Path | None = None, errors: Path | None = None) -> None:
        """Start it.

        Args:
            certificates: a folder with ca.pem, scheduler.pem and scheduler.key, for TLS.
            errors: a file for its standard error; None: that of this process.
        """
        self._certificates, self._errors = certificates, errors
        self._start("tls://127.0.0.1:0" if certificates else "tcp://127.0.0.1:0")

    def _start(self, address: str) -> None:
        folder = "" if self._certificates is None else str(self._certificates)
        self._process = Process(["-m", "benchmarks._fleet", "scheduler", address, folder], errors=self._errors)
        self.address = self._process.line()

    def restart(self) -> None:
        """Kill it, and start it anew."""
        self._process.kill()
        self._start(self.address)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.end()


class Cards:
    """A private pcscd in a process of its own, with cards that come and go."""

    def __init__(self, readers: int, errors: Path | None = None) -> None:
        self._process = Process(["-m", "benchmarks._fleet", "cards", str(readers)], errors=errors)
        opened = json.loads(self._process.line())
        self.readers: list[str] = opened["readers"]
        self.environment = {"PCSCLITE_CSOCK_NAME": opened["socket"]}

    def ask(self, do: str, reader: int = 0, latency: float = 0.0, atr: str = "3B800181") -> float:
        """Have something done: "insert", "remove", "restart" (the service).

        Returns:
            The monotonic time at which it was done; of an insertion, at which the card began to go in.

        Raises:
            RuntimeError: it failed.
        """
        assert self._process.process.stdin is not None
        self._process.process.stdin.write(json.dumps([do, reader, latency, atr]) + "\n")
        self._process.process.stdin.flush()
        answer = json.loads(self._process.line())
        if isinstance(answer, str):
            raise RuntimeError(f"{do} {reader}: {answer}")
        return float(answer)

    def end(self) -> None:
        """End it, and the service."""
        self._process.end()


class Host:
    """A host: a private pcscd with cards, and `scardface serve`, which can be killed and started again.

    Attributes:
        name: its name.
        cards: its cards.
    """

    def __init__(self, name: str, readers: int, scheduler: str, options: Sequence[str] = (), errors: Path | None = None) -> None:
        self.name, self._scheduler, self._options, self._errors = name, scheduler, options, errors
        self.cards = Cards(readers, errors)
        self._serving: Process | None = None

    def begin(self) -> None:
        """Start `scardface serve`; `serving` waits for it."""
        command = ["-m", "scardface", "serve", self._scheduler, "--host", self.name, "--timeout", "60", *self._options]
        # What one that is killed leaves behind is in the folder of whoever started it.
        folder = {} if self._errors is None else {"TMPDIR": str(self._errors.parent)}
        self._serving = Process(command, environment={**self.cards.environment, **folder}, errors=self._errors)

    def serving(self) -> Host:
        """Return once it has the scheduler."""
        assert self._serving is not None
        self._serving.line()
        return self

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of `scardface serve`."""
        assert self._serving is not None
        return self._serving.process

    def kill(self) -> None:
        """SIGKILL for `scardface serve`; the cards stay."""
        assert self._serving is not None
        self._serving.kill()
        self._serving = None

    def end(self, number: int = signal.SIGTERM) -> int:
        """End `scardface serve` by a signal; its exit status."""
        assert self._serving is not None
        status = self._serving.end(number)
        self._serving = None
        return status

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if self._serving is not None:
                self._serving.end(signal.SIGTERM)
        finally:
            self.cards.end()


def _cards(readers: int) -> None:
    """The process of `Cards`."""
    with PrivatePcscd(readers) as pcscd:
        print(json.dumps({"readers": pcscd.readers, "socket": os.environ["PCSCLITE_CSOCK_NAME"]}), flush=True)
        for line in sys.stdin:
            print(json.dumps(_done(pcscd, *json.loads(line))), flush=True)


def _done(pcscd: PrivatePcscd, do: str, reader: int, latency: float, atr: str) -> Any:
    try:
        if do == "insert":
            pcscd.wait_for_removal(reader)  # of the card before it, or nobody would see that this is another one
            began = time.monotonic()
            pcscd.insert(reader, FleetCard(latency, bytes.fromhex(atr)))
            return began
        if do == "remove":
            pcscd.remove(reader)
            pcscd.wait_for_removal(reader)
        else:
            pcscd.stop()
            pcscd.start()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return time.monotonic()


async def _scheduler(address: str, certificates: str) -> None:
    """The process of `Scheduler`."""
    import distributed
    from distributed.security import Security

    security = None
    if certificates:
        files = {"tls_scheduler_cert": "scheduler.pem", "tls_scheduler_key": "scheduler.key", "tls_ca_file": "ca.pem"}
        security = Security(require_encryption=True, **{name: str(Path(certificates, file)) for name, file in files.items()})
    protocol, _, port = address.rpartition("//")[0].rstrip(":"), None, int(address.rpartition(":")[2])
    async with distributed.Scheduler(
        host="127.0.0.1", port=port, protocol=protocol, security=security, dashboard=False, dashboard_address="127.0.0.1:0"
    ) as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.argv[1] == "cards":
        _cards(int(sys.argv[2]))
    else:
        asyncio.run(_scheduler(*sys.argv[2:]))
