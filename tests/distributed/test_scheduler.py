"""Which versions are compared, and how differences are told. The rest is in test_host.py and test_jobs.py."""

from __future__ import annotations

import sys

import pytest

import scardface
from scardface.distributed import VersionMismatchError
from scardface.distributed import _scheduler as scheduler


def test_own_versions() -> None:
    own = scheduler.own_versions()
    assert own["scardface"] == scardface.__version__
    assert own["python"] == ".".join(map(str, sys.version_info[:2]))
    assert {"dask", "distributed"} <= set(own)


def test_what_only_one_end_names_is_no_difference() -> None:
    assert not scheduler.differences({"dask": "1"}, {"distributed": "2"})
    assert not scheduler.differences({"dask": "1", "other": "1"}, {"dask": "1", "other": "2"})
    assert scheduler.differences({"dask": "1", "python": "3.10"}, {"dask": "2", "python": "3.11"}) == [
        "python 3.10 here and 3.11 there",
        "dask 1 here and 2 there",
    ]


def test_a_job_of_another_python() -> None:
    scheduler.check_job(scheduler.own_versions(), "h")
    with pytest.raises(VersionMismatchError, match=r"host 'h' .here. .* python 3\.\d+ here and 2\.7 there"):
        scheduler.check_job({"python": "2.7"}, "h")
