"""Compare an exporter with the truth: what it has committed, and what it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import pytest

from late_exporter.errors import StoreError
from late_exporter.exposition.family import Family
from late_exporter.ingest.feed_publisher import COVERAGE_START
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.names import LAST_POLL, LAST_RECONCILE
from late_exporter.model import Scope
from tests.adversary.checks import ALIKE, FATAL, NOT_YET, SWITCHES, Abandoned, Wrong
from tests.adversary.scene import LogStatuses, Scene
from tests.adversary.truth import Sighting, Truth
from tests.support.clock import HOUR, MINUTE
from tests.support.oracle import Oracle, expected_pending
from tests.support.samples import Samples
from tests.support.store import LogStatus

MAX_CLOCK_ERROR = 5 * MINUTE
"""Seconds by which the time of a poll may differ from the clock after it."""

PAGE_EDGES = 2

TIME_READINGS = 3
"""Readings of all logs of a time: a settlement check, and two that have to agree if it has several pages."""

LOG_FAMILIES = ("late_publishing_", "late_connection_", "late_account_")


class Observer:
    """Watches one exporter over its restarts.

    Args:
        scene: The exporter to watch, and its world.
        history: Returns feed, id and status of the logs that the API had at first and still has.

    Attributes:
        is_misled: Whether the list has ever lied about itself.
        has_alike_logs: Whether some logs cannot be distinguished.
        difference: How the list differed to which the API has switched.
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
        self._keys: set[tuple[Scope, LogStatus]] = set()
        self._commit_count = 0
        self._shown = Samples()
        self._visible: dict[str, float] = {}
        self._poll_times: dict[str, tuple[float, float]] = {}
        self._has_ended = False
        self.is_misled = False
        self.has_alike_logs = False
        self.difference = ""

    def report(self, check: str, detail: str) -> None:
        """Raise Wrong, or count the failure if the check is not expected to hold."""
        if self.has_alike_logs and check in ALIKE:
            check = self._alike_check
        if self._scene.api.difference is not None:
            check = "switch"
        if check == "switch":
            check = SWITCHES.get(self.difference, check)
        if check not in NOT_YET:
            raise Wrong(check, detail)
        self._scene.totals.not_yet[check] += 1
        if check in FATAL:
            raise Abandoned

    @property
    def _alike_check(self) -> str:
        return "unfiltered alike logs" if self._scene.setup.time_filter in ("ignored", "rejected") else "alike logs"

    def expect(self, condition: object, check: str, detail: str) -> None:
        """Report a check unless a condition holds."""
        if not condition:
            self.report(check, detail)

    def require(self, logs: Iterable[tuple[str, str, str]], check: str) -> None:
        """Report a check unless logs, by feed, id and status, are counted."""
        self._read_commits()
        missing = Counter(self._truth.of(*log) for log in logs) - self._counted
        self.expect(not missing, check, f"{missing.total()} logs, {next(iter(missing), None)}")

    def uncounted_ids(self, log_ids: Iterable[str]) -> set[str]:
        """Return the ids of the logs that are counted in no status."""
        self._read_commits()
        logs = {sighting.log for sighting in self._counted}
        return {log_id for log_id in log_ids if self._truth.log_of(log_id) not in logs}

    def note_end(self) -> None:
        """The process has ended, and another one has started."""
        self._has_ended = True

    def scanned_feeds(self, first_batch: int) -> set[str]:
        """Return the feeds of which a reconciliation scan was completed since a commit, by its number."""
        return {
            increment.labels[1]
            for batch in self._exporter.store.batches[first_batch:]
            for increment in batch.increments
            if increment.family == LAST_RECONCILE
        }

    def compare(self) -> None:
        """Compare everything that must hold at any time."""
        self._read_commits()
        surplus = self._counted - self._truth.sightings
        self.expect(not surplus, "twice", str(surplus.most_common(1)))
        self._scrape()
        self._has_ended = False
        scrape = self._scrape()  # New series have left their initial 0.
        self._check_values(scrape)
        poll_times = _by_feed(scrape, LAST_POLL)
        for feed, (start, end) in self._poll_times.items():
            is_right = start - MAX_CLOCK_ERROR <= poll_times.get(feed, 0) <= end + MAX_CLOCK_ERROR
            self.expect(is_right, "own times", f"{feed}: {poll_times.get(feed)}, not {start} to {end}")
        self._poll_times.clear()
        start = max(_by_feed(scrape, COVERAGE_START).values(), default=0)
        self.expect(start <= self._world.clock.now + 1, "coverage", f"{start} at {self._world.clock.now}")
        for family in ("late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"):
            self.expect(not scrape.sum(family), "audit", family)

    def expect_own_time(self, feed: str, start: float) -> None:
        """Expect that the time of the last successful poll is between a time and now, at the next comparison."""
        skew = self._exporter.skew
        self._poll_times[feed] = start + skew, self._world.clock.now + skew

    def check_rest(self, *, is_steady: bool) -> None:
        """Check what must hold once nothing has happened for two scans."""
        scrape = self._scrape()
        if self._finds_deleted_logs():
            waiting = Counter(scrape.family("late_publishing_pending_logs"))
            least, most = expected_pending(self._world), expected_pending(self._world, 3 * HOUR)
            self.expect(least <= waiting <= most, "pending at rest", f"{waiting}, {least}")
        if is_steady and not self.is_misled:
            found = scrape.sum("late_exporter_reconciled_logs_total")
            self.expect(not found, "reconciled", f"{found} logs")
        if self._finds_deleted_logs():
            self._check_requests()

    def check_audits(self) -> None:
        """Check that independent audits of both lists find nothing."""
        for feed in self._feeds():
            audit, mismatches = self._exporter.run_audit(feed=feed)
            found = (audit.differences, mismatches, audit.in_gap)
            self.expect(found == ([], [], set()), "audit", f"{feed}: {found}")

    def _feeds(self) -> list[str]:
        return [scope.feed for scope in self._exporter.pollers]

    def _finds_deleted_logs(self) -> bool:
        """Return whether logs can be looked up by time, if they can be by nothing else."""
        return self._exporter.api.generation == "late" or self._exporter.api.quirks.time_filter not in (
            "ignored",
            "rejected",
        )

    def _check_requests(self) -> None:
        top = set(self._world.ids[: self._exporter.api.quirks.max_page_size])
        deep = any(row["status"] == "pending" and row["_id"] not in top for row in self._world.rows)
        for feed, expected in (("publishing", 1 + deep), ("connections", 1)):
            request_count = len(self._exporter.api.requests)
            result = self._exporter.poll(feed=feed)
            count = len(self._exporter.api.requests) - request_count
            self.expect(result.error is None, "outcome", f"{feed}: {result.error}")
            # Alike logs at the edges of a page are distinguished by all logs of their time.
            most = expected + self.has_alike_logs * PAGE_EDGES * TIME_READINGS * self._scene.time_pages
            self.expect(expected <= count <= most, "requests", f"{feed}: {count} instead of {expected} to {most}")

    def _read_commits(self) -> None:
        commits = list(islice(self._exporter.commit_log, self._commit_count, None))
        self._commit_count += len(commits)
        for commit in commits:
            self.expect(commit not in self._keys, "twice", str(commit))
            self._keys.add(commit)
        self._counted += self._truth.counted(commits)

    def _scrape(self) -> Samples:
        """Scrape; check that nothing has fallen, and that new series are 0."""
        scrape = self._exporter.scrape_once()
        self._check_first_increments(scrape)
        fallen = [series for series, value in self._shown.items() if scrape.get(series, -1) < value]
        self.expect(not fallen, "falls", str(fallen[:1]))
        # A poll that could not be saved is the one thing that is served without being durable.
        unsaved = ("outcome", StoreError.outcome)
        self._shown = Samples({series: value for series, value in scrape.counters.items() if unsaved not in series[1]})
        return scrape

    def _check_first_increments(self, scrape: Samples) -> None:
        """Check that new series are 0 at first, except those of a feed that appears now."""
        visible, self._visible = self._visible, _by_feed(scrape, COVERAGE_START)
        for feed in self._visible.keys() - visible.keys():
            check = "history of a lying list" if self.is_misled else "history"
            self.require((log for log in self._history() if log[0] == feed), check)
        for series, value in scrape.counters.items():
            is_new = series not in self._shown and series[0].startswith(LOG_FAMILIES)
            if value and is_new and any(feed in visible for feed in _family(series[0]).feeds):
                check = "first increment after an end" if self._has_ended else "first increment"
                self.report(check, f"{series} was {value} at first")

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
            for feed in self._feeds()
        }
        return Oracle(rows["publishing"], rows["connections"]).expected

    def _known_pending(self) -> Counter[tuple[str, ...]]:
        """Return the number of logs that are pending and were counted as such, by platform and action."""
        pending = Counter(
            (self._truth.of("publishing", log_id, status), row["platform"], row["action"])
            for (log_id, status), row in self._world.visible.items()
            if status == "pending"
        )
        known: Counter[tuple[str, ...]] = Counter()
        for (sighting, platform, action), log_count in pending.items():
            known[platform, action] += min(log_count, self._counted[sighting])  # Of alike logs some may be counted.
        return known


def _family(sample: str) -> Family:
    return CATALOGUE.get(sample) or CATALOGUE[sample.rpartition("_")[0]]


def _by_feed(samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], family: str) -> dict[str, float]:
    return {dict(labels)["feed"]: value for (name, labels), value in samples.items() if name == family}
