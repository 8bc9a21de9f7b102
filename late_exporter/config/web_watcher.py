"""The web configuration in force, which follows its file while the exporter runs."""

from __future__ import annotations

import threading
from pathlib import Path

from late_exporter.config.web import FileStamp, WebConfig, stamp_of
from late_exporter.config.web_file import load
from late_exporter.errors import ConfigError
from late_exporter.protocols import Logger


class WebConfigWatcher:
    """Current web configuration: its file and certificates are read again when they change.

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

    def _reload(self) -> None:
        files: dict[Path, FileStamp] = {}
        try:
            self._use(load(next(iter(self._files)), files))
        except ConfigError as exc:
            self._files = files  # a missing file may appear later
            self._log.warning("web configuration not changed", error="; ".join(exc.problems))
        else:
            self._log.info("web configuration changed")
