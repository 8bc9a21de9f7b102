"""Compare an exporter with the truth: what it has committed, and what it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import pytest

from tests.adversary.checks import ALIKE_PENDING, Wrong
from tests.adversary.scene import FEEDS, LogStatuses, Scene
from tests.adversary.truth import Sighting, Truth
from tests.support.clock import HOUR
from tests.support.exporter import Counted
from tests.support.oracle import Oracle, expected_pending
from tests.support.samples import Samples

PAGE_EDGES = 2

TIME_READINGS = 3
"""Readings of all logs of a time: a settlement check, and two that have to agree if it has several pages."""

COVERAGE_START = "late_exporter_coverage_start_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"


class Observer:
    """Watches one exporter over its restarts.

    Args:
        scene: The exporter to watch, and its world.
        history: Returns feed, id and status of the logs that the API had at first and still has.

    Attributes:
        is_misled: Whether the list has ever lied about itself.
        has_alike_logs: Whether some logs cannot be distinguished.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        history: Callable[[], LogStatuses],
    ) -> None:
        self._scene = scene
        self._exporter, self._world = scene.exporter, scene.world
        self._history = history
        self._truth = Truth(scene.world, by_id=not scene.setup.can_lack_ids)
        self._counted: Counter[Sighting] = Counter()
        self._keys: set[Counted] = set()
        self._commit_count = 0
        self._shown = Samples()
        self._visible: dict[str, float] = {}
        self.is_misled = False
        self.has_alike_logs = False
        self._newest: dict[str, int] = {}
        self._is_switched = False

    def report(self, check: str, detail: str) -> None:
        """Raise Wrong, unless the check cannot hold."""
        if not (self.has_alike_logs and check in ALIKE_PENDING):
            raise Wrong(check, detail)

    def expect(self, condition: object, check: str, detail: str) -> None:
        """Report a check unless a condition holds."""
        if not condition:
            self.report(check, detail)

    def require(self, logs: Iterable[tuple[str, str, str]], check: str) -> None:
        """Report a check unless logs, by feed, id and status, are counted, or lost in a switch."""
        self._read_commits()
        missing = Counter(self._truth.of(*log) for log in logs if not self.is_lost(log[1])) - self._counted
        self.expect(not missing, check, f"{missing.total()} logs, {next(iter(missing), None)}")

    def uncounted_ids(self, log_ids: Iterable[str]) -> set[str]:
        """Return the ids of the logs that are counted in no status, except those that are lost in a switch."""
        self._read_commits()
        logs = {sighting.log for sighting in self._counted}
        return {log_id for log_id in log_ids if self._truth.log_of(log_id) not in logs and not self.is_lost(log_id)}

    def note_switch(self) -> None:
        """The lists of generation late are gone: of each feed, only logs newer than all counted ones count."""
        self._read_commits()
        self._is_switched = True

    def is_lost(self, log_id: str) -> bool:
        """Return whether a log must not count because of a switch, unless it was counted before."""
        feed, created = self._truth.place_of(log_id) or ("", None)
        return self._is_switched and feed in self._newest and (created or 0) < self._floor(feed)

    def _floor(self, feed: str) -> int:
        """Return the next second after the newest log of a feed that was counted from generation late."""
        return (self._newest[feed] // 1000 + 1) * 1000

    def scan_times(self) -> dict[str, float]:
        """Return when the last reconciliation scan of each feed was complete."""
        return _by_feed(self._exporter.scrape(), LAST_RECONCILE)

    def compare(self) -> None:
        """Compare everything that must hold at any time."""
        self._read_commits()
        surplus = self._counted - self._truth.sightings
        self.expect(not surplus, "twice", str(surplus.most_common(1)))
        scrape = self._scrape()
        self._check_values(scrape)
        start = max(_by_feed(scrape, COVERAGE_START).values(), default=0)
        self.expect(start <= self._world.clock.now + 1, "coverage", f"{start} at {self._world.clock.now}")
        for family in ("late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"):
            self.expect(not scrape.sum(family), "audit", family)

    def check_rest(self, *, is_steady: bool) -> None:
        """Check what must hold once nothing has happened for two scans."""
        scrape = self._scrape()
        least, waiting, most = self._pending(scrape)
        self.expect(self.has_exact_pending(), "pending at rest", f"{waiting}, {least} to {most}")
        if is_steady and not self.is_misled:
            found = scrape.sum("late_exporter_reconciled_logs_total")
            self.expect(not found, "reconciled", f"{found} logs")
        if self._finds_deleted_logs():
            self._check_requests()

    def has_exact_pending(self) -> bool:
        """Return whether the gauge of pending logs is exact, or cannot be."""
        least, waiting, most = self._pending(self._scrape())
        return least <= waiting <= most or not self._finds_deleted_logs()

    def _pending(self, scrape: Samples) -> tuple[Counter[tuple[str, ...]], ...]:
        least, most = (expected_pending(self._world, grace, lost=self.is_lost) for grace in (0.0, 3 * HOUR))
        return least, Counter(scrape.family("late_publishing_pending_logs")), most

    def _finds_deleted_logs(self) -> bool:
        """Return whether logs can be looked up by time, if they can be by nothing else."""
        return self._exporter.api.generation == "late" or self._exporter.api.quirks.time_filter not in (
            "ignored",
            "rejected",
        )

    def _check_requests(self) -> None:
        top = set(self._world.ids[: self._exporter.api.quirks.max_page_size])
        pending = [row["_id"] for row in self._world.rows if row["status"] == "pending"]
        deep = any(log_id not in top and not self.is_lost(log_id) for log_id in pending)
        for feed, expected in (("publishing", 1 + deep), ("connections", 1)):
            if not self._scene.has_rows(feed):
                continue  # A list that has become empty fails the polls.
            request_count = len(self._exporter.api.requests)
            result = self._exporter.poll(feed=feed)
            count = len(self._exporter.api.requests) - request_count
            self.expect(result.error is None, "outcome", f"{feed}: {result.error}")
            # Alike logs at the edges of a page, and a page of one time, are distinguished by all logs of their time.
            most = expected + self._has_full_times() * PAGE_EDGES * TIME_READINGS * self._scene.time_pages
            self.expect(expected <= count <= most, "requests", f"{feed}: {count} instead of {expected} to {most}")

    def _has_full_times(self) -> bool:
        """Return whether a list without ids may have a page that begins or ends within the logs of one time."""
        api = self._exporter.api
        largest = max(Counter(row["createdAt"] for row in self._world.rows).values(), default=0)
        return self.has_alike_logs or (api.generation == "zernio" and largest >= api.quirks.max_page_size)

    def _read_commits(self) -> None:
        commits = list(islice(self._exporter.counted, self._commit_count, None))
        self._commit_count += len(commits)
        for commit in commits:
            self.expect(commit not in self._keys, "twice", str(commit))
            self._keys.add(commit)
            place = self._truth.place_of(commit.key)
            if place is not None:
                self._newest[commit.feed] = max(self._newest.get(commit.feed, 0), place[1] or 0)
            elif commit.feed in self._newest:
                self.expect(int(commit.key[:13]) >= self._floor(commit.feed), "switch", f"{commit.key} is not newer")
        self._counted += self._truth.counted(commits)

    def _scrape(self) -> Samples:
        """Scrape; check that nothing has fallen, and that a feed appears with its history."""
        scrape = self._exporter.scrape()
        visible, self._visible = self._visible, _by_feed(scrape, COVERAGE_START)
        for feed in self._visible.keys() - visible.keys():
            self.require((log for log in self._history() if log[0] == feed), "history")
        is_hidden = self._visible.keys() != set(FEEDS)  # as until the first poll after a start that reads everything
        fallen = [
            series for series, value in self._shown.items() if scrape.get(series, value if is_hidden else -1) < value
        ]
        self.expect(not fallen, "falls", str(fallen[:1]))
        # A poll that could not be saved is the one thing that is served without being durable.
        unsaved = ("outcome", "store_error")
        shown = {series: value for series, value in scrape.counters.items() if unsaved not in series[1]}
        self._shown = Samples(self._shown | shown)
        return scrape

    def _check_values(self, scrape: Samples) -> None:
        visible = _by_feed(scrape, COVERAGE_START)
        least, most = (self._expect_values(visible, final_first=final_first) for final_first in (True, False))
        for family, lowest in least.items():
            found, highest = scrape.family(family), most[family]
            for labels in lowest.keys() | highest.keys() | found.keys():
                value, bounds = found.get(labels, 0), (lowest.get(labels, 0), highest.get(labels, 0))
                is_right = value == pytest.approx(min(bounds)) or min(bounds) <= value <= max(bounds)
                self.expect(
                    is_right or value == pytest.approx(max(bounds)), "values", f"{family}: {labels} {value} {bounds}"
                )
        if "publishing" in visible:
            waiting = Counter(scrape.family("late_publishing_pending_logs"))
            missing = self._known_pending() - waiting
            self.expect(not missing or self.is_misled, "pending", str(missing))

    def _expect_values(self, visible: Mapping[str, float], *, final_first: bool) -> Mapping[str, Mapping[Any, float]]:
        """Return the values of the counted logs of visible feeds by family and labels."""
        rows = {
            feed: self._truth.rows(self._counted, feed, final_first=final_first) if feed in visible else []
            for feed in FEEDS
        }
        return Oracle(rows["publishing"], rows["connections"]).expected

    def _known_pending(self) -> Counter[tuple[str, ...]]:
        """Return the number of logs that are pending and were counted as such, by platform and action."""
        pending = Counter(
            (self._truth.of("publishing", log_id, status), row["platform"], row["action"])
            for (log_id, status), row in self._world.visible.items()
            if status == "pending" and not self.is_lost(log_id)
        )
        known: Counter[tuple[str, ...]] = Counter()
        for (sighting, platform, action), log_count in pending.items():
            known[platform, action] += min(log_count, self._counted[sighting])  # Of alike logs some may be counted.
        return known


def _by_feed(samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], family: str) -> dict[str, float]:
    return {dict(labels)["feed"]: value for (name, labels), value in samples.items() if name == family}
