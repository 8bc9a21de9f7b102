"""The exporter of the ``run`` command: one pipeline, configured and reconfigured by the settings."""

from __future__ import annotations

import asyncio
import gc
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from prometheus_client.registry import Collector

from late_exporter import __revision__, __version__, log
from late_exporter.api.client import ApiKey
from late_exporter.api.generation import ApiGeneration
from late_exporter.app.assembly import ApiConnection, Pipeline, StatusSource, create_exposition
from late_exporter.app.collection import space_full_collections
from late_exporter.app.configs import count_key_users, pipeline_config, poll_config, status_config
from late_exporter.app.workspace_info import WorkspaceInfo
from late_exporter.app.workspace_pollers import WorkspacePollers
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
from late_exporter.ingest.webhooks import RequestBudget, WebhookReceiver, WebhookStats
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Scope
from late_exporter.protocols import Client, Logger, Offload
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.store import Store
from late_exporter.store.thread import StoreThread

SAME_LOGS = "the workspace has the same key as another one, and counts the same logs; give each a profile_id"

NO_WORKSPACE = "no workspace belongs to this shard; it serves nothing until one is added"


class KeyLimits(NamedTuple):
    """Limits of the requests that all workspaces of a key share, of webhooks and of status feeds."""

    webhooks: RequestBudget
    status: StatusPace


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
        self.webhook_receiver = _create_receiver(settings)
        self._connect = connect
        config = pipeline_config(settings)
        info = WorkspaceInfo(self._own_workspaces)
        self.exposition = create_exposition(config, collectors=(*collectors, info))
        self.publisher = Publisher(self.exposition)
        store_thread = StoreThread(store, offload)
        self._pipeline = Pipeline(
            config,
            store_thread=store_thread,
            create_logger=_create_logger,
            exposition=self.exposition,
            wait_published=self.publisher.wait_published,
        )
        self._use_settings(settings, owned)
        self.deliverer = self._create_deliverer(output, store_thread) if output is not None else None
        self.workspaces: dict[str, WorkspacePollers] = {}
        self._key_limits = defaultdict[str, KeyLimits](lambda: KeyLimits(RequestBudget(), StatusPace()))
        self._task_group: asyncio.TaskGroup | None = None

    @property
    def registry(self) -> SeriesRegistry:
        return self._pipeline.registry

    def _create_deliverer(self, output: Output, store_thread: StoreThread) -> EventDeliverer:
        deliverer = EventDeliverer(
            store_thread.store.outbox,
            output,
            offload=store_thread.offload,
            report=DeliveryReport(self.registry, lambda: self._pipeline.pollers, self._pipeline.count),
            logger=log.get_logger("late_exporter"),
            monotonic=time.monotonic,
        )
        store_thread.on_events = deliverer.wake
        return deliverer

    async def restore(self) -> None:
        """Load the state of all workspaces and publish it."""
        self.registry.set_gauge("late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1)
        self._announce_shard()
        await self._add_workspaces(self._own_workspaces())
        for first, second in self._settings.workspaces_with_same_logs:
            log.get_logger("late_exporter").warning(SAME_LOGS, workspace=second, other=first)
        await self.publisher.publish()

    def _announce_shard(self) -> None:
        """Set the metric of the shard, and log which share of the workspaces it has."""
        shard, total = self._settings.sharding.shard, self._settings.sharding.total_shards
        if total == 1:
            return
        self.registry.set_gauge("late_exporter_total_shards", (str(shard),), total)
        logger = log.get_logger("late_exporter").bind(shard=shard, total_shards=total)
        if not self._settings.workspaces:
            logger.warning(NO_WORKSPACE)
        else:
            counts = len(self._settings.workspaces), len(self._settings.all_workspaces)
            logger.info("sharded", workspaces=counts[0], all_workspaces=counts[1])

    def pollers(self) -> Iterator[Poller]:
        """Yield the poller of each feed of each workspace."""
        for workspace in self.workspaces.values():
            yield from workspace.pollers

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task_group = group
        for pollers in self.workspaces.values():
            pollers.start(group)

    async def catch_up(self) -> bool:
        """Poll every workspace until nothing is left to read; return whether all polls succeeded."""
        results = await asyncio.gather(*(workspace.catch_up() for workspace in self.workspaces.values()))
        await self.publisher.wait_published()
        return all(results)

    async def deliver_events(self) -> None:
        """Deliver the log events that are queued, if they have an output, and save what was delivered."""
        if self.deliverer is None:
            return
        await self.deliverer.deliver()
        for workspace in self.workspaces.values():
            await workspace.save_deferred()
        await self.publisher.wait_published()

    async def reload(self, settings: Settings) -> None:
        """Apply other settings.

        Pollers of unchanged workspaces go on; those of changed ones are restarted. The state of a removed workspace is
        kept in case it is added again.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._apply(settings, self._owned)

    async def own(self, names: AbstractSet[str]) -> None:
        """Poll and show other workspaces, as ``reload`` does if they are added or removed.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._apply(self._settings, names)

    async def _apply(self, settings: Settings, owned: AbstractSet[str] | None) -> None:
        previous, previously_owned = self._settings, self._owned
        self._use_settings(settings, owned)
        workspaces = self._own_workspaces()
        names = {workspace.name for workspace in workspaces}
        try:
            await self._add_workspaces([workspace for workspace in workspaces if workspace.name not in self.workspaces])
        except LateError:
            self._use_settings(previous, previously_owned)
            raise
        await asyncio.sleep(0)  # A process that is being stopped must not start tasks.
        await self._remove_workspaces(self.workspaces.keys() - names)
        self._reconfigure_webhooks()
        polling_changed = (previous.api, previous.poll) != (settings.api, settings.poll)
        for workspace in workspaces:
            pollers = self.workspaces[workspace.name]
            status_changed = pollers.status.config != self._status_source(workspace).config
            if not pollers.tasks or pollers.workspace != workspace or polling_changed or status_changed:
                await pollers.stop()
                self._restart(pollers, workspace)
        self.workspaces = {workspace.name: self.workspaces[workspace.name] for workspace in workspaces}

    def health(self) -> Iterator[WorkspaceHealth]:
        """Yield the health of each workspace; they may change in between."""
        now = time.time()
        for pollers in list(self.workspaces.values()):
            yield pollers.health(self.registry, now)

    def configuration(self) -> str:
        """Return the configuration in force as YAML, without secrets."""
        return log.redact(format_settings(self._settings))

    def unsynced_feeds(self) -> Iterator[tuple[str, FeedHealth]]:
        """Yield the feeds whose first sync is not complete, each with the name of its workspace."""
        for name, pollers in self.workspaces.items():
            for feed in pollers.unsynced_feeds():
                yield name, feed

    def names(self) -> Collection[str]:
        """Return the names of the configured workspaces, including those that other replicas own."""
        return [each.name for each in self._settings.workspaces]

    def sharing_groups(self) -> Mapping[str, str]:
        """Return a group for each configured workspace: those with the same key share its quota, in one process.

        A group has the name of its first workspace in alphabetical order, so that it does not depend on their order in
        the files of the replicas.
        """
        workspaces = sorted(self._settings.workspaces, key=lambda each: each.name)
        first_names: dict[str, str] = {}
        return {each.name: first_names.setdefault(each.key_text, each.name) for each in workspaces}

    def _own_workspaces(self) -> list[Workspace]:
        return [each for each in self._settings.workspaces if self._owned is None or each.name in self._owned]

    def _restart(self, pollers: WorkspacePollers, workspace: Workspace) -> None:
        if pollers.tasks:
            pollers.workspace = workspace
            pollers.client, generation = self._connect(self._settings, workspace)
            for poller in pollers.pollers:
                poller.reconfigure(pollers.client, generation, self._pipeline.poll_config)
            pollers.status.reconfigure(pollers.client, *self._status_source(workspace))
            if self.webhook_receiver is not None:
                webhook_stats = self.webhook_receiver.stats_by_workspace[workspace.name]
                webhook_stats.budget = self._key_limits[workspace.key_text].webhooks
        if self._task_group is not None:
            pollers.start(self._task_group)

    async def _add_workspaces(self, workspaces: Sequence[Workspace]) -> None:
        connections = {
            workspace.name: ApiConnection(
                *self._connect(self._settings, workspace),
                self._create_webhook_stats(workspace),
                self._status_source(workspace),
            )
            for workspace in workspaces
        }
        await self._pipeline.add_workspaces(connections)
        for workspace in workspaces:
            client, webhook_stats = connections[workspace.name].client, connections[workspace.name].webhook_stats
            pollers = list(self._pipeline.pollers[workspace.name].values())
            status_poller = self._pipeline.status_pollers[workspace.name]
            self.workspaces[workspace.name] = WorkspacePollers(workspace, client, pollers, status_poller)
            if self.webhook_receiver is not None and webhook_stats is not None:
                self.webhook_receiver.stats_by_workspace[workspace.name] = webhook_stats
        space_full_collections(len(self.workspaces))

    async def _remove_workspaces(self, names: AbstractSet[str]) -> None:
        if names:
            gc.unfreeze()  # Their pollers are reference cycles, see CollectionLimiter.
        for name in names:
            await self.workspaces.pop(name).stop()
            self._pipeline.remove_workspace(name)
            if self.webhook_receiver is not None:
                self.webhook_receiver.stats_by_workspace.pop(name)

    def _reconfigure_webhooks(self) -> None:
        receiver, webhook = self.webhook_receiver, self._settings.webhook
        if receiver is not None and webhook.secret_file is not None:
            receiver.secret = _secret_reader(webhook.secret_file)

    def _create_webhook_stats(self, workspace: Workspace) -> WebhookStats | None:
        if self.webhook_receiver is None:
            return None
        return WebhookStats(workspace.name, self._key_limits[workspace.key_text].webhooks)

    def _status_source(self, workspace: Workspace) -> StatusSource:
        config = status_config(self._settings, workspace, self._key_users)
        return StatusSource(config, self._key_limits[workspace.key_text].status)

    def _use_settings(self, settings: Settings, owned: AbstractSet[str] | None) -> None:
        self._settings, self._owned = settings, owned
        self._key_users = count_key_users(settings)
        self._pipeline.poll_config = poll_config(settings)
        if self.webhook_receiver is not None and self._owned is not None:
            # Also its own, which are looked for first: those that are being added or removed are accepted, too.
            self.webhook_receiver.other_workspaces = frozenset(self.names())


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
