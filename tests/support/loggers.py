"""Loggers without output."""

from __future__ import annotations

from typing import Any


class NullLogger:
    """Drops everything."""

    def debug(self, event: str, **fields: Any) -> None:
        """Drop an event."""

    info = warning = debug


class RecordingLogger:
    """Records level, event and fields."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.records.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.records.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.records.append(("warning", event, fields))

    @property
    def above_debug(self) -> list[tuple[str, str]]:
        """Level and event of all records but debug."""
        return [(level, event) for level, event, _ in self.records if level != "debug"]
