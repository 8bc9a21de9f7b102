"""How a connection to PostgreSQL is made.

This is about its parameters and authentication, and what to do about its errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from late_exporter.errors import ConfigError, StoreError

DEFAULTS: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""Connection parameters that the URL may override."""

NO_RIGHT = (
    "the user needs the right to create tables in the schema, and must own those of the state;"
    " make it the owner of both"
)
INCOMPLETE = (
    "the state is incomplete; restore a backup, or drop the tables whose names begin with late_ to"
    " begin a new state"
)

REMEDIES: Mapping[str, str] = {
    "08001": "the server asks for the password in clear text, or for none: use scram-sha-256, or"
    " accept that with sslmode=verify-full and require_auth=password or none in --state.url",
    "25006": "the server is read-only, as a standby, during a failover or by"
    " default_transaction_read_only; name the primary in --state.url, or several hosts with"
    " target_session_attrs=read-write",
    "28P01": "check the user in --state.url and the password in --state.password-file or"
    " PGPASSFILE",
    "3D000": "create the database, with encoding UTF8",
    "3F000": NO_RIGHT,
    "42501": NO_RIGHT,
    "42P01": INCOMPLETE,
    "42P07": INCOMPLETE,
    "53100": "free some space; nothing is lost meanwhile",
    "55P03": "another process has locked the tables, such as a late-exporter that upgrades the"
    " state, or a command that reads it and keeps this one from an upgrade: wait for its end",
    "53300": "raise max_connections or the limit of the user; each late-exporter uses one"
    " connection",
}
"""What to do about an error, by SQLSTATE."""

NO_ANSWER = "the connection gave no answer in time"
PIPELINE_ERROR = "cannot exit pipeline mode"
"""Beginning of the error that psycopg raises instead if a transaction has waited at its end."""

CONNECTION_ERRORS: Mapping[str, str] = {
    "authentication method requirement": "08001",
    "password authentication failed|no password supplied": "28P01",
    'database ".*" does not exist': "3D000",
    "too many (clients|connections)|remaining connection slots": "53300",
}
"""SQLSTATE by a pattern of the message: libpq reports none for an error while it connects."""


def connection_parameters(url: str, *, has_password_file: bool) -> Mapping[str, Any]:
    """Return the parameters in a URL and the defaults of the others.

    A server that pretends to be the database must not get a password in clear text, nor be one
    that asks for no password although it is given.

    Raises:
        ConfigError: libpq does not know one.
    """
    try:
        url_parameters = conninfo_to_dict(url)
    except psycopg.Error as exc:
        raise ConfigError(f"--state.url {database_name(url)!r}: {_first_line(exc)}") from None
    required = "!password,!none" if has_password_file else "!password"
    return {"require_auth": required, **DEFAULTS, **url_parameters, "client_encoding": "UTF8"}


def database_name(url: str) -> str:
    """Return a URL without its password and parameters, for messages."""
    scheme, slashes, rest = url.partition("?")[0].partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{place}"


def read_password(path: Path) -> str:
    """Return the password in a file; raise StoreError if it cannot be read."""
    try:
        return path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise StoreError(f"--state.password-file {path}: cannot be read: {reason}") from exc


def describe(exc: psycopg.Error) -> str:
    """Return the first line of an error, and the remedy if there is one."""
    if PIPELINE_ERROR in str(exc):
        return NO_ANSWER
    found = (state for pattern, state in CONNECTION_ERRORS.items() if re.search(pattern, str(exc)))
    remedy = REMEDIES.get(exc.sqlstate or next(found, ""), "")
    return f"{_first_line(exc)}{'; ' if remedy else ''}{remedy}"


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0] or type(exc).__name__
