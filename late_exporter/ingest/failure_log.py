"""Lines of the exporter's own log about failed logs, for systems that store logs, such as Loki."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from late_exporter.feeds.publishing import FEED, failure_category
from late_exporter.feeds.view import event_status, without_unknown
from late_exporter.format import iso_time
from late_exporter.log import Logger
from late_exporter.model import FAILED, LogEntry

MAX_LINES = 100
"""Failed logs of one commit that have lines of their own."""


class FailureLog:
    """Writes a line about each failed log of a feed.

    It is given logs after their commit, so a crash may lose lines, and none is repeated.

    Args:
        feed: Name of the feed.
        logger: Logger that adds the workspace and the feed.
    """

    def __init__(self, feed: str, logger: Logger) -> None:
        self._feed = feed
        self._logger = logger

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Write a line about each log that failed; of many, one line about the rest."""
        message = f"{self._feed} failed"
        failed = [entry for entry in entries if _has_failed(entry)]
        for entry in failed[:MAX_LINES]:
            self._logger.info(message, **self._fields(entry))
        if len(failed) > MAX_LINES:
            omitted = len(failed) - MAX_LINES
            self._logger.info("further failed logs are not listed", logs=omitted)

    def _fields(self, entry: LogEntry) -> Mapping[str, object]:
        """Return the fields of a log that have a value.

        Their texts are short and contain no key.
        """
        fields = {
            "platform": entry.platform,
            "action": entry.action,
            "account_id": entry.account_id,
            "username": without_unknown(entry.username),
            "post_id": entry.post_id,
            "status_code": entry.status_code,
            "error_code": without_unknown(entry.error_code),
            "category": failure_category(entry) if self._feed == FEED.name else None,
            "error": entry.error,
            "created": None if entry.created is None else iso_time(entry.created, precise=True),
        }
        return {name: value for name, value in fields.items() if value not in (None, "")}


def _has_failed(entry: LogEntry) -> bool:
    """Return whether a log failed; the name of a connection event says so, and is its status."""
    return entry.status == FAILED or event_status(entry.status) == FAILED
