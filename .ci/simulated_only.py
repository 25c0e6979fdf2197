"""Pytest plugin of `nox -s core` and `nox -s lowest -- core`: leaves out tests that need a PC/SC daemon, or pyscard's binding where
there is none.
"""

from __future__ import annotations

import importlib.util

import pytest

NEED_IT = {"_daemon", "foreign", "pcscd"} | (set() if importlib.util.find_spec("smartcard") else {"scard"})
"""Fixtures of tests/conftest.py."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if NEED_IT & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
