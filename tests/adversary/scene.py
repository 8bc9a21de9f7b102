"""The world, the API and the exporter of one program."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TypeAlias

from tests.adversary.api import HostileApi
from tests.adversary.events import CONNECTIONS, KINDS
from tests.adversary.program import Setup
from tests.support.clock import DAY, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness, Poll
from tests.support.late_api import ListQuirks
from tests.support.oracle import created_at
from tests.support.world import RETENTION, World

FEEDS = ("publishing", "connections")

CHECKS_PER_POLL = 5
"""Pending logs that are not listed any more, and are looked up in one poll, at least."""

MIN_LATENCY = 0.1
"""Seconds of a request while a process catches up, which takes time until it has no more."""

Rows: TypeAlias = dict[str, tuple[str, str]]
"""Feed and status of the rows of both lists, by id."""

LogStatuses: TypeAlias = set[tuple[str, str, str]]
"""Logs in a status: feed, id and status."""


@dataclasses.dataclass
class Totals:
    """Numbers of what was tried."""

    programs: int = 0
    requests: int = 0
    observations: int = 0

    def __str__(self) -> str:
        return f"{self.programs:,} programs, {self.requests:,} requests, {self.observations:,} observations"


class Scene:
    """A world, the API that shows it, and an exporter of both feeds that has not polled.

    Attributes:
        setup: How they are made.
        totals: Counts what happens.
    """

    def __init__(self, setup: Setup, path: Path | str, totals: Totals) -> None:
        self.setup = setup
        self.totals = totals
        self.world = World(VirtualClock(), distinct_times=setup.distinct_times)
        self._insert_history()
        # Without a filter by time, nothing leads beyond a limit of skip.
        is_filtered = setup.time_filter not in ("ignored", "rejected")
        self.api = HostileApi(
            self.world,
            latency=setup.latency,
            sends_date=setup.has_dates,
            quirks=ListQuirks(
                max_page_size=setup.page_size,
                time_filter=setup.time_filter,
                max_skip=setup.max_skip if is_filtered else None,
            ),
            generation=setup.generation,
        )
        self.exporter = ExporterHarness(
            self.api,
            path,
            feeds=FEEDS,
            generation="auto",
            commit_size=setup.commit_size,
            reconcile_interval=setup.reconcile_interval,
            audit_interval=setup.audit_interval,
        )
        self._is_complete = False

    def close(self) -> None:
        totals = self.totals
        totals.programs += 1
        totals.requests += len(self.api.requests)
        totals.observations += len(self.exporter.counted)
        self.exporter.close()

    @property
    def scan_interval(self) -> float:
        """Seconds within which the whole list is read, by the next scan or once a day."""
        return max(self.setup.reconcile_interval, DAY)

    @property
    def pending_polls(self) -> int:
        """Polls that read the list of pending logs twice, page by page, and again for every few that are gone."""
        listed_count = sum(1 for row in self.world.rows if row["status"] == "pending")
        gone_count = max(0, int(self.exporter.scrape().sum("late_publishing_pending_logs")) - listed_count)
        return (2 + listed_count // (self.setup.page_size - 2)) * (2 + gone_count // CHECKS_PER_POLL)

    @property
    def has_dense_time(self) -> bool:
        """Whether half a page of logs ever had one time, which is then read as a whole."""
        histories = (self.world.history, self.world.connection_history)
        counts = [Counter(row["createdAt"] for row in history.values()) for history in histories]
        return any(count >= self.setup.page_size // 2 for times in counts for count in times.values())

    @property
    def time_pages(self) -> int:
        """Most pages that are read of a range of time to have all logs of a time."""
        seconds = Counter(int(created_at(row)) for row in self.world.rows if row["createdAt"] is not None)
        most = max((sum(seconds[second + n] for n in range(4)) for second in seconds), default=0)
        return 1 + most // (self.setup.page_size - 2)

    @property
    def rows(self) -> Rows:
        """Rows that the API shows."""
        archives = self.world.archives
        return {
            **{row["_id"]: ("publishing", row["status"]) for row in archives.publishing.rows},
            **{row["_id"]: ("connections", row["eventType"]) for row in archives.connections.rows},
        }

    @property
    def lasting(self) -> LogStatuses:
        """Logs that the API shows now and for a while."""
        since = self.world.clock.now - RETENTION + 5 * MINUTE
        archives = self.world.archives
        return {
            (feed, row["_id"], row.get("status") or row["eventType"])
            for feed, archive in (("publishing", archives.publishing), ("connections", archives.connections))
            for row in archive.rows
            if row["createdAt"] is None or created_at(row) >= since
        }

    def has_rows(self, feed: str) -> bool:
        """Return whether a list has logs; one that has become empty is not believed."""
        return any(name == feed for name, _ in self.rows.values())

    def poll(self) -> dict[str, Poll]:
        """Do what the loops of all feeds do once."""
        results = {feed: result for (_, feed), result in self.exporter.poll_all().items()}
        publishing = results["publishing"]
        self._is_complete = publishing.error is None and not publishing.is_partial
        return results

    def kill(self, steps: int, downtime: float) -> bool:
        """Kill the process at a step of its polls; return whether they took so many steps."""
        self._is_complete = False
        return self.exporter.kill(steps, downtime)

    def catch_up(self) -> None:
        """Do what a process does that ends once nothing is left to read."""
        latency = self.api.latency
        self.api.latency = latency or MIN_LATENCY
        for feed in FEEDS:
            self.exporter.run_once(feed)
        self._is_complete = False
        self.api.latency = latency

    def is_synced(self, feed: str) -> bool:
        """Return whether the logs of a feed are shown."""
        return bool(self.exporter.scrape().family("late_exporter_coverage_start_timestamp_seconds", feed=feed))

    def reads_new_logs(self, feed: str) -> bool:
        """Return whether a feed is read from the list that has its logs."""
        if not self.api.vanished:
            return True
        retention = self.exporter.scrape().family("late_exporter_retention_seconds", feed=feed)
        return max(retention.values(), default=0.0) > RETENTION

    def can_read_new_logs(self, new_count: int) -> bool:
        """Return whether a poll finds what is new without the broken row."""
        row = self.api.broken_row
        if row is None:
            return True
        ids = self.world.ids
        depth = ids.index(row["_id"]) if row["_id"] in ids else len(ids)
        return self._is_complete and depth >= new_count + 2 * self.setup.page_size

    def _insert_history(self) -> None:
        setup = self.setup
        self.world.publish(setup.history, over=5 * DAY, kinds=KINDS)
        for number in range(setup.connections):
            event, fields = CONNECTIONS[number % len(CONNECTIONS)]
            self.world.add_connection(event, age=MINUTE * (setup.connections - number), **fields)
