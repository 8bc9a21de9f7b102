"""Names of what the adversary checks."""

from __future__ import annotations

from collections.abc import Mapping

CHECKS: Mapping[str, str] = {
    "twice": "No log counts twice in a status, and none that the API has not shown.",
    "values": "Every family has the values of the counted logs, label set by label set.",
    "falls": "No counter falls, and no series vanishes, except that a feed is hidden from a start to a complete poll.",
    "missed by poll": "A new log counts with the first complete poll that lists it.",
    "missed": "Every log counts within one reconciliation.",
    "late row": "A log that arrives up to 15 minutes late counts within three polls.",
    "history": "What the API holds when it is first read is counted before it is exposed.",
    "pending": "The gauge of pending logs has every log that was counted as pending and is.",
    "pending at rest": "At rest, the gauge of pending logs is exact.",
    "outcome": "A poll without trouble succeeds.",
    "one request": "One request that fails forever, other than for new logs, fails no poll.",
    "scan": "A reconciliation scan completes.",
    "requests": "At rest, a poll is one request, or two if a pending log is below the first page.",
    "audit": "The background audit finds no difference.",
    "switch": "After a switch of the generation, the exporter counts only what is newer than all counted.",
}
"""What each check asserts."""


class Wrong(AssertionError):
    """A check does not hold.

    Args:
        check: Its name.
        detail: What was found.
    """

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {CHECKS[check]} {detail}")
        self.check = check
