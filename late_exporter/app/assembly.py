"""Wire the pipeline: pollers, store, series registry and exposition.

The configuration of the pipeline is read from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client.registry import Collector

from late_exporter.app.workspace_pollers import ApiConnection, WorkspacePollers
from late_exporter.config.settings import Settings, Workspace
from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.feeds import GENERATIONS
from late_exporter.ingest.accounting import AUDIT_GAUGES
from late_exporter.ingest.failure_log import FailureLog
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.reporter import PollReporter
from late_exporter.ingest.scan import ScanSchedule
from late_exporter.ingest.schedule import ApiClock, FeedConnection, Runtime
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.status_poller import StatusConfig, StatusPoller
from late_exporter.ingest.sync import FeedSync
from late_exporter.log import Logger
from late_exporter.metrics.catalogue import (
    CATALOGUE,
    LAST_AUDIT,
    LAST_RECONCILE,
    OPTIONAL_FAMILIES,
    build_catalogue,
)
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import ZERNIO, Increment, Scope
from late_exporter.store.records import FeedState
from late_exporter.store.thread import StoreThread


class PipelineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the pipeline.

    Args:
        disabled_families: Names of families that are counted but not exposed.
        max_label_values: Maximum number of values per label beyond the known ones.
        max_accounts: Maximum number of accounts per workspace; 0 hides all families with accounts.
        created_timestamps: Whether OpenMetrics has ``_created`` samples.
        zero_hold: Seconds for which a series that is created after the first sync shows 0.
        logged_failures: Feeds whose failed logs have lines in the log.
    """

    feeds: tuple[str, ...]
    families: Mapping[str, Family] = CATALOGUE
    disabled_families: frozenset[str] = frozenset()
    max_label_values: int = 50
    max_accounts: int = 500
    created_timestamps: bool = False
    zero_hold: float = 75.0
    logged_failures: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> PipelineConfig:
        metrics = settings.metrics
        return cls(
            feeds=settings.poll.feeds,
            families=build_catalogue(metrics.buckets),
            disabled_families=OPTIONAL_FAMILIES.difference(metrics.enable).union(metrics.disable),
            max_label_values=metrics.max_label_values,
            max_accounts=metrics.max_accounts,
            created_timestamps=metrics.created_timestamps,
            zero_hold=metrics.zero_hold,
            logged_failures=frozenset(settings.log.failures),
        )

    @property
    def visible_families(self) -> dict[str, Family]:
        has_accounts = self.max_accounts > 0
        return {
            name: each
            for name, each in self.families.items()
            if has_accounts or "account_id" not in each.labels
        }


