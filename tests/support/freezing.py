"""A service that is frozen: its process stands still, and answers nobody."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.waits import wait_until


def freeze(pid: int) -> None:
    """Stop a process by SIGSTOP; return once it stands still: on a busy machine its threads go on for a moment, and answer."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")  # Linux, where the daemon is
    wait_until(lambda: all(_is_stopped(task) for task in tasks.iterdir()))


def _is_stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] in "TXZ"
    except OSError:  # it has just ended
        return True
