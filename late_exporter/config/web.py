"""Configuration of the web server, which follows its file while the exporter runs."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from late_exporter.errors import ConfigError
from late_exporter.protocols import Logger

FileStamp: TypeAlias = tuple[int, int, int] | None  # change time, inode and size of a file; None if it does not exist


@dataclass(frozen=True, slots=True)
class RequestRate:
    """A token bucket: ``burst`` requests at once, and one more after every ``interval`` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Configuration of the web server.

    Args:
        ssl_context: Context of TLS connections; None for plain HTTP.
        allowed_sans: Names of which a client certificate must contain one; empty to accept any certificate.
        users: The bcrypt hash of each user's password; empty to disable authentication.
        user_workspaces: Workspaces that a user may see; those of other users are not limited.
        files: Files that the configuration was read from, with the stamp of each at that time.
        warnings: Options that have no effect, or a surprising one.
    """

    ssl_context: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    user_workspaces: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rate: RequestRate | None = None
    files: Mapping[Path, FileStamp] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


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
        from late_exporter.config.web_file import load  # noqa: PLC0415 - not needed without a file

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


def stamp_of(file: Path) -> FileStamp:
    """Return the stamp of a file, by which a change of it is noticed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
