"""The command ``accounts``: the state of every account that the exporter on this machine knows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from late_exporter.commands._runner import warn, write_line, write_stdout
from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.terminal import Terminal, clean, csv_line, escape_formula, format_table
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration, iso_time
from late_exporter.model import FAILED, SUCCESS, UNKNOWN

PREFIX = "late_account_"
TITLES = (
    "STATE",
    "WORKSPACE",
    "PLATFORM",
    "ACCOUNT",
    "ID",
    "PUBLISHED>",
    "FAILED>",
    "IN A ROW>",
    "LAST SUCCESS",
    "DETAIL",
)


class Account(msgspec.Struct, kw_only=True):
    """State of an account; times are Unix times in seconds, and None if they are not known.

    Args:
        state: Worst of ``reconnect``, ``disconnected``, ``blocked``, ``cooldown``, ``failing`` and ``ok``.
        failed_in_a_row: Failed attempts since the last success.
    """

    workspace: str
    platform: str
    account_id: str
    username: str = ""
    state: str = "ok"
    published: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    last_success: float | None = None
    token_expiry: float | None = None
    cooldown_until: float | None = None
    health: str = ""
    connected: bool = True
    can_post: bool = True
    needs_reconnect: bool = False


STATES = ("reconnect", "disconnected", "blocked", "cooldown", "failing", "ok")
"""States, worst first."""

GAUGES: Mapping[str, tuple[str, Callable[[float], object]]] = MappingProxyType(
    {
        "consecutive_failures": ("failed_in_a_row", int),
        "last_success_timestamp_seconds": ("last_success", lambda time: time or None),
        "token_expiry_timestamp_seconds": ("token_expiry", float),
        "cooldown_until_timestamp_seconds": ("cooldown_until", float),
        "connected": ("connected", bool),
        "can_post": ("can_post", bool),
        "needs_reconnect": ("needs_reconnect", bool),
    }
)
"""Field of each gauge, by the name of the metric after the prefix, and its type."""

TONES = {"ok": "ok", "failing": "warn", "cooldown": "warn"}


def list_accounts(context: CommandContext) -> int:
    """Print the accounts, those in trouble first, and return the exit code."""
    body = fetch(context, context.settings.web.telemetry_path, accept="text/plain;version=0.0.4")
    now, platform = time.time(), context.flags.platform
    accounts = [
        account
        for account in parse_accounts(body.decode("utf-8", "replace"), now)
        if platform is None or account.platform == platform.lower()
    ]
    accounts.sort(key=lambda account: (STATES.index(account.state), -account.failed_in_a_row, *_identity(account)))
    if not accounts:
        warn("no account matches" if platform else "no accounts yet; the first sync may not be complete")
    return write_stdout(lambda: _write(accounts, context.flags.format, now))


def _identity(account: Account) -> tuple[str, str, str]:
    return account.workspace, account.platform, account.account_id


def parse_accounts(text: str, now: float) -> Sequence[Account]:
    """Return the accounts of a response in the Prometheus text format; raise LateError for other texts."""
    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(PREFIX)]
    accounts: dict[tuple[str, str, str], Account] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                key = (labels["workspace"], labels["platform"], labels["account_id"])
                account = accounts.setdefault(key, Account(workspace=key[0], platform=key[1], account_id=key[2]))
                _apply(account, name.removeprefix(PREFIX), labels, value)
    except (KeyError, ValueError):
        raise LateError("the response is not that of a late-exporter of this version") from None
    for account in accounts.values():
        account.state = _state_of(account, now)
    return list(accounts.values())


def _apply(account: Account, name: str, labels: dict[str, str], value: float) -> None:
    if name == "info":
        account.username = "" if labels["username"] == UNKNOWN else labels["username"]
    elif name == "logs_total":
        account.published += int(value) if labels["status"] == SUCCESS else 0
        account.failed += int(value) if labels["status"] == FAILED else 0
    elif name == "health":
        account.health = labels["status"] if value else account.health
    elif name in GAUGES:
        field, convert = GAUGES[name]
        setattr(account, field, convert(value))


def _state_of(account: Account, now: float) -> str:
    conditions = (
        account.needs_reconnect,
        not account.connected,
        not account.can_post,
        account.cooldown_until is not None and account.cooldown_until > now,
        account.failed_in_a_row > 0,
    )
    return next((state for state, holds in zip(STATES, conditions, strict=False) if holds), "ok")


def _write(accounts: Sequence[Account], format_name: str, now: float) -> int:
    if format_name == "json":
        for account in accounts:
            write_line(msgspec.json.encode(account).decode())
    elif format_name == "csv":
        for line in _csv_lines(accounts):
            write_line(line)
    elif accounts:
        tones = [TONES.get(account.state, "bad") for account in accounts]
        rows = [_row(account, now) for account in accounts]
        for line in format_table(TITLES, rows, Terminal.detect(sys.stdout, os.environ), tones=tones):
            write_line(line)
    return 0


def _row(account: Account, now: float) -> tuple[str, ...]:
    return (
        account.state,
        account.workspace,
        account.platform,
        account.username or "-",
        account.account_id,
        f"{account.published:,}",
        f"{account.failed:,}",
        f"{account.failed_in_a_row:,}",
        "-"
        if account.last_success is None
        else f"{human_duration(max(now - account.last_success, 1), rough=True)} ago",
        ", ".join(_details(account, now)) or "-",
    )


def _details(account: Account, now: float) -> Iterator[str]:
    if account.health:
        yield f"health {account.health}"
    if account.cooldown_until is not None and account.cooldown_until > now:
        yield f"rate limited for {human_duration(account.cooldown_until - now, rough=True)}"
    if account.token_expiry is not None:
        seconds = account.token_expiry - now
        duration = human_duration(abs(seconds), rough=True)
        yield f"token expires in {duration}" if seconds > 0 else f"token expired {duration} ago"


def _csv_lines(accounts: Sequence[Account]) -> Iterator[str]:
    yield ",".join(Account.__struct_fields__)
    for account in accounts:
        values = msgspec.to_builtins(account)
        for name in ("last_success", "token_expiry", "cooldown_until"):
            values[name] = "" if values[name] is None else iso_time(values[name] * 1000)
        yield csv_line(escape_formula(clean(str(value))) for value in values.values())
