"""The exporter put together: the pollers of every workspace, and what they share."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric

from late_exporter import __revision__, __version__, log
from late_exporter.api.client import ApiKey
from late_exporter.api.generation import ApiGeneration
from late_exporter.config.settings import Settings, Workspace
from late_exporter.config.types import SecretFile
from late_exporter.errors import LateError
from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.publisher import Publisher
from late_exporter.ingest.background_audit import last_audit
from late_exporter.ingest.poller import PollConfig, Poller
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.webhooks import RequestBudget, WebhookReceiver, WebhookStats
from late_exporter.metrics.catalogue import build_catalogue
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import FeedState, Increment, Scope
from late_exporter.protocols import Client, Offload
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.store import Store

__all__ = ["Exporter", "process_collector"]


@dataclass
class WorkspacePollers:
    """What reads one workspace."""

    workspace: Workspace
    client: Client
    pollers: list[Poller]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to poll."""
        self.tasks = [group.create_task(poller.run()) for poller in self.pollers]

    async def stop(self) -> None:
        """Poll no more; what is being saved is saved and shown."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Exporter:
    """Everything between the API and the scrape, put together.

    Args:
        settings: What the user wants.
        store: The state, opened.
        offload: Runs a call in the store's thread.
        connect: Gives the client of a workspace, and the generation of its API.
        collect: Gives the metrics of the process.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        offload: Offload,
        connect: Callable[[Settings, Workspace], tuple[Client, ApiGeneration]],
        *,
        collect_process_metrics: Callable[[], Iterable[Metric]],
    ) -> None:
        families = build_catalogue(settings.metrics.duration_buckets)
        feeds = frozenset(settings.poll.feeds)
        self._settings = settings
        self._store = store
        self._offload = offload
        self._connect = connect
        visible_families = {
            name: family
            for name, family in families.items()
            if (settings.metrics.max_accounts or "account_id" not in family.labels)
            and (settings.webhook.path or not name.startswith("late_exporter_webhook"))
        }
        self._label_limiter = LabelLimiter(
            families, max_values=settings.metrics.max_label_values, max_accounts=settings.metrics.max_accounts
        )
        self.exposition = Exposition(visible_families, created=settings.metrics.created_timestamps)
        self.publisher = Publisher(self.exposition, collect_process_metrics)
        self.registry = SeriesRegistry(
            visible_families, self.exposition, {workspace.name: feeds for workspace in settings.workspaces}
        )
        self.workspaces: dict[str, WorkspacePollers] = {}
        self.webhook_receiver = _create_receiver(settings)
        self._request_budgets: dict[str, RequestBudget] = {}
        self._task_group: asyncio.TaskGroup | None = None

    async def restore(self) -> None:
        """Take over what the state holds, and be ready to poll."""
        self.registry.set_gauge("late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1)
        await self._load(self._settings, self._settings.workspaces)
        await self.publisher.publish()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Poll every workspace, in tasks of the group."""
        self._task_group = group
        for unit in self.workspaces.values():
            unit.start(group)

    async def catch_up(self) -> bool:
        """Poll every workspace until nothing is left to read; tells whether all of that succeeded."""
        results = await asyncio.gather(
            *(poller.catch_up() for unit in self.workspaces.values() for poller in unit.pollers)
        )
        return all(result.error is None for result in results)

    async def reload(self, settings: Settings) -> None:
        """Follow other settings; raises StoreError where the state of a new workspace cannot be read.

        The pollers of a workspace that stays as it is go on; those of one that changes begin a new poll. Of one that
        goes, the state is kept, and found again should it return.
        """
        old, self._settings = self._settings, settings
        names = {workspace.name for workspace in settings.workspaces}
        try:
            await self._load(
                settings, [workspace for workspace in settings.workspaces if workspace.name not in self.workspaces]
            )
        except LateError:
            self._settings = old
            raise
        for name in self.workspaces.keys() - names:
            await self.workspaces.pop(name).stop()
            self.registry.remove_workspace(name)
            self._label_limiter.remove_workspace(name)
            if self.webhook_receiver is not None:
                self.webhook_receiver.stats_by_workspace.pop(name)
        webhook = settings.webhook
        if self.webhook_receiver is not None and webhook.secret_file is not None:
            self.webhook_receiver.reconfigure(_secret_reader(webhook.secret_file), webhook.replay_window)
        for workspace in settings.workspaces:
            unit = self.workspaces[workspace.name]
            if not unit.tasks or unit.workspace != workspace or _pollers_affected(old, settings):
                await unit.stop()
                self._reconfigure(unit, workspace)
        self.workspaces = {workspace.name: self.workspaces[workspace.name] for workspace in settings.workspaces}

    def _reconfigure(self, unit: WorkspacePollers, workspace: Workspace) -> None:
        if unit.tasks:
            unit.workspace = workspace
            unit.client, dialect = self._connect(self._settings, workspace)
            for poller in unit.pollers:
                poller.reconfigure(unit.client, dialect, self._poll_config())
        if self._task_group is not None:
            unit.start(self._task_group)

    async def _load(self, settings: Settings, workspaces: Sequence[Workspace]) -> None:
        """Take over what the state holds of some workspaces; where it cannot be read, nothing has changed."""
        names = {workspace.name for workspace in workspaces}
        if not names:
            return
        scopes = [Scope(name, feed) for name in sorted(names) for feed in settings.poll.feeds]
        totals = await self._offload(self._store.series_values)
        states = {scope: await self._offload(self._store.feed_state, scope) for scope in scopes}
        totals = {series: total for series, total in totals.items() if not names.isdisjoint(series[1][:1])}
        for name in names:
            self.registry.add_workspace(name, frozenset(settings.poll.feeds))
        self._label_limiter.restore(totals)
        self.registry.restore(totals, _synced_feeds(states))
        for workspace in workspaces:
            backlog: list[Increment] = []
            client, dialect = self._connect(self._settings, workspace)
            inbox = self._create_webhook_stats(workspace)
            pollers = {
                scope.feed: self._create_poller(
                    scope, state, client, dialect, backlog, inbox, audited=last_audit(totals, scope)
                )
                for scope, state in states.items()
                if scope.workspace == workspace.name
            }
            if inbox is not None:
                inbox.wake_callbacks = {feed: poller.wake for feed, poller in pollers.items()}
            self.workspaces[workspace.name] = WorkspacePollers(workspace, client, list(pollers.values()))

    def _create_webhook_stats(self, workspace: Workspace) -> WebhookStats | None:
        """Where the webhooks of a workspace go, where there are any."""
        if self.webhook_receiver is None:
            return None
        key = workspace.key.get_secret_value() if workspace.key else ""
        inbox = WebhookStats(workspace.name, self._request_budgets.setdefault(key, RequestBudget()))
        self.webhook_receiver.stats_by_workspace[workspace.name] = inbox
        return inbox

    def _poll_config(self) -> PollConfig:
        settings = self._settings
        return PollConfig(
            interval=settings.poll.interval,
            lookback=settings.poll.lookback,
            reconcile_interval=settings.poll.reconcile_interval,
            audit_interval=settings.poll.audit_interval,
            webhook_interval=settings.webhook.poll_interval or 0.0,
            webhook_share=settings.api.quota_share / 2,
        )

    def _create_poller(
        self,
        scope: Scope,
        state: FeedState,
        client: Client,
        dialect: ApiGeneration,
        backlog: list[Increment],
        inbox: WebhookStats | None,
        *,
        audited: float,
    ) -> Poller:
        feed = dialect.initial_feed(scope.feed, state_generation=state.coverage.generation if state.coverage else None)
        books = FeedRecorder(
            scope.workspace,
            feed,
            state,
            store=self._store,
            offload=self._offload,
            label_limiter=self._label_limiter,
            registry=self.registry,
            backlog=backlog,
            clock=time.time,
            last_audit_at=audited,
        )
        return Poller(
            scope.workspace,
            feed,
            client=client,
            generation=dialect,
            recorder=books,
            registry=self.registry,
            config=self._poll_config(),
            logger=log.get_logger("late_exporter").bind(workspace=scope.workspace, feed=scope.feed),
            wait_published=self.publisher.wait_published,
            webhook_stats=inbox,
        )

    def health(self) -> list[WorkspaceHealth]:
        """How every workspace is doing."""
        return [
            WorkspaceHealth(
                name=name,
                base_url=unit.workspace.base_url,
                generation=unit.pollers[0].generation if unit.pollers else "",
                feeds=tuple(_redacted(poller.health) for poller in unit.pollers),
                quota=unit.client.quota,
                platforms=self.registry.platform_health(name),
                failing_accounts=self.registry.failing_accounts(name),
            )
            for name, unit in self.workspaces.items()
        ]


def _pollers_affected(old: Settings, new: Settings) -> bool:
    """Return whether pollers and clients have to follow changed settings."""
    return (old.api, old.poll, old.webhook.poll_interval) != (new.api, new.poll, new.webhook.poll_interval)


def _create_receiver(settings: Settings) -> WebhookReceiver | None:
    webhook = settings.webhook
    if webhook.path is None or webhook.secret_file is None:
        return None
    return WebhookReceiver(webhook.path, secret=_secret_reader(webhook.secret_file), window=webhook.replay_window)


def _secret_reader(file: SecretFile) -> Callable[[], str]:
    """Return a function that reads the secret of webhooks again when its file changes."""
    return ApiKey(file.key.get_secret_value(), file.path, on_change=log.add_secret).value


def _redacted(health: FeedHealth) -> FeedHealth:
    replace = msgspec.structs.replace
    recent, failures = (
        tuple(replace(poll, error=log.redact(poll.error)) for poll in polls)
        for polls in (health.recent_polls, health.recent_failures)
    )
    return replace(health, error=log.redact(health.error), recent_polls=recent, recent_failures=failures)


def _synced_feeds(states: Mapping[Scope, FeedState]) -> dict[str, list[str]]:
    synced: dict[str, list[str]] = {}
    for scope, state in states.items():
        if state.coverage is not None and state.coverage.is_synced:
            synced.setdefault(scope.workspace, []).append(scope.feed)
    return synced


def process_collector() -> Callable[[], list[Metric]]:
    """The metrics of the process, by prometheus_client's own collectors."""
    collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))
    return lambda: [metric for collector in collectors for metric in collector.collect()]
