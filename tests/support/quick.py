"""`--quick`: the tests that need no PC/SC daemon and hardly a process of their own, to be run after a small change.

Left out are those that ask for the daemon, those with the mark `slow`, and the files below, which try promises hundreds of times or
start processes. An async test runs on one event loop (tests/support/faces.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

DAEMON = {"_daemon", "_emptied", "foreign", "pcscd"}
"""Fixtures that need it."""

LEFT_OUT = {
    *("benchmarks", "facts", "promises", "cli/test_demo.py", "cli/test_init.py", "cli/test_shell.py", "cli/test_watch.py"),
    *("cli/test_serve.py", "distributed", "examples/test_web_readers.py"),
    *("test_conftest.py", "test_loop_watch.py", "test_measuring.py", "test_packaging.py", "test_pytest_plugin.py"),
    *("test_readme.py", "test_readme_console.py", "testing/test_pcscd_namespace.py", "testing/test_private_pcscd.py"),
}
"""What stands below tests/."""


def is_left_out(path: Path) -> bool:
    """Whether a folder or file is not even read."""
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix() in LEFT_OUT


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the daemon, and what is slow."""
    left_out = {
        item
        for item in items
        if DAEMON & set(getattr(item, "fixturenames", ())) or "[real" in item.nodeid or item.get_closest_marker("slow")
    }
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
