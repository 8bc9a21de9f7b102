"""Show the gauges of the status feeds of one workspace, and summarize them for the status page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from late_exporter.feeds.status import (
    ACCOUNT_INFO,
    COOLDOWN_UNTIL,
    NEEDS_RECONNECT,
    OLDEST_SCHEDULED,
    WEBHOOK_ACTIVE,
    WORKSPACE_ACTIVE,
)
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.series import Increment, Labels, LatestValue, Series, SeriesValue, SetLatest
from late_exporter.status import AccountStatus, StatusFeedHealth, WorkspaceStatus

OVERDUE_SECONDS = 300.0
"""Seconds after its time from which a scheduled post is reported as overdue."""

UP = "late_exporter_status_feed_up"
LAST_REFRESH = "late_exporter_status_feed_last_refresh_timestamp_seconds"
DISABLED = "late_exporter_status_feed_disabled"
DISABLING_REASONS = ("forbidden", "not_found")


class StatusPublisher:
    """Write the gauges of the status feeds of one workspace to the registry.

    Args:
        defer: Save increments with the next commit of the workspace.
    """

    def __init__(
        self,
        workspace: str,
        *,
        label_limiter: LabelLimiter,
        registry: SeriesRegistry,
        defer: Callable[[Sequence[Increment]], object],
    ) -> None:
        self._workspace = workspace
        self._label_limiter = label_limiter
        self._registry = registry
        self._defer = defer
        self._values: dict[str, Mapping[Series, SeriesValue]] = {}

    def show(self, feed: str, gauges: Sequence[SetLatest], now: float) -> None:
        """Replace the series of a feed after a successful refresh, which ended at a Unix time in seconds."""
        increments = list(self._label_limiter.apply(gauges))
        values = {
            (gauge.family, gauge.labels): SeriesValue(LatestValue(gauge.at, gauge.value), 0.0)
            for gauge in increments
            if isinstance(gauge, SetLatest)
        }
        self._defer([increment for increment in increments if not isinstance(increment, SetLatest)])
        self._replace(feed, values)
        self._registry.set_gauge(LAST_REFRESH, (self._workspace, feed), now)
        self._set_state(feed, is_up=True)

    def fail(self, feed: str) -> None:
        """Report a failed refresh; the series stay until they are stale."""
        self._set_state(feed, is_up=False)

    def clear(self, feed: str, disabled_reason: str = "") -> None:
        """Remove the series of a feed that does not succeed any more, or that is switched off for a reason."""
        self._replace(feed, {})
        self._set_state(feed, is_up=False, disabled_reason=disabled_reason)

    def remove(self, feed: str) -> None:
        """Remove everything about a feed that is no longer configured."""
        self.clear(feed)
        for family in (UP, LAST_REFRESH):
            self._registry.remove_gauge(family, (self._workspace, feed))

    def summary(self, feeds: tuple[StatusFeedHealth, ...]) -> WorkspaceStatus:
        """Return what the status page says about the workspace."""
        usernames = dict(self._latest(ACCOUNT_INFO))
        overdue = [
            float(latest.value)
            for _, latest in self._latest(OLDEST_SCHEDULED)
            if latest.at / 1000 - float(latest.value) > OVERDUE_SECONDS
        ]

        def account(labels: Labels, until: float | None = None) -> AccountStatus:
            username = usernames.get(labels)
            return AccountStatus(
                platform=labels[1],
                account_id=labels[2],
                username=str(username.value) if username else "",
                cooldown_until=until,
            )

        return WorkspaceStatus(
            feeds=feeds,
            oldest_overdue_post=overdue[0] if overdue else None,
            disconnected_accounts=tuple(
                account(labels) for labels, latest in self._latest(NEEDS_RECONNECT) if latest.value
            ),
            cooldowns=tuple(account(labels, float(latest.value)) for labels, latest in self._latest(COOLDOWN_UNTIL)),
            inactive_webhooks=tuple(labels[1] for labels, latest in self._latest(WEBHOOK_ACTIVE) if not latest.value),
            is_active=not any(not latest.value for _, latest in self._latest(WORKSPACE_ACTIVE)),
        )

    def _latest(self, family: str) -> Iterator[tuple[Labels, LatestValue]]:
        for values in self._values.values():
            for (name, labels), current in values.items():
                if name == family and isinstance(current.value, LatestValue):
                    yield labels, current.value

    def _replace(self, feed: str, values: Mapping[Series, SeriesValue]) -> None:
        self._values[feed] = values
        self._registry.replace_status(self._workspace, feed, values)

    def _set_state(self, feed: str, *, is_up: bool, disabled_reason: str = "") -> None:
        self._registry.set_gauge(UP, (self._workspace, feed), int(is_up))
        for reason in DISABLING_REASONS:
            if reason == disabled_reason:
                self._registry.set_gauge(DISABLED, (self._workspace, feed, reason), 1)
            else:
                self._registry.remove_gauge(DISABLED, (self._workspace, feed, reason))
