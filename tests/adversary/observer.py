"""Compare an exporter with the truth: what it has committed, and what it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from tests.adversary.checks import Wrong
from tests.adversary.scene import FEEDS, LogStatuses, Scene
from tests.adversary.truth import Sighting, Truth
from tests.support.clock import HOUR
from tests.support.exporter import Counted
from tests.support.oracle import Oracle, expected_pending
from tests.support.samples import Samples
from tests.support.world import RETENTION

COVERAGE_START = "late_exporter_coverage_start_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"
PENDING = "late_publishing_pending_logs"


class Observer:
    """Watches one exporter over its restarts.

    Args:
        scene: The exporter to watch, and its world.
        history: Returns the logs that the API had at first and still has.

    Attributes:
        is_misled: Whether the list has lied about itself since the last rest.
    """

    def __init__(self, scene: Scene, *, history: Callable[[], LogStatuses]) -> None:
        self._exporter = scene.exporter
        self._world = scene.world
        self._history = history
        self._truth = Truth(scene.world, by_id=not scene.setup.can_lack_ids)
        self._counted: Counter[Sighting] = Counter()
        self._commits: set[Counted] = set()
        self._shown = Samples()
        self._visible: Mapping[str, float] = {}
        self._floors: dict[str, int] = {}
        self.is_misled = False

    def expect(self, condition: object, check: str, detail: str) -> None:
        """Raise Wrong unless a condition holds."""
        if not condition:
            raise Wrong(check, detail)

    def require(self, logs: Iterable[tuple[str, str, str]], check: str) -> None:
        """Raise Wrong unless logs are counted, or lost in a switch."""
        self._read_commits()
        wanted = Counter(
            Sighting(feed, self._truth.logs[log_id], status)
            for feed, log_id, status in logs
            if not self.is_lost(log_id)
        )
        missing = wanted - self._counted
        self.expect(not missing, check, f"{missing.total()} logs, {next(iter(missing), None)}")

    def uncounted_ids(self, log_ids: Iterable[str]) -> set[str]:
        """Return the ids of the logs that are counted in no status, except those that are lost in a switch."""
        self._read_commits()
        counted = {sighting.log for sighting in self._counted}
        return {log_id for log_id in log_ids if self._truth.logs[log_id] not in counted and not self.is_lost(log_id)}

    def note_switch(self) -> None:
        """The lists of generation late are gone: of each feed, only logs newer than all read from them count."""
        self._read_commits()
        for commit in self._commits:
            if commit.key not in self._truth.places:  # It was read from a list without ids, after the switch.
                continue
            feed, created = self._truth.places[commit.key]
            next_second = (created // 1000 + 1) * 1000
            self._floors[feed] = max(self._floors.get(feed, 0), next_second)

    def check_switched(self) -> None:
        """Check that both feeds are read from the lists of generation zernio, which keep their logs for longer."""
        retentions = _by_feed(self._exporter.scrape(), "late_exporter_retention_seconds")
        unswitched = {feed for feed in FEEDS if retentions.get(feed, 0.0) <= RETENTION}
        self.expect(not unswitched, "switch", f"{unswitched} are not switched")

    def is_lost(self, log_id: str) -> bool:
        """Return whether a log must not count because of a switch, unless it was counted before."""
        feed, created = self._truth.places[log_id]
        return created < self._floors.get(feed, 0)

    def scan_times(self) -> Mapping[str, float]:
        """Return when the last reconciliation scan of each feed was complete."""
        return _by_feed(self._exporter.scrape(), LAST_RECONCILE)

    def is_synced(self, feed: str) -> bool:
        """Return whether the logs of a feed are shown."""
        return feed in self._visible

    def compare(self) -> None:
        """Compare everything that must hold at any time."""
        self._read_commits()
        surplus = self._counted - self._truth.sightings
        self.expect(not surplus, "twice", str(surplus.most_common(1)))
        scrape = self._scrape()
        self._check_values(scrape)
        for family in ("late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"):
            self.expect(not scrape.sum(family), "audit", family)

    def has_exact_pending(self) -> bool:
        """Return whether the gauge of pending logs is exact, give or take those that the API has just dropped."""
        self._read_commits()
        shown = Counter(self._exporter.scrape().family(PENDING))
        least, most = (expected_pending(self._world, grace, lost=self.is_lost) for grace in (0.0, 3 * HOUR))
        return least <= shown <= most

    def polls_politely(self) -> bool:
        """Poll; return whether that was one request, and one more if a pending log is below the first page."""
        below = set(self._world.ids[self._exporter.api.quirks.max_page_size :])
        pending = {row["_id"] for row in self._world.rows if row["status"] == "pending"}
        expected = 3 if below & pending else 2
        before = len(self._exporter.requests)
        for feed in FEEDS:
            self._exporter.poll(feed=feed)
        return len(self._exporter.requests) - before == expected

    def _read_commits(self) -> None:
        self._truth.update()
        commits = list(islice(self._exporter.counted, len(self._commits), None))
        for commit in commits:
            self.expect(commit not in self._commits, "twice", str(commit))
            self._commits.add(commit)
            if commit.key not in self._truth.logs:  # It was made by the exporter, from the time and other fields.
                is_newer = int(commit.key[:13]) >= self._floors.get(commit.feed, 0)
                self.expect(is_newer, "switch", f"{commit.key} is not newer")
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
        """Check the values of the counted logs of visible feeds, and that all of them that are pending are known."""
        rows = {feed: self._truth.rows(self._counted, feed) if feed in self._visible else [] for feed in FEEDS}
        try:
            Oracle(rows["publishing"], rows["connections"]).check(scrape)
        except AssertionError as exc:
            raise Wrong("values", str(exc)) from exc
        if rows["publishing"] and not self.is_misled:
            missing = self._known_pending() - Counter(scrape.family(PENDING))
            self.expect(not missing, "pending", str(missing))

    def _known_pending(self) -> Counter[tuple[str, ...]]:
        """Return the number of logs that are pending and were counted as such, by platform and action."""
        return Counter(
            (row["platform"], row["action"])
            for (log_id, status), row in self._world.visible.items()
            if status == "pending"
            and self._counted[Sighting("publishing", self._truth.logs[log_id], status)]
            and not self.is_lost(log_id)
        )


def _by_feed(samples: Samples, family: str) -> Mapping[str, float]:
    return {dict(labels)["feed"]: value for (name, labels), value in samples.items() if name == family}
