"""The scheduler, as a host sees it: whether it answers, and whether it is of the same version; the versions of both ends of a job.

Rules:

- Before anything is served, the scheduler is asked for its versions, within a timeout.
- Dask's own versions must be the same on a host and the scheduler; of a job's two ends also scardface's and Python's (without its
  patch level): the function travels as Python's byte code.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed.core import rpc
from distributed.security import Security

from .. import __version__
from ._errors import SchedulerUnavailableError, VersionMismatchError

_DASK = ("dask", "distributed")
_BOTH_ENDS = ("python", *_DASK, "scardface")


def own_versions() -> dict[str, str]:
    """The versions of this process, by package; of Python two numbers."""
    found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "scardface": __version__}
    for package in _DASK:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # in a program that brings it along without its metadata
            continue
    return found


def differences(mine: Mapping[str, str], theirs: Mapping[str, Any], packages: tuple[str, ...] = _BOTH_ENDS) -> list[str]:
    """The packages that both name with different versions: "dask 2026.8.0 here and 2026.7.1 there"."""
    pairs = [(name, mine.get(name), theirs.get(name)) for name in packages]
    return [f"{name} {here} here and {there} there" for name, here, there in pairs if here and there and here != there]


def check_certificates(security: Security, address: str) -> None:
    """See whether a worker's certificates can be read, before anybody is connected to.

    Raises:
        ValueError: they cannot, or there are none for a scheduler at "tls://"; names the files.
    """
    try:
        context = security.get_connection_args("worker").get("ssl_context")
    except OSError as error:  # of the ssl module too, which names no file
        files = [getattr(security, name) for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key")]
        raise ValueError(f"certificates cannot be read from {', '.join(map(str, filter(None, files)))}: {error}") from error
    if context is None and address.startswith("tls://"):
        raise ValueError(f"{address} needs certificates: tls_ca_file, tls_worker_cert and tls_worker_key of a Security")


def check_job(theirs: Mapping[str, Any], host: str) -> None:
    """Compare the versions of who submitted a job with this host's.

    Raises:
        VersionMismatchError: they differ.
    """
    found = differences(own_versions(), theirs)
    if found:
        raise VersionMismatchError(f"host {host!r} (here) and the client that submitted the job (there) differ: {'; '.join(found)}")


async def check_scheduler(address: str, security: Security, timeout: float, host: str) -> None:
    """Ask the scheduler for its versions.

    Args:
        timeout: seconds.
        host: this host's name.

    Raises:
        SchedulerUnavailableError: it does not answer within the timeout, or not as a scheduler does.
        VersionMismatchError: its versions of Dask differ from this host's.
    """
    try:
        answer = await asyncio.wait_for(_versions(address, security, timeout), timeout)
    except asyncio.TimeoutError:
        raise SchedulerUnavailableError(f"no scheduler answered at {address} within {timeout:g} s") from None
    except Exception as error:  # of TLS, and whatever something else that answered makes of Dask's protocol
        why = f"{type(error).__name__}: {error}"
        raise SchedulerUnavailableError(f"no scheduler answered at {address} within {timeout:g} s ({why})") from error
    packages = answer.get("packages") if isinstance(answer, dict) else None
    if not isinstance(packages, dict):
        raise SchedulerUnavailableError(f"what answered at {address} is no scheduler")
    found = differences(own_versions(), packages, _DASK)
    if found:
        raise VersionMismatchError(f"host {host!r} (here) and the scheduler at {address} (there) differ: {'; '.join(found)}")


async def _versions(address: str, security: Security, timeout: float) -> Any:
    async with rpc(address, timeout=timeout, connection_args=security.get_connection_args("worker")) as scheduler:
        return await scheduler.versions()