class Pipeline:
    """Pollers of all workspaces, and what they share; it starts without workspaces.

    Args:
        collectors: Collectors of prometheus_client whose metrics are shown, too.
    """

    def __init__(
        self,
        config: PipelineConfig,
        *,
        store_thread: StoreThread,
        create_logger: Callable[[Scope], Logger],
        runtime: Runtime | None = None,
        collectors: Sequence[Collector] = (),
    ) -> None:
        self._config = config
        self._create_logger = create_logger
        runtime = runtime or Runtime()
        families = config.visible_families
        self.exposition = Exposition(
            {
                name: family
                for name, family in families.items()
                if name not in config.disabled_families
            },
            created=config.created_timestamps,
            zero_hold=config.zero_hold,
            monotonic=runtime.monotonic,
            collectors=collectors,
        )
        self.registry = SeriesRegistry(families, self.exposition)
        self._shared = SharedResources(
            store_thread=store_thread,
            label_limiter=LabelLimiter(
                config.families,
                max_values=config.max_label_values,
                max_accounts=config.max_accounts,
            ),
            registry=self.registry,
            runtime=runtime,
        )
        self.workspaces: dict[str, WorkspacePollers] = {}

    async def add_workspaces(self, connections: Mapping[str, ApiConnection]) -> None:
        """Load the state of some workspaces and create their pollers.

        Raises:
            StoreError: The state cannot be read; no workspace was added.
        """
        if not connections:
            return
        scopes = [
            Scope(workspace, feed)
            for workspace in sorted(connections)
            for feed in self._config.feeds
        ]
        thread = self._shared.store_thread
        states = await thread.feed_states(scopes)
        for workspace in connections:
            self.registry.add_workspace(workspace)
        try:
            async for restored in thread.series_pages(sorted(connections)):
                self._shared.label_limiter.restore(restored)
                self.registry.restore(restored)
        except BaseException:
            for workspace in connections:
                self._remove_series(workspace)
            raise
        for workspace, connection in connections.items():
            self._add_workspace(workspace, connection, states)

    def _add_workspace(
        self, workspace: str, connection: ApiConnection, states: Mapping[Scope, FeedState]
    ) -> None:
        clock = ApiClock(self._shared.runtime)
        increments: list[Increment] = []
        pollers = {
            scope.feed: self._create_poller(scope, states[scope], connection, clock, increments)
            for scope in (Scope(workspace, feed) for feed in self._config.feeds)
        }
        increments += self.registry.correct_times(workspace, self._shared.runtime.clock())
        runtime = msgspec.structs.replace(self._shared.runtime, clock=clock.time)
        status = StatusPoller(
            workspace,
            msgspec.structs.replace(self._shared, runtime=runtime),
            increments.extend,
            client=connection.client,
            config=connection.status,
            pace=connection.pace,
            logger=self._create_logger(Scope(workspace, "status")),
        )
        self.workspaces[workspace] = WorkspacePollers(workspace, connection, clock, pollers, status)

    async def remove_workspace(self, workspace: str) -> None:
        """Stop and remove the pollers and series of a workspace; its state stays in the store."""
        pollers = self.workspaces.pop(workspace)
        await pollers.stop()
        for poller in pollers:
            poller.discard_uncommitted()
        self._remove_series(workspace)

    def _remove_series(self, workspace: str) -> None:
        self.registry.remove_workspace(workspace)
        self._shared.label_limiter.remove_workspace(workspace)

    def _create_poller(
        self,
        scope: Scope,
        state: FeedState,
        connection: ApiConnection,
        clock: ApiClock,
        deferred_increments: list[Increment],
    ) -> Poller:
        shared = self._shared
        # Until the first poll has found the list.
        generation = state.coverage.generation if state.coverage else ZERNIO
        feed = GENERATIONS[generation][scope.feed]
        logger = self._create_logger(scope)
        for family, count in state.healed_counts.items():
            logger.warning("a counter lacked logs, which were added", family=family, logs=count)
        failure_log: FailureLog | None = None
        if scope.feed in self._config.logged_failures:
            failure_log = FailureLog(scope.feed, logger)

        feed_connection = FeedConnection(connection.client, connection.poll)
        recorder = FeedRecorder(scope, feed, state, shared, deferred_increments, failure_log)
        reporter = PollReporter(recorder, shared, logger)
        last_audit = 0.0
        # Until an audit has completed, its time is that of the first sync, without other results.
        if scope in self.registry.values(scope.workspace, AUDIT_GAUGES[0]):
            last_audit = self.registry.gauge(LAST_AUDIT, scope)
        last_scan = self.registry.gauge(LAST_RECONCILE, scope)
        scan_schedule = ScanSchedule(feed_connection, clock, last_scan, last_audit)
        sync = FeedSync(feed_connection, clock, recorder, reporter, scan_schedule, shared, logger)
        return Poller(feed_connection, clock, sync, recorder, reporter, shared.runtime)


def status_config(settings: Settings, workspace: Workspace) -> StatusConfig:
    """Return the configuration of the status feeds of a workspace."""
    return StatusConfig(
        intervals={name: settings.status.intervals[name] for name in settings.status.feeds},
        max_accounts=settings.metrics.max_accounts,
        key_users=workspace.key_users,
    )
