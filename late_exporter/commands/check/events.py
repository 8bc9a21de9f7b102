"""Check the output of log events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from late_exporter.commands.check.finding import Finding, Level, unencrypted_headers
from late_exporter.commands.check.local import write_error
from late_exporter.config.serving import EventSettings
from late_exporter.errors import DeliveryError
from late_exporter.events.file_output import FileOutput


def check_events(settings: EventSettings) -> Iterator[Finding]:
    """Check that a file of events can be written, and warn if headers are sent to another machine unencrypted."""
    target = settings.output
    if target is None:
        return
    if target.kind == "file":
        yield from _check_file(Path(target.location))
    elif target.kind in ("loki", "otlp") and settings.headers_file is not None:
        yield from unencrypted_headers("events", target.location)


def _check_file(path: Path) -> Iterator[Finding]:
    """Yield what would keep the exporter from starting; a missing file is not created."""
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
