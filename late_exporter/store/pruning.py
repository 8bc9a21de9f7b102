"""Delete logs that have expired."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from late_exporter.store.database import Transaction, select_in

PRUNE_SECONDS, PRUNE_LOGS = 60.0, 2_000
"""Seconds between two commits of a feed that look for expired logs, and how many of its rows each of them reads."""

PART = "SELECT key, created FROM late_log WHERE feed = ? AND key > ? ORDER BY key LIMIT ?"
LAST_KEY = f"SELECT max(key) FROM ({PART}) AS part"  # noqa: S608 - constants
EXPIRED = f"SELECT DISTINCT key FROM ({PART}) AS part WHERE created < ?"  # noqa: S608 - constants
DELETE = "DELETE FROM late_log WHERE feed = ? AND key IN {values} RETURNING key"


class Expired(NamedTuple):
    """Logs that were deleted, and the number of their observations."""

    keys: Collection[str] = ()
    observation_count: int = 0


class LogPruner:
    """Walks over the logs of each feed, again and again, some rows with each commit; there is no index on their times.

    A million logs take eight hours, in which as many more expire as the API has added in eight
    hours of its week.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[float, str]] = {}

    def prune(self, transaction: Transaction, feed_id: int, before: int | None) -> Expired:
        """Delete expired logs if that is due.

        Args:
            transaction: Transaction of a commit.
            feed_id: Id of the feed.
            before: Time in milliseconds before which logs have expired; None if it is unknown.
        """
        now = time.monotonic()
        pruned_at, after = self._places.get(feed_id, (now - PRUNE_SECONDS, ""))
        if before is None or now < pruned_at + PRUNE_SECONDS:
            return Expired()
        part = (feed_id, after, PRUNE_LOGS)
        last_row, expired_rows = (
            transaction.execute(LAST_KEY, part),
            transaction.execute(EXPIRED, (*part, before)),
        )
        (last_key,) = last_row.fetchone()
        keys = [key for (key,) in expired_rows]
        self._places[feed_id] = now, last_key or ""
        return Expired(keys, sum(1 for _ in select_in(transaction, DELETE, keys, feed_id)))
