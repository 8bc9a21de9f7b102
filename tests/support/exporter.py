"""The exporter of a test: production's pipeline over fake APIs, run step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from late_exporter.api.generation import ApiGeneration
from late_exporter.api.pages import fetch_page
from late_exporter.app.assembly import ApiConnection, Pipeline, PipelineConfig, StatusSource
from late_exporter.commands.audit.comparison import Audit, grace_period
from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.accounting import CounterMismatch, check_counters
from late_exporter.ingest.details import EventSelection
from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import PollConfig, PollResult, Runtime
from late_exporter.ingest.status_poller import StatusConfig, StatusPace
from late_exporter.ingest.steps import perform
from late_exporter.ingest.sweep import FetchPage, Sweep, TimeFilter
from late_exporter.ingest.webhooks import RequestBudget, WebhookStats
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Scope
from late_exporter.protocols import Logger
from late_exporter.store import open_store
from late_exporter.store.thread import StoreThread
from tests.support.late_api import FakeLateApi
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.scans import whole_scan_interval
from tests.support.steps import Killed, drive, offload_in_steps
from tests.support.store import LogStatus, StoreProxy


class ExporterHarness:
    """A pipeline over fake APIs.

    Args:
        apis: API of each workspace; a single one is that of ``default``.
        path: Path of the state, or its URL; None for memory.
        skew: Seconds by which the exporter's clock is ahead of the API's; may change.
    """

    status_config: StatusConfig | None = None
    """Configuration of the status feeds; a subclass that sets it reads them."""

    events: EventSelection | None = None
    """Observations that become events."""

    logger: Logger = NullLogger()
    """Logger of the pollers."""

    def __init__(
        self,
        apis: FakeLateApi | Mapping[str, FakeLateApi],
        path: Path | str | None = None,
        *,
        feeds: Sequence[str] = ("publishing",),
        config: PollConfig | None = None,
        skew: float = 0.0,
        max_values: int = 50,
        generation: str = "late",
        webhooks: bool = False,
    ) -> None:
        self.generation = generation
        self.apis = {"default": apis} if isinstance(apis, FakeLateApi) else apis
        self.clock = next(iter(self.apis.values())).world.clock
        self.commit_log: list[tuple[Scope, LogStatus]] = []
        self._url = path if isinstance(path, str) else f"sqlite:///{path}" if path else "sqlite://"
        self.skew = skew
        self._config = PipelineConfig(
            feeds=tuple(feeds),
            poll=config or PollConfig(),
            max_label_values=max_values,
            has_webhooks=webhooks,
            events=self.events,
        )
        self._start()

    @property
    def api(self) -> FakeLateApi:
        """API of the only workspace."""
        (api,) = self.apis.values()
        return api

    @property
    def exposition(self) -> Exposition:
        return self.pipeline.exposition

    @property
    def registry(self) -> SeriesRegistry:
        return self.pipeline.registry

    @property
    def pollers(self) -> dict[Scope, Poller]:
        return {
            Scope(workspace, feed): poller
            for workspace, pollers in self.pipeline.pollers.items()
            for feed, poller in pollers.items()
        }

    @property
    def poller(self) -> Poller:
        """Poller of the only feed."""
        (poller,) = self.pollers.values()
        return poller

    @property
    def recorders(self) -> dict[Scope, FeedRecorder]:
        return {scope: poller.recorder for scope, poller in self.pollers.items()}

    @property
    def observations(self) -> set[LogStatus]:
        """Observations of the first workspace that were committed."""
        workspace = next(iter(self.apis))
        return {log_status for scope, log_status in self.commit_log if scope.workspace == workspace}

    def restart(self, downtime: float = 0.0, **changes: Any) -> None:
        """Stop the exporter and start it again, with changes of its configuration."""
        self.close()
        self._config = msgspec.structs.replace(self._config, **changes)
        self.clock.advance(downtime)
        self._start()

    def reload(self) -> None:
        """Apply another switch policy, as a reload of the configuration does."""
        for scope, poller in self.pollers.items():
            poller.reconfigure(self.apis[scope.workspace], self._api_generation(), self._config.poll)

    def close(self) -> None:
        self.store.close()

    def poll(self, workspace: str = "default", feed: str | None = None) -> PollResult:
        return drive(self.pollers[self._scope(workspace, feed)].poll())

    def refresh_status(self) -> None:
        """Refresh every status feed of every workspace."""
        for poller in self.pipeline.status_pollers.values():
            drive(poller.refresh())

    def examine(self, feed: str | None = None) -> None:
        """Poll a feed once, and examine the lists of its generations if that is due."""
        result = self.poll(feed=feed)
        (workspace,) = self.apis
        drive(self.pollers[self._scope(workspace, feed)].examine_generation(result))

    def audit(self, feed: str | None = None) -> PollResult:
        """Poll a feed once."""
        return self.poll(feed=feed)

    def run_audit(
        self,
        workspace: str = "default",
        feed: str | None = None,
        *,
        between: Callable[[], object] = list,
        **options: Any,
    ) -> tuple[Audit, list[CounterMismatch]]:
        """Audit a feed from outside, as the audit command does; ``between`` is called before each request."""
        scope = self._scope(workspace, feed)
        coverage = self.store.feed_state(scope).coverage
        assert coverage is not None
        audited_feed = self._feed(scope)
        audit = Audit(coverage=coverage, **{"grace_period": grace_period(self._config.poll.interval), **options})
        fetch = partial(self._fetch_page, scope)

        def start() -> Sweep[FetchedPage]:
            return Sweep(TimeFilter(is_supported=audited_feed.supports_time_filter), lower=audit.lower)

        sweep = start()
        while not sweep.is_complete:
            between()
            audit.compare(drive(perform(sweep.read(), fetch)))
        if audit.suspects:
            if audit.exporter_running:
                self.settle(scope)
            audit.coverage = self.store.feed_state(scope).coverage or coverage
            unresolved, sweep = set(audit.suspects), start()
            while unresolved and not sweep.is_complete:
                audit.recheck(drive(perform(sweep.read(), fetch)), unresolved)
        return audit, check_counters(scope, audited_feed, self.store.accounting(scope))

    def kill(self, steps: int, downtime: float = 0.0) -> bool:
        """Start a poll, kill the exporter at a step, and start it again; return whether the poll took so many steps."""
        try:
            drive(self.poller.poll(), steps)
        except Killed:
            self.restart(downtime)
            return True
        return False

    def poll_repeatedly(self, count: int, every: float = 30.0) -> list[PollResult]:
        """Poll the only feed several times, with time between the polls."""
        results = []
        for _ in range(count):
            self.clock.advance(every)
            results.append(self.poll())
        return results

    def settle(self, scope: Scope | None = None) -> None:
        """Poll until two scans of the whole list are complete, in a world that does not change any more."""
        scope = scope or next(iter(self.pollers))
        api = self.apis[scope.workspace]
        api.clear_events()
        rows = max(len(archive.rows) for archive in (api.world.archives.publishing, api.world.archives.connections))
        for _ in range(2):
            self.clock.advance(whole_scan_interval(self._config.poll.reconcile_interval) + 1)
            for _ in range(5 + (rows // api.quirks.max_page_size + 1) * 5 // 4):
                self.clock.advance(1.0)
                result = self.poll(scope.workspace, scope.feed)
                assert "success" == result.outcome, result.error

    def scrape(self) -> Samples:
        """Scrape twice, so that new series have left their initial 0; return the second scrape."""
        self.scrape_once()
        return self.scrape_once()

    def scrape_once(self) -> Samples:
        """Publish and scrape, and let the state know what the scrape has read."""
        samples = self.scrape_unmarked()
        drive(self.pipeline.mark_served())
        return samples

    def scrape_unmarked(self) -> Samples:
        """Publish and scrape, as if the process ended before the state knows what the scrape has read."""
        self.exposition.publish()
        body = self.exposition.get_body(None, None)
        self.exposition.mark_served(body.version)
        return Samples.parse(body.body.decode())

    def _scope(self, workspace: str, feed: str | None) -> Scope:
        return Scope(workspace, feed or self._config.feeds[0])

    def _feed(self, scope: Scope) -> Feed:
        return GENERATIONS[self.pollers[scope].generation][scope.feed]

    async def _fetch_page(self, scope: Scope, request: FetchPage) -> FetchedPage:
        feed, api, place = self._feed(scope), self.apis[scope.workspace], request.place
        page = (await fetch_page(api, feed, skip=place.skip, created_before=place.before)).page
        # The real store answers, even if a test makes the exporter's store lie.
        return FetchedPage(page, self.store.store.lookup(scope, [entry.key for entry in page.entries]))

    def _api_generation(self) -> ApiGeneration:
        return ApiGeneration(
            self.generation,
            logger=self.logger,
            monotonic=self.clock.monotonic,
        )

    def _start(self) -> None:
        self.store = StoreProxy(open_store(self._url), self.commit_log)
        self.pipeline = Pipeline(
            self._config,
            store_thread=StoreThread(self.store, offload_in_steps),
            create_logger=lambda _: self.logger,
            runtime=Runtime(
                clock=lambda: self.clock.now + self.skew,
                monotonic=self.clock.monotonic,
                sleep=self.clock.sleep,
                random=lambda: 0.5,
            ),
        )
        has_webhooks = self._config.has_webhooks
        self.webhook_stats = {name: WebhookStats(name, RequestBudget()) for name in self.apis} if has_webhooks else {}
        status = StatusSource(self.status_config, StatusPace()) if self.status_config else None
        connections = {
            name: ApiConnection(
                api,
                self._api_generation(),
                self.webhook_stats.get(name),
                status,
            )
            for name, api in self.apis.items()
        }
        drive(self.pipeline.add_workspaces(connections))
        for poller in self.pollers.values():
            drive(poller.start())
