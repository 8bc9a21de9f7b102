"""The world, the API and the exporter of one program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeAlias

from tests.adversary.events import CONNECTIONS, KINDS
from tests.adversary.program import Setup
from tests.support.clock import DAY, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness, Poll
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.oracle import created_at
from tests.support.world import RETENTION, World

FEEDS = ("publishing", "connections")

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
        self.world.publish(setup.history, over=5 * DAY, kinds=KINDS)
        for number in range(setup.connections):
            event, fields = CONNECTIONS[number % len(CONNECTIONS)]
            self.world.add_connection(event, age=MINUTE * (setup.connections - number), **fields)
        self.api = FakeLateApi(
            self.world,
            latency=setup.latency,
            quirks=ListQuirks(max_page_size=setup.page_size, time_filter=setup.time_filter, max_skip=setup.max_skip),
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
    def logs(self) -> LogStatuses:
        """Logs that the API shows now and for a while."""
        since = self.world.clock.now - RETENTION + 5 * MINUTE
        archives = self.world.archives
        return {
            (feed, row["_id"], row.get("status") or row["eventType"])
            for feed, archive in (("publishing", archives.publishing), ("connections", archives.connections))
            for row in archive.rows
            if created_at(row) >= since
        }

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.world.clock.advance(seconds)
        self.fill_lists()

    def fill_lists(self) -> None:
        """Add a log to each list without a recent one: a list that has become empty would not be believed."""
        archives, since = self.world.archives, self.world.clock.now - DAY
        for archive, add_log in (
            (archives.publishing, self.world.publish),
            (archives.connections, self.world.add_connection),
        ):
            if not archive.rows or created_at(archive.rows[0]) < since:
                add_log()

    def poll(self) -> dict[str, Poll]:
        """Do what the loops of all feeds do once."""
        return {feed: result for (_, feed), result in self.exporter.poll_all().items()}
