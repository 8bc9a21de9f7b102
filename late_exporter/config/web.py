"""Configuration of the web server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

FileStamp: TypeAlias = (
    tuple[int, int, int] | None
)  # change time, inode and size of a file; None if it does not exist


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Configuration of the web server.

    Args:
        ssl_context: Context of TLS connections; None for plain HTTP.
        users: The bcrypt hash of each user's password; empty to disable authentication.
        files: Files that the configuration was read from, with the stamp of each at that time.
    """

    ssl_context: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    files: Mapping[Path, FileStamp] = field(default_factory=dict)


def stamp_of(file: Path) -> FileStamp:
    """Return the stamp of a file, by which a change of it is noticed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size
