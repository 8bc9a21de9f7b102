"""Whether the machine is fit for the exporter: key files, state, web configuration, addresses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from late_exporter.commands.check.finding import Finding, Level, log_count
from late_exporter.commands.healthcheck import check_health
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError, StoreError, StoreOutdated
from late_exporter.store import is_in_use, open_snapshot
from late_exporter.web.server import bind_socket

__all__ = ["check_addresses", "check_key_file", "check_state", "check_web"]

HEALTH_TIMEOUT = 1.0
"""Seconds in which an exporter on this machine answers."""


def check_key_file(workspace: str, path: Path | None) -> Iterator[Finding]:
    """Whether others can read the key."""
    if path is None:
        return
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        words = f"{path}: {exc.strerror}"
        yield Finding(level=Level.ERROR, subject="key file", message=words, workspace=workspace)
        return
    if mode & stat.S_IROTH:
        yield Finding(
            level=Level.WARNING,
            subject="key file",
            message=f"{path}: every user of this machine can read it",
            hint=f"chmod o= {path}",
            workspace=workspace,
        )
    else:
        yield Finding(level=Level.OK, subject="key file", message=str(path), workspace=workspace)


def check_state(url: str) -> Finding:
    """Whether the state can be used; none is made, and one in use is not disturbed."""
    _, _, name = url.partition("://")
    if not name:
        return Finding(
            level=Level.WARNING,
            subject="state",
            message="in memory",
            hint="give --state.url a file, or every restart counts what Late still holds anew",
        )
    path = Path(name.removeprefix("/"))
    if not path.exists():
        return _new_state(path)
    try:
        where = f"{path}, in use by an exporter" if is_in_use(url) else str(path)
        with open_snapshot(url) as records:
            logs = sum(records.feed_state(scope).log_count for scope in records.scopes)
    except StoreOutdated as exc:
        return Finding(level=Level.WARNING, subject="state", message=str(exc))
    except StoreError as exc:
        return Finding(level=Level.ERROR, subject="state", message=str(exc))
    return Finding(level=Level.OK, subject="state", message=f"{where}: {log_count(logs)}")


def _new_state(path: Path) -> Finding:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return Finding(level=Level.OK, subject="state", message=f"{path}: will be made")
    return Finding(
        level=Level.ERROR,
        subject="state",
        message=f"{path}: cannot be made, {folder} cannot be written to",
        hint="let the exporter's user write there, or choose another --state.url",
    )


def check_web(path: Path | None, config: WebConfig) -> Iterator[Finding]:
    """What protects the web server."""
    if path is None:
        yield Finding(level=Level.OK, subject="web", message="plain HTTP, no password")
        return
    tls = "TLS" if config.ssl_context is not None else "plain HTTP"
    users = f"passwords of {', '.join(sorted(config.users))}" if config.users else "no password"
    yield Finding(level=Level.OK, subject="web", message=f"{path}: {tls}, {users}")
    for remark in config.warnings:
        yield Finding(level=Level.WARNING, subject="web", message=remark)
    if config.users and config.ssl_context is None:
        yield Finding(
            level=Level.WARNING,
            subject="web",
            message=f"{path}: passwords go over the network in the clear",
            hint="add tls_server_config",
        )


def check_addresses(addresses: Sequence[Address | UnixPath], *, secure: bool) -> Iterator[Finding]:
    """Whether the addresses are free, or an exporter already answers there."""
    for address in addresses:
        subject = f"listen {address}"
        try:
            with bind_socket(address):
                yield Finding(level=Level.OK, subject=subject, message="free")
        except LateError as exc:
            with suppress(LateError):
                check_health(address, secure=secure, timeout=HEALTH_TIMEOUT)
                yield Finding(level=Level.OK, subject=subject, message="in use, by an exporter as it seems")
                continue
            yield Finding(level=Level.ERROR, subject=subject, message=str(exc), hint="choose another address")
            continue
        if isinstance(address, UnixPath):
            address.path.unlink(missing_ok=True)
