"""Reload and quit: what may be asked of the running process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from late_exporter import log
from late_exporter.app.exporter import Exporter
from late_exporter.config.settings import Settings
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ConfigError, LateError

__all__ = ["Control"]

FIXED = {
    "state_url": "state.url",
    "feeds": "poll.feeds",
    "listen_addresses": "web.listen-address",
    "systemd_socket": "web.systemd-socket",
    "telemetry_path": "web.telemetry-path",
    "enable_lifecycle": "web.enable-lifecycle",
    "webhook_path": "webhook.path",
    "duration_buckets": "metrics.duration-buckets",
    "max_label_values": "metrics.max-label-values",
    "max_accounts": "metrics.max-accounts",
    "created_timestamps": "metrics.created-timestamps",
}
"""The settings that a process keeps, and the options behind them."""


class Control:
    """Takes over changed settings, and stops the process.

    Args:
        settings: In force.
        reread: Reads them anew.
        exporter: Has to follow them.
        source: Has to follow those of the web server.
        stop: Stops the process.
    """

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        exporter: Exporter,
        source: WebConfigWatcher,
        stop: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._exporter = exporter
        self._source = source
        self._turn = asyncio.Lock()
        self.quit = stop

    async def reload(self) -> None:
        """Take over changed settings, and return once that can be scraped.

        Raises:
            LateError: That cannot be done, and nothing has changed.
        """
        async with self._turn:
            try:
                settings = await asyncio.to_thread(self._reread)
                _refuse_fixed(self._settings, settings)
                for secret in settings.secrets:
                    log.add_secret(secret)
                await self._exporter.reload(settings)
            except LateError as exc:
                self.note(succeeded=False)
                await self._exporter.publisher.settled()
                log.get_logger("late_exporter").error("not reloaded", error=str(exc))
                raise LateError(log.redact(str(exc))) from None
            log.reconfigure(settings.log_level, settings.log_format)
            self._source.replace(settings.web_config)
            self._settings = settings
            self.note(succeeded=True)
            await self._exporter.publisher.settled()
            log.get_logger("late_exporter").info("reloaded", workspaces=len(settings.workspaces))

    async def hang_up(self) -> None:
        """Reload; what cannot be taken over is logged."""
        with suppress(LateError):
            await self.reload()

    def note(self, *, succeeded: bool) -> None:
        """Show whether the last reload succeeded."""
        self._exporter.board.gauge("late_exporter_config_last_reload_successful", (), int(succeeded))
        if succeeded:
            self._exporter.board.gauge("late_exporter_config_last_reload_success_timestamp_seconds", (), time.time())


def _refuse_fixed(old: Settings, new: Settings) -> None:
    """Raise ConfigError where settings differ that the process cannot change."""
    changed = [option for field, option in FIXED.items() if getattr(old, field) != getattr(new, field)]
    if changed:
        raise ConfigError(*(f"{option}: cannot be changed without a restart" for option in changed))
