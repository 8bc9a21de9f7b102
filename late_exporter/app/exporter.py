"""The exporter of the ``run`` command: one pipeline, configured by the settings."""

from __future__ import annotations

import asyncio
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from late_exporter import __revision__, __version__, log
from late_exporter.api.client import LateClient
from late_exporter.app.assembly import Pipeline, PipelineConfig, status_config
from late_exporter.app.workspace_pollers import ApiConnection
from late_exporter.config.settings import Settings, Workspace, format_settings
from late_exporter.health import Failure, FeedHealth, WorkspaceHealth
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.status_poller import StatusPace
from late_exporter.log import Logger
from late_exporter.model import Scope
from late_exporter.store import Store
from late_exporter.store.thread import Offload, StoreThread

PROGRESS_INTERVAL = 10.0
"""Seconds between two log lines about first syncs and catch-ups."""

WORKSPACE_INFO = "late_workspace_info"


class Exporter:
    """The pipeline of the configured workspaces.

    Args:
        collectors: Collectors of prometheus_client whose metrics are shown, too.
        owned: Names of the workspaces to poll and show; None for all. Those that are not configured
            are ignored.

    Attributes:
        settings: The settings in force.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        offload: Offload,
        connect: Callable[[Settings, Workspace], LateClient],
        *,
        collectors: Sequence[Collector] = (),
        owned: AbstractSet[str] | None = None,
    ) -> None:
        self.settings = settings
        self._owned = owned
        self._connect = connect
        self._change_lock = asyncio.Lock()
        self._status_paces = defaultdict[str, StatusPace](StatusPace)
        self._task_group: asyncio.TaskGroup | None = None
        self.pipeline = Pipeline(
            PipelineConfig.of(settings),
            store_thread=StoreThread(store, offload),
            create_logger=_create_logger,
            collectors=(*collectors, WorkspaceInfo(lambda: self._owned_workspaces)),
        )

    @property
    def _owned_workspaces(self) -> Mapping[str, Workspace]:
        return _select(self.settings, self._owned)

    async def restore(self) -> None:
        """Load the state of all workspaces and publish it."""
        registry = self.pipeline.registry
        registry.set_gauge(
            "late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1
        )
        await self._change(self.settings, self._owned)

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task_group = group
        for pollers in self.pipeline.workspaces.values():
            pollers.start(group)

    async def log_progress(self) -> None:
        """Log every ten seconds how far first syncs and catch-ups have come, until cancelled."""
        was_reading = False
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL)
            read_count = 0
            for workspace in self.pipeline.workspaces.values():
                for poller in workspace:
                    progress = poller.measure()
                    read_count += progress.log_count if progress is not None else 0
            # Nothing if none was read yet: maybe none can be, and the polls log the cause.
            if read_count and was_reading:
                log.get_logger("late_exporter").info("reading logs", logs=read_count)
            was_reading = read_count > 0

    async def catch_up(self) -> bool:
        """Poll every workspace until nothing is left to read.

        Return whether all polls succeeded.
        """
        results = await asyncio.gather(
            *(workspace.catch_up() for workspace in self.pipeline.workspaces.values())
        )
        return all(results)

    async def reload(self, settings: Settings) -> None:
        """Apply other settings.

        Pollers of unchanged workspaces go on; those of changed ones are restarted. The state of a
        removed workspace is kept in case it is added again.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._change(settings, self._owned)

    async def own(self, names: AbstractSet[str]) -> None:
        """Poll and show other workspaces, as ``reload`` does if they are added or removed.

        Raises:
            StoreError: The state of a new workspace cannot be read; nothing has changed.
        """
        async with self._change_lock:
            await self._change(self.settings, names)

    async def _change(self, settings: Settings, owned: AbstractSet[str] | None) -> None:
        """Poll and show other workspaces, or the same ones with other settings.

        Raise StoreError as ``reload`` does.
        """
        polled = self.pipeline.workspaces
        workspaces = _select(settings, owned)
        common = polled.keys() & workspaces.keys()
        changed = [
            each
            for each in common
            if polled[each].connection.source != _source(settings, workspaces[each])
        ]
        added = {
            name: self._create_connection(settings, each)
            for name, each in workspaces.items()
            if name not in polled
        }
        await self.pipeline.add_workspaces(added)
        self.settings = settings
        self._owned = owned
        await asyncio.sleep(0)  # A process that is being stopped must not start tasks.
        for name in polled.keys() - workspaces.keys():
            await self.pipeline.remove_workspace(name)
        for name in changed:
            await polled[name].stop()
            polled[name].reconfigure(self._create_connection(settings, workspaces[name]))
        for name in (*added, *changed):
            if self._task_group is not None:
                polled[name].start(self._task_group)

    def _create_connection(self, settings: Settings, workspace: Workspace) -> ApiConnection:
        return ApiConnection(
            self._connect(settings, workspace),
            self._status_paces[workspace.key_text],
            poll=msgspec.convert(
                settings.poll, PollConfig, from_attributes=True
            ),  # Its options have the same names.
            status=status_config(settings, workspace),
            source=_source(settings, workspace),
        )

    def health(self) -> Iterator[WorkspaceHealth]:
        """Yield the health of each workspace, without secrets; they may change in between."""
        for pollers in tuple(self.pipeline.workspaces.values()):
            yield pollers.health(self.pipeline.registry)

    def failures(self) -> Iterator[tuple[str, Sequence[Failure]]]:
        """Yield the last failed attempts to publish of each workspace, with its name."""
        for name, pollers in tuple(self.pipeline.workspaces.items()):
            yield name, pollers.failures

    def configuration(self) -> str:
        """Return the configuration in force as YAML, without secrets."""
        return log.redact(format_settings(self.settings))

    def unsynced_feeds(self) -> Iterator[tuple[str, FeedHealth]]:
        """Yield the feeds whose first sync is not complete, each with the name of its workspace."""
        for name, pollers in self.pipeline.workspaces.items():
            for health in (poller.health for poller in pollers):
                if not health.is_synced:
                    yield name, health

    def names(self) -> Sequence[str]:
        """Return the names of all configured workspaces, also of those of other replicas."""
        return [each.name for each in self.settings.workspaces]


class WorkspaceInfo(Collector):
    """Collector of the info metric of workspaces with labels in the configuration."""

    def __init__(self, workspaces: Callable[[], Mapping[str, Workspace]]) -> None:
        self._workspaces = workspaces

    def collect(self) -> Iterator[Metric]:
        """Yield the info metric, unless no workspace has labels."""
        metric = Metric(
            WORKSPACE_INFO,
            "1, labelled with the labels of a workspace in the configuration.",
            "gauge",
        )
        for workspace in self._workspaces().values():
            if workspace.labels:
                metric.add_sample(
                    WORKSPACE_INFO, {"workspace": workspace.name, **dict(workspace.labels)}, 1
                )
        if metric.samples:
            yield metric


def _select(settings: Settings, owned: AbstractSet[str] | None) -> Mapping[str, Workspace]:
    """Return the configured workspaces, or those that the process owns, by name."""
    return {each.name: each for each in settings.workspaces if owned is None or each.name in owned}


def _source(settings: Settings, workspace: Workspace) -> object:
    """Return what the pollers of a workspace depend on."""
    return workspace, settings.api, settings.poll, settings.status


def _create_logger(scope: Scope) -> Logger:
    logger: Logger = log.get_logger("late_exporter").bind(
        workspace=scope.workspace, feed=scope.feed
    )
    return logger
