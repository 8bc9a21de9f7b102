"""What was counted, compared with what an API has shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

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

    Attributes:
        logs: Key of each log of the world, as in its sightings, by its id.
        places: Feed and creation time in milliseconds of each log of the world, by its id.
    """

    def __init__(self, world: World, *, by_id: bool) -> None:
        self._histories: Mapping[str, Mapping[Any, LogRow]] = {
            "publishing": world.history,
            "connections": world.connection_history,
        }
        self._by_id = by_id
        self._rows: dict[Sighting, list[LogRow]] = {}
        self._row_counts = dict.fromkeys(self._histories, 0)
        self.logs: dict[str, str] = {}
        self.places: dict[str, tuple[str, int]] = {}

    @property
    def sightings(self) -> Counter[Sighting]:
        """Number of logs that ever were in the world, by sighting."""
        return Counter({sighting: len(rows) for sighting, rows in self._rows.items()})

    def counted(self, commits: Iterable[Counted]) -> Counter[Sighting]:
        """Return how often each sighting was committed; keys of unknown logs stay as they are."""
        return Counter(
            Sighting(each.feed, self.logs.get(each.key) or without_ordinal(each.key), each.status) for each in commits
        )

    def rows(self, counted: Counter[Sighting], feed: str) -> list[LogRow]:
        """Return a row for each counted sighting of a feed; those of identical logs have the same labels and values."""
        return [row for each in counted if each.feed == feed for row in self._rows[each][: counted[each]]]

    def update(self) -> None:
        """Read what is new in the world."""
        for feed, history in self._histories.items():
            for row in islice(history.values(), self._row_counts[feed], None):
                log = row["_id"] if self._by_id else log_key(feed, row)
                self.logs[row["_id"]] = log
                self.places[row["_id"]] = feed, round(created_at(row) * 1000)
                sighting = Sighting(feed, log, row.get("status") or row["eventType"])
                self._rows.setdefault(sighting, []).append(row)
            self._row_counts[feed] = len(history)
