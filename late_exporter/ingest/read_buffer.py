"""Logs in memory: those that all feeds have read and not committed yet."""

from __future__ import annotations

from collections.abc import Hashable

MAX_LOGS = 20_000
"""Logs in memory, about 20 MB, beyond which each feed commits what it has after every page."""


class ReadBuffer:
    """Number of logs that are read and not committed, so that many feeds need no more memory than a few.

    Attributes:
        log_count: Number of logs of all feeds.
    """

    def __init__(self) -> None:
        self.log_count = 0
        self._counts: dict[Hashable, int] = {}

    @property
    def is_full(self) -> bool:
        return self.log_count > MAX_LOGS

    def update(self, feed: Hashable, log_count: int) -> None:
        """Set the number of logs of a feed."""
        self.log_count += log_count - self._counts.pop(feed, 0)
        if log_count:
            self._counts[feed] = log_count
