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
from late_exporter.api.client import Key
from late_exporter.api.generation import Dialect
from late_exporter.config.settings import Settings, Webhook, Workspace
from late_exporter.errors import LateError
from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.publisher import Publisher
from late_exporter.ingest.background_audit import last_audit
from late_exporter.ingest.poller import Pace, Poller
from late_exporter.ingest.recorder import Bookkeeper
from late_exporter.ingest.webhooks import Inbox, Spending, Webhooks
from late_exporter.metrics.catalogue import catalogue
from late_exporter.metrics.labels import Governor
from late_exporter.metrics.registry import Board
from late_exporter.model import FeedState, Increment, Scope
from late_exporter.protocols import Client, Offload
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.store import Store

__all__ = ["Exporter", "own_metrics"]


@dataclass
class Unit:
    """What reads one workspace."""

    workspace: Workspace
    client: Client
    pollers: list[Poller]
    running: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to poll."""
        self.running = [group.create_task(poller.run()) for poller in self.pollers]

    async def stop(self) -> None:
        """Poll no more; what is being saved is saved and shown."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


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
        connect: Callable[[Settings, Workspace], tuple[Client, Dialect]],
        *,
        collect: Callable[[], Iterable[Metric]],
    ) -> None:
        families = catalogue(settings.duration_buckets)
        feeds = frozenset(settings.feeds)
        self._settings = settings
        self._store = store
        self._offload = offload
        self._connect = connect
        shown = {
            name: family
            for name, family in families.items()
            if (settings.max_accounts or "account_id" not in family.labels)
            and (settings.webhook or not name.startswith("late_exporter_webhook"))
        }
        self._governor = Governor(families, max_values=settings.max_label_values, max_accounts=settings.max_accounts)
        self.publisher = Publisher(Exposition(shown, created=settings.created_timestamps), collect)
        self.board = Board(shown, self.publisher, {workspace.name: feeds for workspace in settings.workspaces})
        self.units: dict[str, Unit] = {}
        self.webhooks = _webhooks(settings)
        self._spendings: dict[str, Spending] = {}
        self._group: asyncio.TaskGroup | None = None

    async def restore(self) -> None:
        """Take over what the state holds, and be ready to poll."""
        self.board.gauge("late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1)
        await self._adopt(self._settings, self._settings.workspaces)
        await self.publisher.publish()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Poll every workspace, in tasks of the group."""
        self._group = group
        for unit in self.units.values():
            unit.start(group)

    async def catch_up(self) -> bool:
        """Poll every workspace until nothing is left to read; tells whether all of that succeeded."""
        turns = await asyncio.gather(*(poller.catch_up() for unit in self.units.values() for poller in unit.pollers))
        return all(turn.error is None for turn in turns)

    async def reload(self, settings: Settings) -> None:
        """Follow other settings; raises StoreError where the state of a new workspace cannot be read.

        The pollers of a workspace that stays as it is go on; those of one that changes begin a new poll. Of one that
        goes, the state is kept, and found again should it return.
        """
        old, self._settings = self._settings, settings
        names = {workspace.name for workspace in settings.workspaces}
        try:
            await self._adopt(
                settings, [workspace for workspace in settings.workspaces if workspace.name not in self.units]
            )
        except LateError:
            self._settings = old
            raise
        for name in self.units.keys() - names:
            await self.units.pop(name).stop()
            self.board.forget(name)
            self._governor.forget(name)
            if self.webhooks is not None:
                self.webhooks.inboxes.pop(name)
        if self.webhooks is not None and settings.webhook is not None:
            self.webhooks.retune(_secret(settings.webhook), settings.webhook.window)
        for workspace in settings.workspaces:
            unit = self.units[workspace.name]
            if not unit.running or unit.workspace != workspace or _tuning(old) != _tuning(settings):
                await unit.stop()
                self._retune(unit, workspace)
        self.units = {workspace.name: self.units[workspace.name] for workspace in settings.workspaces}

    def _retune(self, unit: Unit, workspace: Workspace) -> None:
        if unit.running:
            unit.workspace = workspace
            unit.client, dialect = self._connect(self._settings, workspace)
            for poller in unit.pollers:
                poller.retune(unit.client, dialect, self._pace())
        if self._group is not None:
            unit.start(self._group)

    async def _adopt(self, settings: Settings, workspaces: Sequence[Workspace]) -> None:
        """Take over what the state holds of some workspaces; where it cannot be read, nothing has changed."""
        names = {workspace.name for workspace in workspaces}
        if not names:
            return
        scopes = [Scope(name, feed) for name in sorted(names) for feed in settings.feeds]
        totals = await self._offload(self._store.totals)
        states = {scope: await self._offload(self._store.feed, scope) for scope in scopes}
        totals = {series: total for series, total in totals.items() if not names.isdisjoint(series[1][:1])}
        for name in names:
            self.board.enroll(name, frozenset(settings.feeds))
        self._governor.restore(totals)
        self.board.restore(totals, _synced(states))
        for workspace in workspaces:
            backlog: list[Increment] = []
            client, dialect = self._connect(self._settings, workspace)
            inbox = self._inbox(workspace)
            pollers = {
                scope.feed: self._poller(
                    scope, state, client, dialect, backlog, inbox, audited=last_audit(totals, scope)
                )
                for scope, state in states.items()
                if scope.workspace == workspace.name
            }
            if inbox is not None:
                inbox.wakes = {feed: poller.wake for feed, poller in pollers.items()}
            self.units[workspace.name] = Unit(workspace, client, list(pollers.values()))

    def _inbox(self, workspace: Workspace) -> Inbox | None:
        """Where the webhooks of a workspace go, where there are any."""
        if self.webhooks is None:
            return None
        key = workspace.key.get_secret_value() if workspace.key else ""
        inbox = Inbox(workspace.name, self._spendings.setdefault(key, Spending()))
        self.webhooks.inboxes[workspace.name] = inbox
        return inbox

    def _pace(self) -> Pace:
        settings = self._settings
        return Pace(
            interval=settings.poll_interval,
            lookback=settings.lookback,
            reconcile_interval=settings.reconcile_interval,
            audit_interval=settings.audit_interval,
            relaxed=settings.webhook_poll_interval,
            woken_share=settings.quota_share / 2,
        )

    def _poller(
        self,
        scope: Scope,
        state: FeedState,
        client: Client,
        dialect: Dialect,
        backlog: list[Increment],
        inbox: Inbox | None,
        *,
        audited: float,
    ) -> Poller:
        feed = dialect.likely(scope.feed, bound=state.coverage.generation if state.coverage else None)
        books = Bookkeeper(
            scope.workspace,
            feed,
            state,
            store=self._store,
            offload=self._offload,
            governor=self._governor,
            board=self.board,
            backlog=backlog,
            clock=time.time,
            audited=audited,
        )
        return Poller(
            scope.workspace,
            feed,
            client=client,
            dialect=dialect,
            books=books,
            board=self.board,
            pace=self._pace(),
            log=log.get_logger("late_exporter").bind(workspace=scope.workspace, feed=scope.feed),
            shown=self.publisher.settled,
            inbox=inbox,
        )

    def health(self) -> list[WorkspaceHealth]:
        """How every workspace is doing."""
        return [
            WorkspaceHealth(
                name=name,
                api=unit.workspace.base_url,
                generation=unit.pollers[0].generation if unit.pollers else "",
                feeds=tuple(_redacted(poller.health) for poller in unit.pollers),
                quota=unit.client.quota,
                platforms=self.board.platforms(name),
                failing=self.board.failing(name),
            )
            for name, unit in self.units.items()
        ]


def _tuning(settings: Settings) -> tuple[float | str, ...]:
    """What pollers and clients are set to."""
    return (
        settings.api_generation,
        settings.api_timeout,
        settings.quota_share,
        settings.poll_interval,
        settings.lookback,
        settings.reconcile_interval,
        settings.audit_interval,
        settings.webhook_poll_interval,
    )


def _webhooks(settings: Settings) -> Webhooks | None:
    path, wanted = settings.webhook_path, settings.webhook
    return Webhooks(path, secret=_secret(wanted), window=wanted.window) if path and wanted else None


def _secret(wanted: Webhook) -> Callable[[], str]:
    """The secret of webhooks as it is at the time."""
    return Key(wanted.secret.get_secret_value(), wanted.secret_file, learn=log.add_secret).value


def _redacted(health: FeedHealth) -> FeedHealth:
    replace = msgspec.structs.replace
    recent, failures = (
        tuple(replace(poll, error=log.redact(poll.error)) for poll in polls)
        for polls in (health.recent, health.failures)
    )
    return replace(health, error=log.redact(health.error), recent=recent, failures=failures)


def _synced(states: Mapping[Scope, FeedState]) -> dict[str, list[str]]:
    synced: dict[str, list[str]] = {}
    for scope, state in states.items():
        if state.coverage is not None and state.coverage.synced:
            synced.setdefault(scope.workspace, []).append(scope.feed)
    return synced


def own_metrics() -> Callable[[], list[Metric]]:
    """The metrics of the process, by prometheus_client's own collectors."""
    collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))
    return lambda: [metric for collector in collectors for metric in collector.collect()]
