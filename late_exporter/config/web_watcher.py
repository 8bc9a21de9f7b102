"""The web configuration in force, which follows its file while the exporter runs."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from late_exporter.config.web import FileStamp, WebConfig, stamp_of
from late_exporter.config.web_file import load
from late_exporter.errors import ConfigError
from late_exporter.protocols import Logger


class WebConfigWatcher:
    """Current web configuration: its file and certificates are read again when they change.

    Which workspaces a user may see is in another file, which is only read at a reload. Until then new users are not
    accepted if any user is bound to workspaces: they would see all of them.

    Methods may be called from any thread.
    """

    def __init__(self, config: WebConfig, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._use(config)

    def replace(self, config: WebConfig) -> None:
        with self._lock:
            self._use(config)

    def current(self) -> WebConfig:
        with self._lock:
            if any(stamp_of(file) != stamp for file, stamp in self._files.items()):
                self._reload()
            return self._config

    def _use(self, config: WebConfig) -> None:
        self._config = config
        self._files = config.files
        for warning in config.warnings:
            self._log.warning("questionable web configuration", remark=warning)

    def _reload(self) -> None:
        files: dict[Path, FileStamp] = {}
        try:
            self._use(self._with_known_users(load(next(iter(self._files)), files)))
        except ConfigError as exc:
            self._files = files  # a missing file may appear later
            self._log.warning("web configuration not changed", error="; ".join(exc.problems))
        else:
            self._log.info("web configuration changed")

    def _with_known_users(self, config: WebConfig) -> WebConfig:
        """Return a configuration with the users' workspaces; raise ConfigError if one of these users is missing."""
        bound = self._config.user_workspaces
        if not bound:
            return config
        if missing := sorted(bound.keys() - config.users.keys()):
            reason = "is bound to workspaces, but not in basic_auth_users any more; remove it there first, and reload"
            raise ConfigError(*(f"{user}: {reason}" for user in missing))
        new_users = sorted(config.users.keys() - self._config.users.keys())
        if new_users:
            self._log.warning("new users are not accepted before a reload", users=", ".join(new_users))
        users = {user: password_hash for user, password_hash in config.users.items() if user not in new_users}
        return replace(config, users=users, user_workspaces=bound)
