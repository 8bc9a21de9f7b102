"""Reload the configuration of the running process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from late_exporter import log
from late_exporter.app.exporter import Exporter
from late_exporter.config.settings import Settings, restart_only_changes
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ConfigError, ExporterStopping, LateError


class Reloader:
    """Reloads the settings, one time after the other.

    Requests that arrive while a reload waits for its turn share it, so that any number of them
    causes two at most.

    Attributes:
        error: Why the last reload failed; empty if it did not.
        has_web_config: Whether the web configuration, which is read again by itself, could be read.
    """

    def __init__(
        self,
        reload_settings: Callable[[], Settings],
        exporter: Exporter,
        web_config_watcher: WebConfigWatcher,
    ) -> None:
        self.error = ""
        self.has_web_config = True
        self._reload_settings = reload_settings
        self._exporter = exporter
        self._web_config_watcher = web_config_watcher
        self._lock = asyncio.Lock()
        self._waiting: asyncio.Task[LateError | None] | None = None

    def start(self, group: asyncio.TaskGroup) -> asyncio.Task[LateError | None] | None:
        """Start a reload in the group that runs the exporter, and return the task of it.

        The task ends with the process, not with the client that wants it, and returns the error.
        Return None if the process is being stopped.
        """
        if self._waiting is None:
            reload = self.reload()
            try:
                self._waiting = group.create_task(reload)
            except RuntimeError:  # the group is ending and accepts no more tasks
                reload.close()
        return self._waiting

    async def reload_in(self, group: asyncio.TaskGroup) -> None:
        """Reload as ``start`` does, and wait for the result.

        Raises:
            ExporterStopping: The process is being stopped.
            LateError: The settings are invalid or need a restart; nothing has changed.
        """
        task = self.start(group)
        if task is not None:
            await asyncio.wait([task])
        if task is None or task.cancelled():
            raise ExporterStopping
        if (error := task.result()) is not None:
            raise error

    async def reload(self) -> LateError | None:
        """Apply changed settings; return once the result can be scraped.

        Returns:
            The error if the settings are invalid or need a restart; nothing has changed then.
        """
        logger = log.get_logger("late_exporter")
        async with self._lock:
            self._waiting = None  # what changes from now on needs another reload
            try:
                settings = await asyncio.to_thread(self._reload_settings)
                if changed := restart_only_changes(self._exporter.settings, settings):
                    raise ConfigError(
                        *(f"{option}: cannot be changed without a restart" for option in changed)
                    )
                for secret in settings.secrets:
                    log.add_secret(secret)
                await self._exporter.reload(settings)
            except LateError as exc:
                error = LateError(log.redact(str(exc)))
                self.record_result(str(error))
                logger.error("reload failed", error=str(error))  # noqa: TRY400 - the settings are wrong, not the program
                return error

            log.configure(settings.log.level, settings.log.format)
            self._web_config_watcher.replace(settings.web_config)
            self.record_result()
            logger.info("reloaded", workspaces=len(settings.workspaces))
        return None

    def record_result(self, error: str = "") -> None:
        """Show whether the last reload succeeded, and when."""
        self.error = error
        self._show_result()

    def record_web_config(self, succeeded: bool) -> None:  # noqa: FBT001 - its only argument
        """Show whether the web configuration, which is read again by itself, could be read."""
        self.has_web_config = succeeded
        self._show_result()

    def _show_result(self) -> None:
        is_good = not self.error and self.has_web_config
        registry = self._exporter.pipeline.registry
        registry.set_gauge("late_exporter_config_last_reload_successful", (), int(is_good))
        if is_good:
            registry.set_gauge(
                "late_exporter_config_last_reload_success_timestamp_seconds", (), time.time()
            )
