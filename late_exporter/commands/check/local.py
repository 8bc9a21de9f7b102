"""Whether the machine is fit for the exporter: key files, state, web configuration, addresses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from late_exporter.commands.check.finding import Finding, Level, count
from late_exporter.commands.healthcheck import ask
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError, StoreError, StoreOutdated
from late_exporter.store import is_in_use, open_records
from late_exporter.web.server import listen

__all__ = ["examine_addresses", "examine_key_file", "examine_state", "examine_web"]

ANSWER = 1.0
"""Seconds in which an exporter on this machine answers."""


def examine_key_file(workspace: str, path: Path | None) -> Iterator[Finding]:
    """Whether others can read the key."""
    if path is None:
        return
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        words = f"{path}: {exc.strerror}"
        yield Finding(level=Level.ERROR, subject="key file", words=words, workspace=workspace)
        return
    if mode & stat.S_IROTH:
        yield Finding(
            level=Level.WARNING,
            subject="key file",
            words=f"{path}: every user of this machine can read it",
            advice=f"chmod o= {path}",
            workspace=workspace,
        )
    else:
        yield Finding(level=Level.OK, subject="key file", words=str(path), workspace=workspace)


def examine_state(url: str) -> Finding:
    """Whether the state can be used; none is made, and one in use is not disturbed."""
    _, _, name = url.partition("://")
    if not name:
        return Finding(
            level=Level.WARNING,
            subject="state",
            words="in memory",
            advice="give --state.url a file, or every restart counts what Late still holds anew",
        )
    path = Path(name.removeprefix("/"))
    if not path.exists():
        return _new_state(path)
    try:
        where = f"{path}, in use by an exporter" if is_in_use(url) else str(path)
        with open_records(url) as records:
            logs = sum(records.feed(scope).logs for scope in records.scopes)
    except StoreOutdated as exc:
        return Finding(level=Level.WARNING, subject="state", words=str(exc))
    except StoreError as exc:
        return Finding(level=Level.ERROR, subject="state", words=str(exc))
    return Finding(level=Level.OK, subject="state", words=f"{where}: {count(logs)}")


def _new_state(path: Path) -> Finding:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return Finding(level=Level.OK, subject="state", words=f"{path}: will be made")
    return Finding(
        level=Level.ERROR,
        subject="state",
        words=f"{path}: cannot be made, {folder} cannot be written to",
        advice="let the exporter's user write there, or choose another --state.url",
    )


def examine_web(path: Path | None, config: WebConfig) -> Iterator[Finding]:
    """What protects the web server."""
    if path is None:
        yield Finding(level=Level.OK, subject="web", words="plain HTTP, no password")
        return
    tls = "TLS" if config.ssl_context is not None else "plain HTTP"
    users = f"passwords of {', '.join(sorted(config.users))}" if config.users else "no password"
    yield Finding(level=Level.OK, subject="web", words=f"{path}: {tls}, {users}")
    for remark in config.warnings:
        yield Finding(level=Level.WARNING, subject="web", words=remark)
    if config.users and config.ssl_context is None:
        yield Finding(
            level=Level.WARNING,
            subject="web",
            words=f"{path}: passwords go over the network in the clear",
            advice="add tls_server_config",
        )


def examine_addresses(addresses: Sequence[Address | UnixPath], *, secure: bool) -> Iterator[Finding]:
    """Whether the addresses are free, or an exporter already answers there."""
    for address in addresses:
        subject = f"listen {address}"
        try:
            with listen(address):
                yield Finding(level=Level.OK, subject=subject, words="free")
        except LateError as exc:
            with suppress(LateError):
                ask(address, secure=secure, timeout=ANSWER)
                yield Finding(level=Level.OK, subject=subject, words="in use, by an exporter as it seems")
                continue
            yield Finding(level=Level.ERROR, subject=subject, words=str(exc), advice="choose another address")
            continue
        if isinstance(address, UnixPath):
            address.path.unlink(missing_ok=True)
