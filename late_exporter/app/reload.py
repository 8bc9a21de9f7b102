"""Reload the configuration of the running process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from late_exporter import log
from late_exporter.app.exporter import Exporter
from late_exporter.config.settings import Settings, restart_only_changes
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ConfigError, ExporterStopping, LateError

T = TypeVar("T")


@dataclass
class Reloader:
    """Reloads the settings."""

    reload_settings: Callable[[], Settings]
    exporter: Exporter
    web_config_watcher: WebConfigWatcher
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_succeeded: bool = True

    async def reload(self) -> LateError | None:
        """Apply changed settings; return once the result can be scraped.

        Returns:
            The error if the settings are invalid or need a restart; nothing has changed then.
        """
        logger = log.get_logger("late_exporter")
        async with self.lock:
            try:
                settings = await asyncio.to_thread(self.reload_settings)
                if changed := restart_only_changes(self.exporter.settings, settings):
                    raise ConfigError(
                        *(f"{option}: cannot be changed without a restart" for option in changed)
                    )
                for secret in settings.secrets:
                    log.add_secret(secret)
                await self.exporter.reload(settings)
            except LateError as exc:
                self.record_result(succeeded=False)
                logger.error("reload failed", error=str(exc))  # noqa: TRY400 - the settings are wrong, not the program
                return LateError(log.redact(str(exc)))
            log.configure(settings.log.level, settings.log.format)
            self.web_config_watcher.replace(settings.web_config)
            self.record_result(succeeded=True)
            logger.info("reloaded", workspaces=len(settings.workspaces))
        return None

    async def reload_in(self, group: asyncio.TaskGroup) -> None:
        """Reload as a task of the group that runs the exporter.

        It ends with the process, not with its client.

        Raises:
            ExporterStopping: The process is being stopped.
            LateError: As returned by ``reload``.
        """
        task = start_task(group, self.reload())
        if task is not None:
            await asyncio.wait([task])
        if task is None or task.cancelled():
            raise ExporterStopping
        if (error := task.result()) is not None:
            raise error

    def record_result(self, *, succeeded: bool) -> None:
        self.last_succeeded = succeeded
        self._show(succeeded)

    def record_web_config(self, succeeded: bool) -> None:  # noqa: FBT001 - its only argument
        """Show whether the web configuration, which is read again by itself, could be read."""
        self._show(succeeded and self.last_succeeded)

    def _show(self, succeeded: bool) -> None:  # noqa: FBT001 - as above
        registry = self.exporter.pipeline.registry
        registry.set_gauge("late_exporter_config_last_reload_successful", (), int(succeeded))
        if succeeded:
            registry.set_gauge(
                "late_exporter_config_last_reload_success_timestamp_seconds", (), time.time()
            )


def start_task(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """Start a task of a group and return it; None if the group is ending."""
    try:
        return group.create_task(work)
    except RuntimeError:
        work.close()
        return None
