"""Check the output of log events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from late_exporter.commands.check.finding import Finding, Level
from late_exporter.commands.check.local import write_error
from late_exporter.config.types import EventTarget
from late_exporter.errors import DeliveryError
from late_exporter.events.file_output import FileOutput


def check_events(target: EventTarget | None) -> Iterator[Finding]:
    """Yield what would keep the exporter from starting with a file of events; a missing file is not created."""
    if target is None or target.kind != "file":
        return
    path = Path(target.path)
    problem = ""
    if os.path.lexists(path):
        try:
            FileOutput(path).check()
        except DeliveryError as exc:
            problem = str(exc)
    elif reason := write_error(path.parent):
        problem = f"file:{path}: {reason}"
    if problem:
        yield Finding(
            Level.ERROR, "events", problem, hint="check --events.output and the rights of the exporter's user"
        )
