"""States of each version of the schema, as SQL files; the command writes that of the newest version.

python -m tests.support.states
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from late_exporter.model import IncCounter, LogEntry, SetLatest
from late_exporter.store.migrations import STEPS
from late_exporter.store.records import Batch, Coverage, Observation
from tests.support.exporter import open_store
from tests.support.store import LOGS, NOW, SCOPE, commit_batch

FOLDER = Path(__file__).parents[1] / "store" / "states"
STATUSES = ("success", "failed", "failed", "pending")


def load(version: int, path: Path) -> None:
    """Create a SQLite file with the state of a version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FOLDER / f"{version}.sql").read_text())


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of each table, with their types, defaults and places in the primary key."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in sorted(names)}


def write_state(path: Path) -> None:
    """Count four logs of a retry each, two of which have failed, and one of which is pending."""
    logs = [
        Observation(
            LogEntry(key=f"{NOW:013d}-k.{number}", status=status, created=NOW, platform="tiktok", action="retry"),
            (
                IncCounter(LOGS, ("acme", "tiktok", "retry", status)),
                IncCounter("late_publishing_retries_total", ("acme", "tiktok", status)),
            ),
        )
        for number, status in enumerate(STATUSES)
    ]
    failures = IncCounter("late_publishing_failures_total", ("acme", "tiktok", "retry", "timeout", "none"), amount=2)
    gauge = SetLatest(
        "late_publishing_last_log_timestamp_seconds", ("acme", "tiktok", "retry", "failed"), at=NOW, value=NOW / 1000
    )
    batch = Batch(
        scope=SCOPE,
        observations=logs,
        coverage=Coverage(retention_floor=0, complete_since=1, is_synced=True),
        increments=[failures, gauge],
    )
    with closing(open_store(f"sqlite:///{path}")) as store:
        commit_batch(store, batch)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "late.db")
        write_state(state)
        with closing(sqlite3.connect(state)) as connection:
            text = "\n".join(connection.iterdump())
        (FOLDER / f"{len(STEPS)}.sql").write_text(f"{text}\n")
