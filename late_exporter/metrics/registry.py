"""Registry of the current series: their values, and which of them are visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.metrics.aggregation import rebucket
from late_exporter.metrics.names import LAST_AUDIT, LAST_POLL, LAST_RECONCILE, LOGS, OLDEST_PENDING, PENDING_LOGS
from late_exporter.metrics.status_layer import StatusLayer
from late_exporter.model import PENDING, UNKNOWN
from late_exporter.series import (
    FailureStreak,
    Histogram,
    IncCounter,
    Labels,
    LatestValue,
    ObserveHistogram,
    Series,
    SeriesValue,
    SetCurrent,
    Value,
)
from late_exporter.status import AccountHealth, PlatformHealth

LAST_LOG = "late_publishing_last_log_timestamp_seconds"
STREAKS = "late_account_consecutive_failures"
INFO = "late_account_info"

OWN_TIMES = frozenset({LAST_POLL, LAST_RECONCILE, LAST_AUDIT, "late_exporter_webhook_last_received_timestamp_seconds"})
"""Stored gauges with times at which the exporter did something. Alerts compare them with the present."""

READABLE_FAMILIES = OWN_TIMES | {LOGS, PENDING_LOGS, OLDEST_PENDING, LAST_LOG, STREAKS}
"""Families whose visible values are kept, for the status page and to correct times."""


class _WorkspaceSeries:
    """Series of one workspace beyond what the exposition has of them.

    Args:
        feeds: Feeds of the workspace.

    Attributes:
        synced_feeds: Those that have completed their first sync.
        hidden_values: Values of the series that are not visible yet.
        own_counters: Visible values and creation times of the exporter's own counters.
        info_labels: Labels of the visible series that have a text as their value, which is their last label.
        readable_values: Visible values and creation times of READABLE_FAMILIES, by family.
        gauges: Values that ``set_gauge`` has set.
        status_layer: Series of status feeds.
    """

    def __init__(self, feeds: frozenset[str] = frozenset()) -> None:
        self.feeds = feeds
        self.synced_feeds: set[str] = set()
        self.hidden_values: dict[Series, SeriesValue] = {}
        self.own_counters: dict[Series, tuple[float, float]] = {}
        self.info_labels: dict[Series, Labels] = {}
        self.readable_values: dict[str, dict[Labels, tuple[float, float]]] = {}
        self.gauges: dict[Series, float] = {}
        self.status_layer = StatusLayer()


class SeriesRegistry:
    """Current value of every series; writes the visible ones to the exposition.

    The logs that exist before the first sync of a feed are history: the families of the feed are hidden until that sync
    is complete, and then appear with their full values. Series that are created later show 0 for some time first, so
    that Prometheus sees their first increase.

    The values of visible series are only in the exposition. What is kept beyond them is kept by workspace, so that no
    call takes longer because other workspaces exist.

    Args:
        families: Catalogue of the metric families.
        exposition: Receives the visible series. It may lack families: their series are counted, but not shown.
    """

    def __init__(self, families: Mapping[str, Family], exposition: Exposition) -> None:
        self._families = families
        self._exposition = exposition
        self._workspaces: dict[str, _WorkspaceSeries] = {}
        self._without_workspace = _WorkspaceSeries()
        self._deferred_values: dict[Series, SeriesValue] = {}

    def add_workspace(self, workspace: str, feeds: frozenset[str]) -> None:
        self._workspaces[workspace] = _WorkspaceSeries(feeds)

    def remove_workspace(self, workspace: str) -> None:
        self._exposition.remove_workspace(workspace)
        del self._workspaces[workspace]
        self._deferred_values = {
            series: value for series, value in self._deferred_values.items() if series[1][:1] != (workspace,)
        }
        self.set_deferred()

    def restore(self, values: Mapping[Series, SeriesValue]) -> None:
        """Load some of the stored series, except those of other workspaces and families."""
        for series, value in values.items():
            if series[0] in self._families and series[1][0] in self._workspaces:
                self._set(series, self._keep_maximum(series, value))

    def update(self, values: Mapping[Series, SeriesValue]) -> None:
        """Set the values that a transaction has committed."""
        for series, value in values.items():
            self._deferred_values.pop(series, None)
            self._set(series, self._keep_maximum(series, value))

    def defer(self, values: Mapping[Series, SeriesValue]) -> None:
        """Take the values that a transaction has committed, for ``set_deferred``; nothing is published before."""
        self._deferred_values |= values
        self._exposition.hold(is_held=bool(self._deferred_values))

    def set_deferred(self, limit: int | None = None) -> bool:
        """Set the values that were deferred, or a number of them; return whether there are more."""
        for _ in range(len(self._deferred_values))[:limit]:
            series, value = self._deferred_values.popitem()
            self._set(series, self._keep_maximum(series, value))
        self._exposition.hold(is_held=bool(self._deferred_values))
        return bool(self._deferred_values)

    def show_feed(self, workspace: str, feed: str) -> None:
        """Make the families of a feed visible, because its first sync is complete."""
        self.defer_feed(workspace, feed)
        self.set_deferred()

    def hide_feed(self, workspace: str, feed: str) -> None:
        """Hide what is counted of a feed from now on, because another first sync begins."""
        self._workspaces[workspace].synced_feeds.discard(feed)

    def defer_feed(self, workspace: str, feed: str) -> None:
        """Make the families of a feed visible with the next calls of ``set_deferred``."""
        owner = self._workspaces[workspace]
        if feed in owner.synced_feeds:
            return
        owner.synced_feeds.add(feed)
        hidden_values, owner.hidden_values = owner.hidden_values, {}
        self.defer(hidden_values | self._deferred_values)

    def add_unsaved(self, increments: Iterable[IncCounter]) -> None:
        """Add increments of the exporter's own counters that could not be saved yet; later values include them."""
        for increment in increments:
            series = (increment.family, increment.labels)
            value, created = self._owner(series).own_counters.get(series, (0, 0.0))
            self._set(series, self._keep_maximum(series, SeriesValue(value + increment.amount, created)))

    def correct_times(self, workspace: str, now: float) -> Sequence[SetCurrent]:
        """Set the OWN_TIMES of a workspace that are ahead of ``now`` to it; return increments that do so in the state.

        Such a time was set while the clock was ahead. Until the clock reaches it again, no alert on its age would fire.
        """
        corrections = [
            SetCurrent(family, labels, value=now)
            for family in sorted(OWN_TIMES)
            for labels, (time, _) in self._values_of(workspace, family)
            if time > now
        ]
        for correction in corrections:
            self._set((correction.family, correction.labels), SeriesValue(correction.value, 0.0))
        return corrections

    def set_gauge(self, family: str, labels: Labels, value: float) -> None:
        """Set a gauge that is not stored; most polls change few of theirs."""
        series = family, labels
        gauges = self._owner(series).gauges
        if gauges.get(series) != value:
            gauges[series] = value
            self._set(series, SeriesValue(value, 0.0))

    def remove_gauge(self, family: str, labels: Labels) -> None:
        """Remove a gauge, if it exists."""
        owner = self._owner((family, labels))
        owner.gauges.pop((family, labels), None)
        owner.hidden_values.pop((family, labels), None)
        owner.readable_values.get(family, {}).pop(labels, None)
        self._exposition.remove(family, labels)

    def replace_status(self, workspace: str, feed: str, values: Mapping[Series, SeriesValue]) -> None:
        """Show the gauges of a status feed instead of its previous ones; they cover the values of logs."""
        owner = self._workspaces[workspace]
        obsolete = owner.status_layer.replace(feed, values)
        for series, value in values.items():
            self._show(owner, series, value)
        for series, log_value in obsolete:
            if log_value is not None:
                self._show(owner, series, log_value)
            else:
                self._exposition.remove(series[0], owner.info_labels.pop(series, series[1]))

    def add_exemplar(self, observation: ObserveHistogram) -> None:
        """Attach the exemplar of an observation, if its series is visible."""
        series = (observation.family, observation.labels)
        if observation.exemplar is not None and not self._is_hidden(self._owner(series), series):
            self._exposition.add_exemplar(*series, observation.micros / 1_000_000, observation.exemplar)

    def platform_health(self, workspace: str) -> tuple[PlatformHealth, ...]:
        """Return the health of the platforms of a workspace by their visible publishing logs, sorted by name.

        A platform with logs of the first sync has no time since which they are counted, but 0.
        """
        logs, final, pending = Counter[str](), Counter[str](), Counter[str]()
        attempts = Counter[tuple[str, str]]()
        counted_since: dict[str, float] = {}
        last_log: dict[str, float] = {}
        for (_, platform, action, status), (count, created) in self._values_of(workspace, LOGS):
            logs[platform] += int(count)
            counted_since[platform] = min(created, counted_since.get(platform, created))
            if action in ATTEMPTS and status != PENDING:
                final[platform] += int(count)
                attempts[platform, status] += int(count)
        for (_, platform, _), (count, _) in self._values_of(workspace, PENDING_LOGS):
            pending[platform] += int(count)
        for (_, platform, _, _), (time, _) in self._values_of(workspace, LAST_LOG):
            last_log[platform] = max(time, last_log.get(platform, time))
        oldest_pending = {platform: time for (_, platform), (time, _) in self._values_of(workspace, OLDEST_PENDING)}
        return tuple(
            PlatformHealth(
                name=platform,
                counted_since=counted_since[platform],
                published=attempts[platform, "success"],
                failed=attempts[platform, "failed"],
                final=final[platform],
                pending=pending[platform],
                last_log=last_log.get(platform),
                oldest_pending=oldest_pending.get(platform),
            )
            for platform in sorted(logs)
            if logs[platform]
        )

    def failing_accounts(self, workspace: str) -> tuple[AccountHealth, ...]:
        """Return the accounts whose last attempt failed, most consecutive failures first."""
        accounts = [
            AccountHealth(
                platform=labels[1],
                account_id=labels[2],
                username=self._username(labels),
                consecutive_failures=int(failures),
            )
            for labels, (failures, _) in self._values_of(workspace, STREAKS)
            if failures
        ]
        accounts.sort(key=lambda account: (-account.consecutive_failures, account.platform, account.account_id))
        return tuple(accounts)

    def _values_of(self, workspace: str, family: str) -> Iterable[tuple[Labels, tuple[float, float]]]:
        if workspace not in self._workspaces:
            return ()
        return self._workspaces[workspace].readable_values.get(family, {}).items()

    def _username(self, account: Labels) -> str:
        series = (INFO, account)
        username = self._owner(series).info_labels.get(series, ("",))[-1]
        return "" if username == UNKNOWN else username

    def _owner(self, series: Series) -> _WorkspaceSeries:
        labels = series[1]
        return self._workspaces.get(labels[0], self._without_workspace) if labels else self._without_workspace

    def _keep_maximum(self, series: Series, new_value: SeriesValue) -> SeriesValue:
        # A counter must not fall when its unsaved increments are saved bit by bit.
        if self._families[series[0]].feeds or not isinstance(new_value.value, int | float):
            return new_value
        own_counters = self._owner(series).own_counters
        visible, _ = own_counters.get(series, (0, 0.0))
        own_counters[series] = (max(visible, new_value.value), new_value.created)
        return SeriesValue(*own_counters[series])

    def _feeds_of(self, series: Series) -> tuple[str, ...]:
        """Return the feeds that fill a series; the label ``type`` names the only one."""
        family = self._families[series[0]]
        if "type" in family.labels:
            return (series[1][family.labels.index("type")],)
        return family.feeds

    def _is_hidden(self, owner: _WorkspaceSeries, series: Series) -> bool:
        feeds = self._feeds_of(series)
        return bool(feeds) and owner.synced_feeds.isdisjoint(feeds)

    def _set(self, series: Series, value: SeriesValue) -> None:
        owner = self._owner(series)
        if self._is_hidden(owner, series):
            owner.hidden_values[series] = value
        elif not owner.status_layer.keep(series, value):
            self._show(owner, series, value)

    def _show(self, owner: _WorkspaceSeries, series: Series, current: SeriesValue) -> None:
        family, labels = self._families[series[0]], series[1]
        value = current.value
        if isinstance(value, LatestValue) and isinstance(value.value, str):
            labels = (*labels, value.value)
            value = 1
            if owner.info_labels.get(series, labels) != labels:
                self._exposition.remove(family.name, owner.info_labels[series])
            owner.info_labels[series] = labels
        number = _number(value, family)
        if series[0] in READABLE_FAMILIES and not isinstance(number, Histogram):
            owner.readable_values.setdefault(series[0], {})[series[1]] = (number, current.created)
        if family.kind == "gauge":
            self._exposition.put(family.name, labels, number)
        else:
            self._exposition.put(family.name, labels, number, created=current.created)


def _number(value: Value, family: Family) -> float | Histogram:
    match value:
        case Histogram():
            return rebucket(value, family.buckets)
        case LatestValue():
            return float(value.value)
        case FailureStreak():
            return value.older_failures + len(value.failures)
        case _:
            return value
