"""The exporter of a test with everything that is inside: for tests of the parts of ``ingest`` and ``store``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from late_exporter.api.pages import fetch_page
from late_exporter.app.assembly import Pipeline
from late_exporter.commands.audit import grace_period
from late_exporter.commands.audit_report import Audit
from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.accounting import CounterMismatch, check_counters
from late_exporter.ingest.poll_context import FetchedPage
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.steps import perform
from late_exporter.ingest.sweep import FetchPage, Sweep, TimeFilter
from late_exporter.ingest.webhooks import WebhookStats
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Scope
from late_exporter.store import open_store
from tests.support.client import FakeClient
from tests.support.exporter import ExporterHarness, Poll
from tests.support.steps import drive
from tests.support.store import StoreProxy
from tests.support.world import LogStatus


class InsideHarness(ExporterHarness):
    """An exporter whose parts a test may use; a poll does not examine the other API generation."""

    def __init__(
        self,
        apis: FakeClient | Mapping[str, FakeClient],
        path: Path | str | None = None,
        *,
        config: PollConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(apis, path, **{**msgspec.structs.asdict(config or PollConfig()), **options})

    @property
    def store(self) -> StoreProxy:
        assert isinstance(self._store, StoreProxy)
        return self._store

    @property
    def pipeline(self) -> Pipeline:
        return self._pipeline

    @property
    def webhook_stats(self) -> dict[str, WebhookStats]:
        return self._webhook_stats

    @property
    def exposition(self) -> Exposition:
        return self._pipeline.exposition

    @property
    def registry(self) -> SeriesRegistry:
        return self._pipeline.registry

    @property
    def pollers(self) -> dict[Scope, Poller]:
        return {Scope(*scope): poller for scope, poller in self._pollers.items()}

    @property
    def poller(self) -> Poller:
        """Poller of the only feed."""
        (poller,) = self._pollers.values()
        return poller

    @property
    def recorders(self) -> dict[Scope, FeedRecorder]:
        return {scope: poller.recorder for scope, poller in self.pollers.items()}

    @property
    def commit_log(self) -> list[tuple[Scope, LogStatus]]:
        """Observations that were committed, in order."""
        return [(Scope(each.workspace, each.feed), (each.key, each.status)) for each in self.counted]

    def restart(self, downtime: float = 0.0, **changes: Any) -> None:
        """Stop the exporter and start it again, with changes of its configuration."""
        self._config = msgspec.structs.replace(self._config, **changes)
        super().restart(downtime)

    def examine(self, feed: str | None = None) -> None:
        """Poll a feed once, and examine the lists of its generations if that is due."""
        poller = self._poller(next(iter(self.apis)), feed)
        drive(poller.examine_generation(drive(poller.poll())))

    def run_audit(
        self,
        workspace: str = "default",
        feed: str | None = None,
        *,
        between: Callable[[], object] = list,
        exporter_running: bool = True,
        **options: Any,
    ) -> tuple[Audit, list[CounterMismatch]]:
        """Audit a feed from outside, as the audit command does; ``between`` is called before each request.

        Differences are those that a running exporter has not recorded either once it has settled.
        """
        scope, count = Scope(workspace, feed or self.feeds[0]), len(self.counted)
        coverage = self.store.feed_state(scope).coverage
        assert coverage is not None
        audited_feed = self._feed(scope)
        audit = Audit(
            coverage=coverage,
            cutoff=coverage.caught_up_at - grace_period(self._poll.interval),
            compares_pending=exporter_running,
            **options,
        )
        sweep = Sweep[FetchedPage](TimeFilter(is_supported=audited_feed.supports_time_filter), lower=audit.lower)
        while not sweep.is_complete:
            between()
            page = drive(perform(sweep.read(), partial(self._fetch_page, scope)))
            audit.compare(page.entries, page.statuses)
        if audit.unrecorded and exporter_running:
            self.settle(scope.workspace, scope.feed)
            for each, (key, status) in self.commit_log[count:]:
                if each == scope:
                    audit.settle(key, status)
        return audit, check_counters(scope, audited_feed, self.store.accounting(scope))

    async def _turn(self, poller: Poller) -> Poll:
        result = await poller.poll()
        return Poll(result.outcome, None if result.error is None else str(result.error), result.is_partial)

    def _feed(self, scope: Scope) -> Feed:
        return GENERATIONS[self.pollers[scope].recorder.feed.generation][scope.feed]

    async def _fetch_page(self, scope: Scope, request: FetchPage) -> FetchedPage:
        feed, api, place = self._feed(scope), self.apis[scope.workspace], request.place
        page = (await fetch_page(api, feed, skip=place.skip, created_before=place.before)).page
        # The real store answers, even if a test makes the exporter's store lie.
        return FetchedPage(page, self.store.store.lookup(scope, [entry.key for entry in page.entries]))

    def _open_store(self) -> StoreProxy:
        return StoreProxy(open_store(self._url), self.counted)
