"""Configuration of the web server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

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


def stamp_of(file: Path) -> FileStamp:
    """Return the stamp of a file, by which a change of it is noticed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
