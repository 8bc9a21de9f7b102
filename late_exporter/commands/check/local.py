"""Check what the exporter needs on this machine: key files, state, web configuration, addresses."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from late_exporter.commands.check.finding import Finding, Level
from late_exporter.commands.healthcheck import HEALTHY_STATUSES, check_health
from late_exporter.config.sections import ShardingSettings
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError, StoreError, StoreMissing
from late_exporter.format import plural
from late_exporter.store import database_at, import_postgres, is_postgres
from late_exporter.store.lockfile import require_database, state_exists
from late_exporter.store.schema import require_writable
from late_exporter.store.snapshot import Snapshot
from late_exporter.web.sockets import bind_socket

KEY_PAGE = "https://zernio.com/dashboard/api-keys"
HEALTH_TIMEOUT = 1.0  # seconds in which an exporter on this machine answers
# An address of webhooks serves nothing else, so it has no page for health checks.
WEBHOOK_STATUSES = (*HEALTHY_STATUSES, 404)


def check_key_file(workspace: str, path: Path | None) -> Iterator[Finding]:
    """Check that other users cannot read the key."""
    if path is None:
        return
    level, message, hint = Level.OK, str(path), ""
    try:
        if path.stat().st_mode & stat.S_IROTH:
            level, message = Level.WARNING, f"{path}: every user of this machine can read it"
            hint = f"chmod o= {path}"
    except OSError as exc:
        level, message = Level.ERROR, f"{path}: {exc.strerror}"
    yield Finding(level, "key file", message, hint=hint, workspace=workspace)


def check_key_rights(workspace: str, key: str) -> Iterator[Finding]:
    """Recommend a restricted key instead of one that begins with ``sk_``, which every resource group accepts."""
    if key.startswith("sk_"):
        hint = f"a read-only key for publishing, accounts, webhooks and billing is enough: {KEY_PAGE}"
        yield Finding(Level.OK, "key", "not limited to resource groups", hint=hint, workspace=workspace)


def check_same_logs(pairs: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Warn about workspaces that count the same logs; each pair has two of their names."""
    for first, second in pairs:
        yield Finding(
            Level.WARNING,
            "key",
            f"the same as that of workspace {first}, so both count the same logs",
            hint="give each workspace a profile_id, or a key of its own",
            workspace=second,
        )


def check_shard(sharding: ShardingSettings, workspace_count: int, total_count: int) -> Iterator[Finding]:
    """Report which share of all workspaces the shard has, if there are shards."""
    shard, total = sharding.shard, sharding.total_shards
    if total > 1:
        level = Level.OK if workspace_count else Level.WARNING
        message = f"shard {shard} of {total} has {workspace_count} of {plural(total_count, 'workspace')}"
        hint = "" if workspace_count else "it serves nothing; fewer shards are enough"
        yield Finding(level, "shard", message, hint=hint)


def check_state(url: str, password_file: Path | None = None) -> Finding:
    """Check that the state can be used, without creating or changing it."""
    if is_postgres(url):
        return _check_open_state(url, password_file)
    _, _, name = url.partition("://")
    if not name:
        return Finding(
            Level.WARNING,
            "state",
            "in memory",
            hint="set --state.url to a file, otherwise every restart counts all logs again that Zernio still keeps",
        )
    path = Path(name.removeprefix("/"))
    try:
        if not state_exists(path):
            return _check_new_state(path)
    except StoreError as exc:
        hint = f"give the user {_user_name()} access to its folder, or choose another --state.url"
        return Finding(Level.ERROR, "state", str(exc), hint=hint)
    return _check_open_state(url, None, path)


def check_connection(url: str, password_file: Path | None) -> Iterator[Finding]:
    """Warn if the connection to a database on another machine is not protected."""
    if not is_postgres(url):
        return
    with suppress(StoreError):  # check_state reports that it cannot be reached
        if risk := import_postgres().PostgresDatabase(url, password_file).connection_risk():
            yield Finding(
                Level.WARNING, "state", risk, hint="add sslmode=verify-full and sslrootcert=PATH to --state.url"
            )


