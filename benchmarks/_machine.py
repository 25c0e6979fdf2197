"""When, on which machine and with which versions a run was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

__all__ = ["machine"]

_PACKAGES = ("anyio", "trio", "uvloop", "pyscard", "yubikey-manager")


def machine() -> dict[str, str]:
    """What a reader of the figures has to know, by name."""
    known = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "pcscd": _pcscd(),
        "scardface": _version_here(),
    }
    for package in _PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            known[package] = "not installed"
    return known


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _pcscd() -> str:
    command = shutil.which("pcscd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        return "not installed"
    said = subprocess.run([command, "--version"], capture_output=True, text=True).stdout.split()
    return said[2].rstrip(".") if len(said) > 2 else "unknown"


def _version_here() -> str:
    import scardface

    return scardface.__version__
