"""The errors: pickled without loss, and what they say."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone

import pytest

from scardface.distributed import JobCancelledError, JobInterruptedError, SchedulerUnavailableError, VersionMismatchError

WHEN = datetime(2026, 11, 26, 12, 0, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("kind", [JobCancelledError, SchedulerUnavailableError, VersionMismatchError])
def test_they_can_be_pickled(kind: type[Exception]) -> None:
    assert str(pickle.loads(pickle.dumps(kind("words")))) == "words"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            JobInterruptedError("the host was lost", "h", "R 0", WHEN, "PIN verified"),
            "the host was lost: it began on host 'h' in reader 'R 0' at 2026-11-26 12:00:01 UTC; the last stage that it reached: "
            "'PIN verified'. It may begin only once and was not begun again",
        ),
        (JobInterruptedError("lost", "h", "R", WHEN), "lost: it began on host 'h' .* it had said nothing of how far it got"),
        (JobInterruptedError("lost"), "lost: it may have begun; on which host is not known; how far it got is not known"),
    ],
)
def test_what_an_interrupted_job_says(error: JobInterruptedError, words: str) -> None:
    with pytest.raises(JobInterruptedError, match=words):
        raise pickle.loads(pickle.dumps(error))
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
