"""The metrics about the delivery of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.series import IncCounter
from late_exporter.store.records import Backlog

DELIVERED = "late_exporter_events_delivered_total"
DROPPED = "late_exporter_events_dropped_total"
FAILURES = "late_exporter_event_delivery_failures_total"
PENDING = "late_exporter_events_pending"
OLDEST = "late_exporter_events_oldest_pending_timestamp_seconds"


class DeliveryReport:
    """Counts events by workspace, and shows how many wait.

    Args:
        registry: Registry of the series.
        workspaces: Returns the names of the workspaces.
        save: Saves increments with the next commit of a workspace, which shows them.
    """

    def __init__(
        self,
        registry: SeriesRegistry,
        workspaces: Callable[[], Iterable[str]],
        save: Callable[[str, Sequence[IncCounter]], None],
    ) -> None:
        self._registry = registry
        self._workspaces = workspaces
        self._save = save

    def count(self, family: str, amounts: Mapping[str, int]) -> None:
        """Increase a counter by an amount per workspace."""
        for workspace, amount in amounts.items():
            self._save(workspace, [IncCounter(family, (workspace,), amount=amount)])

    def show_backlogs(self, backlogs: Mapping[str, Backlog]) -> None:
        """Show the events that wait, none for the workspaces that are not given."""
        for workspace in self._workspaces():
            backlog = backlogs.get(workspace)
            self._registry.set_gauge(PENDING, (workspace,), backlog.event_count if backlog else 0)
            if backlog:
                self._registry.set_gauge(OLDEST, (workspace,), backlog.oldest / 1000)
            else:
                self._registry.remove_gauge(OLDEST, (workspace,))
