"""The world, the API and the exporter of one program."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TypeAlias

from late_exporter.ingest.poller import Poller
from late_exporter.ingest.schedule import PollConfig, PollResult
from late_exporter.ingest.sync import MIN_SETTLEMENT_CHECKS
from late_exporter.model import Scope
from tests.adversary.api import HostileApi
from tests.adversary.events import CONNECTIONS
from tests.adversary.program import Setup
from tests.support.clock import DAY, MINUTE, VirtualClock
from tests.support.events import KINDS
from tests.support.exporter import ExporterHarness
from tests.support.late_api import ListQuirks
from tests.support.oracle import created_at
from tests.support.scans import whole_scan_interval
from tests.support.steps import drive, drive_together
from tests.support.world import RETENTION, World

FEEDS = ("publishing", "connections")
PUBLISHING = Scope("default", "publishing")

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
    polls: int = 0
    kills: int = 0
    restarts: int = 0
    switches: int = 0
    requests: int = 0
    logs: int = 0
    observations: int = 0
    not_yet: Counter[str] = dataclasses.field(default_factory=Counter)

    def __str__(self) -> str:
        names = ("programs", "polls", "kills", "restarts", "switches", "requests", "logs", "observations")
        return ", ".join(f"{getattr(self, name):,} {name}" for name in names)


class Scene:
    """A world, the API that shows it, and an exporter of both feeds that has not polled.

    Attributes:
        setup: How they are made.
        totals: Counts what happens.
    """

    def __init__(self, setup: Setup, path: Path, totals: Totals) -> None:
        self.setup = setup
        self.totals = totals
        self.world = World(VirtualClock(), distinct_times=setup.distinct_times)
        self._insert_history()
        self.api = HostileApi(
            self.world,
            latency=setup.latency,
            sends_date=setup.has_dates,
            quirks=ListQuirks(max_page_size=setup.page_size, time_filter=setup.time_filter),
            generation=setup.generation,
        )
        # Counts of time windows are compared in the whole list each time.
        self._counts_windows = setup.generation == "zernio" and setup.time_filter not in ("ignored", "rejected")
        config = PollConfig(reconcile_interval=setup.reconcile_interval, audit_interval=setup.audit_interval)
        self.exporter = ExporterHarness(self.api, path, feeds=FEEDS, config=config, generation="auto")

    def close(self) -> None:
        totals = self.totals
        totals.programs += 1
        totals.requests += len(self.api.requests)
        totals.logs += len(self.world.insertion_order) + len(self.world.connection_history)
        totals.observations += len(self.exporter.commit_log)
        self.exporter.close()

    @property
    def scan_interval(self) -> float:
        """Seconds between two scans of the whole list."""
        # No time window has the logs without a time, and a scan of a quiet feed needs no more than its first page.
        has_undated = any(row["createdAt"] is None for row in self.world.rows)
        interval = self.setup.reconcile_interval
        return interval if self._counts_windows and not has_undated else whole_scan_interval(interval)

    @property
    def pending_polls(self) -> int:
        """Polls that read the list of pending logs twice, page by page, and again for every few that are gone."""
        listed_count = sum(1 for row in self.world.rows if row["status"] == "pending")
        gone_count = max(0, len(self.exporter.recorders[PUBLISHING].pending_logs) - listed_count)
        return (2 + listed_count // (self.setup.page_size - 2)) * (2 + gone_count // MIN_SETTLEMENT_CHECKS)

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

    def poll(self, steps: int | None = None) -> dict[str, PollResult]:
        """Do what the loops of all pollers do once; raise Killed if that takes more steps than allowed."""
        self.totals.polls += len(FEEDS)
        works = [_poll_feed(poller) for poller in self.exporter.pollers.values()]
        return dict(zip(FEEDS, drive_together(works, steps), strict=True))

    def catch_up(self) -> None:
        """Do what a process does that ends once nothing is left to read."""
        self.totals.polls += len(FEEDS)
        latency = self.api.latency
        self.api.latency = latency or MIN_LATENCY
        for poller in self.exporter.pollers.values():
            drive(poller.catch_up())
            drive(poller.save_requests())
        self.api.latency = latency

    def reads_new_logs(self, feed: str) -> bool:
        """Return whether a feed is read from the list that has its logs; an empty one is left after ten minutes."""
        generation = self.exporter.pollers[Scope("default", feed)].generation
        return not self.api.vanished or generation == "zernio"

    def can_read_new_logs(self, new_count: int) -> bool:
        """Return whether a poll finds what is new without the broken row."""
        row = self.api.broken_row
        if row is None:
            return True
        coverage = self.exporter.recorders[PUBLISHING].coverage
        ids = self.world.ids
        depth = ids.index(row["_id"]) if row["_id"] in ids else len(ids)
        is_complete = coverage is not None and coverage.is_synced and not coverage.gaps
        return is_complete and depth >= new_count + 2 * self.setup.page_size

    def _insert_history(self) -> None:
        setup = self.setup
        self.world.publish(setup.history, over=5 * DAY, kinds=KINDS)
        for number in range(setup.connections):
            event, fields = CONNECTIONS[number % len(CONNECTIONS)]
            self.world.add_connection(event, age=MINUTE * (setup.connections - number), **fields)


async def _poll_feed(poller: Poller) -> PollResult:
    """Do what the poller's loop does once."""
    result = await poller.poll()
    await poller.examine_generation(result)
    return result
