"""The exporter of the ``run`` command: one pipeline, configured and reconfigured by the settings."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from prometheus_client.registry import Collector

from late_exporter import __revision__, __version__, log
from late_exporter.api.client import ApiKey
from late_exporter.api.generation import ApiGeneration
from late_exporter.app.assembly import Pipeline, create_exposition
from late_exporter.app.configs import count_key_users, pipeline_config, poll_config, status_config
from late_exporter.app.workspace_info import WorkspaceInfo
from late_exporter.app.workspace_pollers import ApiConnection, WorkspacePollers
from late_exporter.config.dump import format_settings
from late_exporter.config.fields import SecretFile
from late_exporter.config.settings import Settings, Workspace
from late_exporter.errors import LateError
from late_exporter.events.deliverer import EventDeliverer
from late_exporter.events.output import Output
from late_exporter.events.report import DeliveryReport
from late_exporter.exposition.publisher import Publisher
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.status_poller import StatusPace
from late_exporter.ingest.webhooks import WebhookReceiver, WebhookStats
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Scope
from late_exporter.protocols import Client, Logger, Offload
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.store import Store
from late_exporter.store.thread import StoreThread

SAME_LOGS = "the workspace has the same key as another one, and counts the same logs; give each a profile_id"


class Target(NamedTuple):
    """What the exporter is to poll and show: its settings, and the names of its workspaces, None for all of them."""

    settings: Settings
    owned: AbstractSet[str] | None
    key_users: Counter[str]

    @property
    def workspaces(self) -> Mapping[str, Workspace]:
        workspaces = {each.name: each for each in self.settings.workspaces}
        return {name: each for name, each in workspaces.items() if self.owned is None or name in self.owned}

    def polling(self, workspace: Workspace) -> tuple[object, ...]:
        """Return everything whose change makes a workspace start again."""
        status = status_config(self.settings, workspace, self.key_users)
        return workspace, self.settings.api, self.settings.poll, status


class Exporter:
    """The pipeline of the configured workspaces, its publisher and its webhook receiver.

    Args:
        collectors: Collectors of prometheus_client whose metrics are shown, too.
        owned: Names of the workspaces to poll and show; None for all. Those that are not configured are ignored.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        offload: Offload,
        connect: Callable[[Settings, Workspace], tuple[Client, ApiGeneration]],
        *,
        collectors: Sequence[Collector] = (),
        output: Output | None = None,
        owned: AbstractSet[str] | None = None,
    ) -> None:
        self._change_lock = asyncio.Lock()
        self._connect = connect
        self._target = Target(settings, owned, count_key_users(settings))
        self._status_paces = defaultdict[str, StatusPace](StatusPace)
        self._task_group: asyncio.TaskGroup | None = None
        self.webhook_receiver = _create_receiver(settings)
        config, store_thread = pipeline_config(settings), StoreThread(store, offload)
        info = WorkspaceInfo(lambda: self._target.workspaces.values())  # noqa: PLW0108 - the target changes
        self.exposition = create_exposition(config, collectors=(*collectors, info))
        self.publisher = Publisher(self.exposition)
        self._pipeline = Pipeline(
            config,
            store_thread=store_thread,
            create_logger=_create_logger,
            exposition=self.exposition,
            wait_published=self.publisher.wait_published,
        )
        self.deliverer: EventDeliverer | None = None
        if output is not None:
            self.deliverer = EventDeliverer(
                store.outbox,
                output,
                offload=offload,
                report=DeliveryReport(self.registry, lambda: self.workspaces, self._pipeline.count),
                logger=log.get_logger("late_exporter"),
                monotonic=time.monotonic,
            )
            store_thread.on_events = self.deliverer.wake

    @property
    def registry(self) -> SeriesRegistry:
        return self._pipeline.registry

    @property
    def workspaces(self) -> dict[str, WorkspacePollers]:
        return self._pipeline.workspaces

    async def restore(self) -> None:
        """Load the state of all workspaces and publish it."""
        logger, settings = log.get_logger("late_exporter"), self._target.settings
        self.registry.set_gauge("late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1)
        shard, total = settings.sharding.shard, settings.sharding.total_shards
        if total > 1:
            self.registry.set_gauge("late_exporter_total_shards", (str(shard),), total)
            counts = {"workspaces": len(settings.workspaces), "all_workspaces": len(settings.all_workspaces)}
            logger.info("sharded", shard=shard, total_shards=total, **counts)
        await self._change(self._target)
        for first, second in settings.workspaces_with_same_logs:
            logger.warning(SAME_LOGS, workspace=second, other=first)
        await self.publisher.publish()

    def pollers(self) -> Iterator[Poller]:
        """Yield the poller of each feed of each workspace."""
        for workspace in self.workspaces.values():
            yield from workspace

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task_group = group
        for pollers in self.workspaces.values():
            pollers.start(group)

    async def catch_up(self) -> bool:
        """Poll every workspace until nothing is left to read; return whether all polls succeeded."""
        results = await asyncio.gather(*(workspace.catch_up() for workspace in self.workspaces.values()))
        if self.deliverer is not None:
            await self.deliverer.deliver()
            for workspace in self.workspaces.values():
                await workspace.save_requests()
        await self.publisher.wait_published()
        return all(results)

    async def reload(self, settings: Settings) -> None:
        """Apply other settings.

        Pollers of unchanged workspaces go on; those of changed ones are restarted. The state of a removed workspace is
        kept in case it is added again.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._change(Target(settings, self._target.owned, count_key_users(settings)))

    async def own(self, names: AbstractSet[str]) -> None:
        """Poll and show other workspaces, as ``reload`` does if they are added or removed.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._change(self._target._replace(owned=names))

    async def _change(self, target: Target) -> None:
        """Poll and show other workspaces, or the same ones with other settings; raise StoreError as ``reload`` does."""
        previous, before, workspaces = self._target, self._target.workspaces, target.workspaces
        self._use(target)
        added = workspaces.keys() - self.workspaces.keys()
        connections = {name: self._create_connection(workspaces[name]) for name in added}
        try:
            await self._pipeline.add_workspaces(connections)
        except LateError:
            self._use(previous)
            raise
        await asyncio.sleep(0)  # A process that is being stopped must not start tasks.
        for name in self.workspaces.keys() - workspaces.keys():
            await self._pipeline.remove_workspace(name)
        for name, pollers in self.workspaces.items():
            workspace = workspaces[name]
            if name not in added and previous.polling(before[name]) != target.polling(workspace):
                await pollers.stop()
                connections[name] = self._create_connection(workspace)
                pollers.reconfigure(connections[name], self._pipeline.poll_config)
            if name in connections and self._task_group is not None:
                pollers.start(self._task_group)
        self._pipeline.workspaces = {name: self.workspaces[name] for name in workspaces}
        if self.webhook_receiver is not None:
            stats = {name: pollers.connection.webhook_stats for name, pollers in self.workspaces.items()}
            self.webhook_receiver.stats_by_workspace = {name: each for name, each in stats.items() if each is not None}

    def _use(self, target: Target) -> None:
        """Use other settings for what is created from now on, and for webhooks."""
        self._target = target
        self._pipeline.poll_config = poll_config(target.settings)
        receiver, webhook = self.webhook_receiver, target.settings.webhook
        if receiver is None:
            return
        if webhook.secret_file is not None:
            receiver.secret = _secret_reader(webhook.secret_file)
        if target.owned is not None:
            # Also its own, which are looked for first: those that are being added or removed are accepted, too.
            receiver.other_workspaces = frozenset(self.names())

    def _create_connection(self, workspace: Workspace) -> ApiConnection:
        settings, stats = self._target.settings, None
        if self.webhook_receiver is not None:
            stats = self.webhook_receiver.stats_by_workspace.get(workspace.name) or WebhookStats(workspace.name)
        status = status_config(settings, workspace, self._target.key_users)
        pace = self._status_paces[workspace.key_text]
        return ApiConnection(*self._connect(settings, workspace), stats, status, pace)

    def health(self) -> Iterator[WorkspaceHealth]:
        """Yield the health of each workspace, without secrets; they may change in between."""
        now, workspaces = time.time(), self._target.workspaces
        for name, pollers in list(self.workspaces.items()):
            if name in workspaces:
                yield pollers.health(workspaces[name].base_url, self.registry, now)

    def configuration(self) -> str:
        """Return the configuration in force as YAML, without secrets."""
        return log.redact(format_settings(self._target.settings))

    def unsynced_feeds(self) -> Iterator[tuple[str, FeedHealth]]:
        """Yield the feeds whose first sync is not complete, each with the name of its workspace."""
        for name, pollers in self.workspaces.items():
            for health in (poller.health for poller in pollers):
                if not health.is_synced:
                    yield name, health

    def names(self) -> Sequence[str]:
        """Return the names of the configured workspaces, including those that other replicas own."""
        return [each.name for each in self._target.settings.workspaces]

    def sharing_groups(self) -> Mapping[str, str]:
        """Return a group for each configured workspace: those with the same key share its quota, in one process.

        A group has the name of its first workspace in alphabetical order, so that it does not depend on their order in
        the files of the replicas.
        """
        workspaces = sorted(self._target.settings.workspaces, key=lambda each: each.name)
        first_names: dict[str, str] = {}
        return {each.name: first_names.setdefault(each.key_text, each.name) for each in workspaces}


def _create_logger(scope: Scope) -> Logger:
    logger: Logger = log.get_logger("late_exporter").bind(workspace=scope.workspace, feed=scope.feed)
    return logger


def _create_receiver(settings: Settings) -> WebhookReceiver | None:
    webhook = settings.webhook
    if webhook.path is None or webhook.secret_file is None:
        return None
    return WebhookReceiver(webhook.path, secret=_secret_reader(webhook.secret_file))


def _secret_reader(file: SecretFile) -> Callable[[], str]:
    """Return a function that returns the secret of webhooks, read again if its file has changed."""
    return ApiKey(file.key.get_secret_value(), file.path, on_change=log.add_secret).value
