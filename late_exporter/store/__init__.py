"""Durable state: keys and statuses of counted logs, series values, pending logs and coverage.

The URL of a state is ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``sqlite://`` for
memory, or ``postgresql://user@host/database``. Any other scheme raises ConfigError.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from late_exporter.errors import ConfigError
from late_exporter.store.database import Database
from late_exporter.store.sqlite import SqliteDatabase
from late_exporter.store.store import Store

__all__ = ["Store", "database_at", "import_postgres", "is_postgres", "parse_url"]


def database_at(url: str, password_file: Path | None = None) -> Database:
    """Return the database at a URL, which is not opened."""
    if is_postgres(url):
        return import_postgres().PostgresDatabase(url, password_file)  # type: ignore[no-any-return]
    return SqliteDatabase(parse_url(url))


def is_postgres(url: str) -> bool:
    return url.startswith("postgresql://")


def import_postgres(module: str = "postgres") -> Any:
    """Return a module for PostgreSQL.

    Its driver is not needed otherwise, and may not be installed.
    """
    try:
        return import_module(f"late_exporter.store.{module}")
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        raise ConfigError(
            "--state.url: PostgreSQL needs the package psycopg; install late-exporter[postgres]"
        ) from exc


def parse_url(url: str) -> Path | None:
    """Return the path of a state; None for memory."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        raise ConfigError(
            f"--state.url {url!r}: not a state URL; write it like sqlite:///data/late-exporter.db"
        )
    return Path(path.removeprefix("/")) if path else None
