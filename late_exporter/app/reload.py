"""Reload the configuration of the running process, and stop it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from late_exporter import log
from late_exporter.app.exporter import Exporter
from late_exporter.config.settings import Settings, restart_only_changes
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ConfigError, ExporterStopping, LateError

T = TypeVar("T")


class LifecycleController:
    """Reloads the settings and stops the process."""

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings],
        exporter: Exporter,
        web_config_watcher: WebConfigWatcher,
        stop: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._reload_settings = reload_settings
        self._exporter = exporter
        self._web_config_watcher = web_config_watcher
        self._lock = asyncio.Lock()
        self.quit = stop

    async def reload(self) -> None:
        """Apply changed settings; return once the result can be scraped.

        Raises:
            LateError: The settings are invalid or need a restart; nothing has changed.
        """
        async with self._lock:
            try:
                settings = await asyncio.to_thread(self._reload_settings)
                if changed := restart_only_changes(self._settings, settings):
                    raise ConfigError(*(f"{option}: cannot be changed without a restart" for option in changed))
                for secret in settings.secrets:
                    log.add_secret(secret)
                await self._exporter.reload(settings)
            except LateError as exc:
                self.record_result(succeeded=False)
                await self._exporter.publisher.wait_published()
                log.get_logger("late_exporter").error("reload failed", error=str(exc))
                raise LateError(log.redact(str(exc))) from None
            log.reconfigure(settings.log.level, settings.log.format)
            self._web_config_watcher.replace(settings.web_config)
            self._settings = settings
            self.record_result(succeeded=True)
            await self._exporter.publisher.wait_published()
            log.get_logger("late_exporter").info("reloaded", workspaces=len(settings.workspaces))

    async def reload_in(self, group: asyncio.TaskGroup) -> None:
        """Reload as a task of the group that runs the exporter, so that the task ends when the process is stopped.

        Raises:
            ExporterStopping: The process is being stopped.
            LateError: As for ``reload``.
        """
        task = start_task(group, self._try_reload())
        if task is not None:
            await asyncio.wait([task])
        if task is None or task.cancelled():
            raise ExporterStopping
        if (error := task.result()) is not None:
            raise error

    async def _try_reload(self) -> Exception | None:
        """Reload and return the error, because an error of a task would stop the exporter."""
        try:
            await self.reload()
        except Exception as exc:  # noqa: BLE001 - it is raised where the reload was requested
            return exc
        return None

    async def on_sighup(self) -> None:
        """Reload; a failure is only logged."""
        with suppress(LateError):
            await self.reload()

    def record_result(self, *, succeeded: bool) -> None:
        self._exporter.registry.set_gauge("late_exporter_config_last_reload_successful", (), int(succeeded))
        if succeeded:
            self._exporter.registry.set_gauge(
                "late_exporter_config_last_reload_success_timestamp_seconds", (), time.time()
            )


def start_task(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """Start a task of a group and return it, or None if the group is ending and accepts no more tasks."""
    try:
        return group.create_task(work)
    except RuntimeError:
        work.close()
        return None
