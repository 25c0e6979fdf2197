"""What can go wrong between a job and its card, beyond PC/SC's own errors and what the job raises.

Rules:

- Errors can be pickled without loss: they travel from a host to whoever waits for the job.
- None of them is a CancelledError, as some of Dask's are: a job that was lost is no task that was cancelled.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any


class SchedulerUnavailableError(ConnectionError):
    """No scheduler could be reached in time, or it did not answer as one."""


class VersionMismatchError(RuntimeError):
    """Two ends have different versions of Dask, scardface or Python; the text names both ends and each version."""


class JobCancelledError(RuntimeError):
    """The job was cancelled by somebody else than who waits for it: `Client.cancel`, `Client.restart`, or a client that closed."""


class JobInterruptedError(RuntimeError):
    """A job that may begin only once (`once=True`) was lost after it had begun, and was not begun again.

    Its card was pulled, its host was killed or stopped, or the scheduler went away. What it did to the card is done.

    Attributes:
        host: the name of the host that it ran on; None if that is not known.
        reader: the reader that its card was in; None if that is not known.
        began: when it began, by that host's clock, in UTC; None if that is not known.
        stage: the last word that it gave to `reached`; None if it had given none, or if that is not known.
    """

    def __init__(
        self,
        reason: str,
        host: str | None = None,
        reader: str | None = None,
        began: datetime | None = None,
        stage: str | None = None,
    ) -> None:
        """Make the error.

        Args:
            reason: what happened, as the beginning of a sentence.
        """
        super().__init__(reason)
        self.reason: str = reason
        self.host: str | None = host
        self.reader: str | None = reader
        self.began: datetime | None = began
        self.stage: str | None = stage

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.host, self.reader, self.began, self.stage)

    def __str__(self) -> str:
        where = "it may have begun; on which host is not known"
        if self.host is not None:
            at = "" if self.began is None else f" at {self.began.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
            where = f"it began on host {self.host!r} in reader {self.reader!r}{at}"
        far = "it had said nothing of how far it got" if self.stage is None else f"the last stage that it reached: {self.stage!r}"
        if self.host is None:
            far = "how far it got is not known"
        return f"{self.reason}: {where}; {far}. It may begin only once and was not begun again"
