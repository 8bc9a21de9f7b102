"""What was counted, compared with what an API has shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from late_exporter.simulator.log_list import LogRow
from tests.support.exporter import Counted, log_key, without_ordinal
from tests.support.oracle import created_at
from tests.support.world import World


class Sighting(NamedTuple):
    """A log in a status, as it is identified in both generations of the API: identical logs without ids are one.

    Args:
        log: Key of the log in generation zernio, without the number among identical logs, or its id.
        status: Status of a publishing log, event of a connection log.
    """

    feed: str
    log: str
    status: str


class Truth:
    """The sightings of a world, and the rows that belong to them.

    Args:
        world: The world.
        by_id: Whether all logs have ids, so that even identical ones are distinguished.
    """

    def __init__(self, world: World, *, by_id: bool) -> None:
        self._world = world
        self._by_id = by_id
        self._rows: dict[Sighting, list[LogRow]] = {}
        self._logs: dict[str, str] = {}
        self._places: dict[str, tuple[str, int | None]] = {}
        self._row_counts = [0, 0]

    @property
    def sightings(self) -> Counter[Sighting]:
        """Number of logs that ever were in the world, by sighting."""
        self._update()
        return Counter({sighting: len(rows) for sighting, rows in self._rows.items()})

    def of(self, feed: str, log_id: str, status: str) -> Sighting:
        """Return the sighting of a log of the world."""
        self._update()
        return Sighting(feed, self._logs[log_id], status)

    def log_of(self, log_id: str) -> str:
        """Return the key of a log of the world, as in its sightings."""
        self._update()
        return self._logs[log_id]

    def place_of(self, log_id: str) -> tuple[str, int | None] | None:
        """Return feed and creation time in milliseconds of a log of the world by its id; None if it has no such log."""
        self._update()
        return self._places.get(log_id)

    def counted(self, commits: Iterable[Counted]) -> Counter[Sighting]:
        """Return how often each sighting was committed; keys of unknown logs stay as they are."""
        self._update()
        return Counter(
            Sighting(each.feed, self._logs.get(each.key) or without_ordinal(each.key), each.status) for each in commits
        )

    def rows(self, counted: Counter[Sighting], feed: str, *, final_first: bool) -> list[LogRow]:
        """Return a row for each counted sighting of a feed.

        Which of some alike logs were counted as pending cannot be known: those that were counted in another status if
        ``final_first``, so that they are as few logs as possible, otherwise the others, so that they are as many.
        """
        return [
            row
            for sighting in counted
            if sighting.feed == feed
            for row in self._counted_rows(counted, sighting, final_first=final_first)
        ]

    def _counted_rows(self, counted: Counter[Sighting], sighting: Sighting, *, final_first: bool) -> list[LogRow]:
        rows = self._rows[sighting]
        if sighting.status == "pending" and counted[sighting] < len(rows):
            final_ids = {
                row["_id"]
                for other, others in self._rows.items()
                if other.feed == sighting.feed and other.log == sighting.log and other.status != "pending"
                for row in others[: counted[other]]
            }
            rows = sorted(rows, key=lambda row: (row["_id"] in final_ids) != final_first)
        return rows[: counted[sighting]]

    def _update(self) -> None:
        world = self._world
        publishing_count, connection_count = self._row_counts
        new_rows = [("publishing", row) for row in islice(world.history.values(), publishing_count, None)]
        new_rows += [("connections", row) for row in islice(world.connection_history.values(), connection_count, None)]
        self._row_counts = [len(world.history), len(world.connection_history)]
        for feed, row in new_rows:
            self._logs[row["_id"]] = log = row["_id"] if self._by_id else log_key(feed, row)
            self._places[row["_id"]] = feed, row["createdAt"] and round(created_at(row) * 1000)
            sighting = Sighting(feed, log, row.get("status") or row["eventType"])
            self._rows.setdefault(sighting, []).append(row)
