"""Configuration of the web server, which follows its file while the exporter runs."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        files: Files that the configuration was read from, with the stamp of each at that time.
        warnings: Options that have no effect, or a surprising one.
    """

    ssl_context: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    rate: RequestRate | None = None
    files: Mapping[Path, FileStamp] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class WebConfigWatcher:
    """Current web configuration: its file and certificates are read again when they change."""

    def __init__(self, config: WebConfig, log: Logger) -> None:
        self._log = log
        self.replace(config)

    def replace(self, config: WebConfig) -> None:
        self._config = config
        self._files = config.files
        for warning in config.warnings:
            self._log.warning("questionable web configuration", remark=warning)

    def current(self) -> WebConfig:
        if any(stamp_of(file) != stamp for file, stamp in self._files.items()):
            self._reload()
        return self._config

    def _reload(self) -> None:
        from late_exporter.config.web_file import load  # noqa: PLC0415 - not needed without a file

        files: dict[Path, FileStamp] = {}
        try:
            self.replace(load(next(iter(self._files)), files))
        except ConfigError as exc:
            self._files = files  # a missing file may appear later
            self._log.warning("web configuration not changed", error="; ".join(exc.problems))
        else:
            self._log.info("web configuration changed")


def stamp_of(file: Path) -> FileStamp:
    """Return the stamp of a file, by which a change of it is noticed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