def _check_writable(path: Path) -> Finding | None:
    """Return what is wrong if this user cannot write to a state."""
    for place, reason in ((path.parent, write_error(path.parent)), (path, _open_error(path))):
        if reason:
            return Finding(
                Level.ERROR,
                "state",
                f"{path}: the user {_user_name()} cannot write to {place}: {reason}",
                hint="give the exporter's user write access to the file and its folder",
            )
    return None


def _check_open_state(url: str, password_file: Path | None, path: Path | None = None) -> Finding:
    try:
        is_used = database_at(url, password_file).is_in_use()
        try:
            with Snapshot(url, password_file) as snapshot:
                snapshot.series_values()  # The exporter reads them at its start, as the state of each feed.
                log_count = sum(snapshot.feed_state(scope).log_count for scope in snapshot.scopes)
        except StoreMissing as exc:
            message = f"{exc}; it will be created"
            if path is not None:
                return Finding(Level.OK, "state", message)
        else:
            message = f"{snapshot.name}{', in use by an exporter' if is_used else ''}: {plural(log_count, 'log')}"
        if path is not None and (problem := _check_writable(path)):
            return problem
        require_writable(database_at(url, password_file))
    except StoreError as exc:
        return Finding(Level.ERROR, "state", str(exc))
    return Finding(Level.OK, "state", message)


def _open_error(path: Path) -> str:
    try:
        with path.open("rb+"):
            return ""
    except OSError as exc:
        return exc.strerror or type(exc).__name__


def _check_new_state(path: Path) -> Finding:
    try:
        require_database(path)
    except StoreError as exc:
        return Finding(Level.ERROR, "state", str(exc))
    folder = next(parent for parent in path.absolute().parents if _exists(parent))
    reason, user = write_error(folder), _user_name()
    if not reason:
        return Finding(Level.OK, "state", f"{path}: will be created by the user {user}")
    return Finding(
        Level.ERROR,
        "state",
        f"{path}: cannot be created, the user {user} cannot write to {folder}: {reason}",
        hint="give the exporter's user write access, or choose another --state.url",
    )


def _exists(path: Path) -> bool:
    """Return whether a path exists, as far as this user may see."""
    try:
        return path.exists()
    except OSError:
        return False


def write_error(folder: Path) -> str:
    """Return why this process cannot create a file in a folder; empty if it can."""
    try:
        with TemporaryFile(dir=folder):
            return ""
    except OSError as exc:
        return exc.strerror or type(exc).__name__


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def check_web(path: str | None, config: WebConfig) -> Iterator[Finding]:
    if path is None:
        yield Finding(Level.OK, "web", "plain HTTP, no password")
        return
    tls = "TLS" if config.ssl_context is not None else "plain HTTP"
    users = f"passwords of {', '.join(sorted(config.users))}" if config.users else "no password"
    yield Finding(Level.OK, "web", f"{path}: {tls}, {users}")
    for warning in config.warnings:
        yield Finding(Level.WARNING, "web", warning)
    if config.users and config.ssl_context is None:
        yield Finding(Level.WARNING, "web", f"{path}: passwords are sent unencrypted", hint="add tls_server_config")
    if config.user_workspaces:
        unlimited = ", ".join(sorted(config.users.keys() - config.user_workspaces.keys())) or "no user"
        yield Finding(Level.OK, "users", f"{unlimited} may see every workspace")
    for user, workspaces in sorted(config.user_workspaces.items()):
        yield Finding(Level.OK, "users", f"{user} may see {', '.join(sorted(workspaces))} only")


def check_addresses(
    addresses: Sequence[Address | UnixPath], *, secure: bool, statuses: tuple[int, ...] = HEALTHY_STATUSES
) -> Iterator[Finding]:
    """Check that the addresses are free, or that an exporter already answers there with one of the statuses."""
    for address in addresses:
        subject = f"listen {address}"
        try:
            with bind_socket(address):
                yield Finding(Level.OK, subject, "free")
        except LateError as exc:
            with suppress(LateError):
                check_health(address, secure=secure, timeout=HEALTH_TIMEOUT, statuses=statuses)
                yield Finding(Level.OK, subject, "in use, apparently by an exporter")
                continue
            yield Finding(Level.ERROR, subject, str(exc), hint="choose another address")
            continue
        if isinstance(address, UnixPath):
            address.path.unlink(missing_ok=True)
