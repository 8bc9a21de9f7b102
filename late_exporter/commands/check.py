"""The command ``check``: what an operator wants to know before the first start, each finding in one line."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from late_exporter import errors
from late_exporter.api.client import LateClient
from late_exporter.api.generation import SWITCH_HINT, examine_lists, find_feed, refuses_list
from late_exporter.api.pages import fetch_page
from late_exporter.api.rate_limiter import left_by_others
from late_exporter.app.assembly import status_config
from late_exporter.commands.assets import find_assets
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.log_reader import connect_workspaces
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.commands.tables import Terminal
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.config.web import WebConfig
from late_exporter.feeds.status_feeds import RefreshContext
from late_exporter.format import plural
from late_exporter.health import Condition
from late_exporter.ingest.status_poller import StatusConfig, disabling_reason, fetch_status
from late_exporter.ingest.steps import perform
from late_exporter.model import LATE, ZERNIO, Scope
from late_exporter.series import LatestValue, Series, SetLatest
from late_exporter.store import database_at, import_postgres, is_postgres
from late_exporter.store.migrations import rehearse
from late_exporter.store.snapshot import Snapshot
from late_exporter.web.findings import MAX_CLOCK_OFFSET, condition_findings, problems_in

HINTS: Mapping[type[errors.ApiError], str] = {
    errors.Unauthorized: "make sure that the key is complete, belongs to this API, and may read logs",
    errors.Forbidden: "grant the key the right to read logs, or use another key",
    errors.RateLimited: "wait a minute; other programs use the same key",
    errors.EndpointNotFound: "check --api.base-url, --api.generation and --poll.feeds",
    errors.ApiUnavailable: "check the network, a proxy, DNS, and --api.base-url",
}


Level: TypeAlias = Literal["ok", "warning", "error"]
"""Severity of a finding; only an error keeps the exporter from working."""


class CheckResult(msgspec.Struct, frozen=True):
    """What one check has found; the workspace is empty if it concerns the whole exporter."""

    level: Level
    subject: str
    message: str
    hint: str = ""
    workspace: str = ""


def format_findings(findings: Sequence[CheckResult], terminal: Terminal) -> Iterator[str]:
    subjects = [f"{finding.workspace} {finding.subject}".strip() for finding in findings]
    width = max(map(len, subjects), default=0)
    for finding, subject in zip(findings, subjects, strict=True):
        beginning = f"{finding.level:<7}  {subject:<{width}}  "
        text = "; ".join(filter(None, (finding.message, finding.hint)))
        yield from terminal.fold(printable(text), len(beginning), beginning)


def check(context: CommandContext) -> int:
    """Print all findings; return 1 if one of them is an error."""
    findings = run_interruptible(_find(context))
    is_json = context.flags.format == "json"
    lines = (
        [json_line(msgspec.to_builtins(findings))]
        if is_json
        else format_findings(findings, Terminal.detect())
    )
    return write_lines(lines, int(any(finding.level == "error" for finding in findings)))


async def _find(context: CommandContext) -> Sequence[CheckResult]:
    settings, feeds = context.settings, context.settings.poll.feeds
    recorded = await asyncio.to_thread(_read_generations, settings)
    findings: list[CheckResult] = []
    async with connect_workspaces(context) as connections:
        for workspace in settings.workspaces:
            client = connections[workspace.name]
            status = status_config(settings, workspace)
            generations = {
                scope.feed: recorded[scope]
                for scope in recorded
                if scope.workspace == workspace.name
            }
            results = [finding async for finding in check_api(client, feeds, generations, status)]
            # A poll costs one request per feed, and one for pending logs.
            required_rate = (
                len(feeds) + 1
            ) * 60 / settings.poll.interval + status.requests_per_minute
            results += check_quota(client, required_rate, settings.api.quota_share)
            findings += [replace(finding, workspace=workspace.name) for finding in results]
    return [*findings, *await asyncio.to_thread(lambda: list(check_machine(settings)))]


def _read_generations(settings: Settings) -> Mapping[Scope, str]:
    """Return the generations of the feeds in the state; check_state reports errors."""
    url, password_file = settings.state.url, settings.state.password_path
    with suppress(errors.StoreError), Snapshot(url, password_file) as snapshot:
        states = {scope: snapshot.feed_state(scope) for scope in snapshot.scopes}
        return {scope: each.coverage.generation for scope, each in states.items() if each.coverage}
    return {}


async def check_api(
    client: LateClient,
    feeds: Sequence[str],
    recorded_generations: Mapping[str, str],
    status: StatusConfig,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[CheckResult]:
    """Request every list of a workspace and every status feed once.

    Args:
        client: API client of the workspace.
        feeds: Names of the log feeds.
        recorded_generations: Generation from which each feed in the state is counted.
        status: Configuration of the status feeds.
        clock: Local clock.
    """
    skew, is_answering, gauges = 0.0, True, dict[Series, LatestValue]()
    for name in feeds:
        recorded = recorded_generations.get(name)
        try:
            feed = await find_feed(name, client, recorded=recorded)
            page, response = await fetch_page(client, feed)
            answers = await examine_lists(name, client) if feed.generation == LATE else {}
        except errors.ApiError as exc:
            is_answering &= isinstance(exc, errors.Forbidden)
            hint = (
                SWITCH_HINT if recorded == LATE and refuses_list(exc) else HINTS.get(type(exc), "")
            )
            yield CheckResult("error", name, str(exc), hint)
            if isinstance(exc, errors.RateLimited):
                break  # a further request would wait for the next minute
        else:
            if response.date is not None:
                skew = max(skew, response.date - clock(), key=abs)
            count = "logs" if page.total is None else plural(page.total, "log")
            yield CheckResult("ok", name, f"{count} in generation {feed.generation} ({feed.path})")
            if answers and answers[ZERNIO].is_ahead_of(answers[LATE]):
                yield CheckResult(
                    "error",
                    "generation",
                    "generation zernio has newer logs, which are not read",
                    SWITCH_HINT,
                )
    if is_answering:
        for name in status.feeds:
            yield await _check_status_feed(client, name, status, clock(), gauges)
    if abs(skew) > MAX_CLOCK_OFFSET:
        message = f"{abs(skew):,.0f} s {'behind' if skew > 0 else 'ahead of'} the API"
        yield CheckResult(
            "warning",
            "clock",
            message,
            "synchronize it, otherwise alerts on age are off by as much",
        )


async def _check_status_feed(
    client: LateClient,
    name: str,
    config: StatusConfig,
    now: float,
    gauges: dict[Series, LatestValue],
) -> CheckResult:
    """Refresh a status feed and return what it reports; if it fails, logs are counted nevertheless.

    ``gauges`` holds the gauges of earlier feeds, for the names of accounts; those of this feed are
    added.
    """
    subject, feed = f"status feed {name}", config.feeds[name]
    context = RefreshContext(
        workspace="",
        now=int(now * 1000),
        max_accounts=config.max_accounts,
        rejected_values=set(),
        previous=gauges,
    )
    try:
        reports = await perform(feed.refresh(context), partial(fetch_status, client, feed))
    except errors.ApiError as exc:
        is_off = bool(disabling_reason(exc))
        hint = "leave it out of --status.feeds, or grant the key the right" if is_off else ""
        return CheckResult("warning", subject, f"off: {exc}" if is_off else str(exc), hint)
    gauges |= {
        (it.family, it.labels): LatestValue(it.at, it.value)
        for it in reports
        if isinstance(it, SetLatest)
    }
    findings = list(
        condition_findings([each for each in reports if isinstance(each, Condition)], now)
    )
    level: Level = "warning" if problems_in(findings) else "ok"
    return CheckResult(
        level, subject, "; ".join(each.line for each in findings) or "nothing to report"
    )


def check_quota(
    client: LateClient, required_rate: float, quota_share: float
) -> Iterator[CheckResult]:
    """Compare the requests per minute that polling needs with those that the share and other users of the key allow."""
    quota = client.quota
    if quota is None:
        return
    limit = min(
        quota.limit * quota_share, left_by_others(quota.limit, quota_share, quota.customer_requests)
    )
    count = quota.customer_requests
    others = (
        f"; others (such as a running exporter) use about {count:,}, polling"
        if count
        else "; polling takes"
    )
    message = f"{quota.limit:,} requests per minute{others} about {required_rate:,.1f}"
    if required_rate <= limit:
        yield CheckResult("ok", "quota", message)
        return
    hint = "raise --poll.interval or --api.quota-share, or give the exporter a key of its own"
    yield CheckResult(
        "warning", "quota", f"{message}, more than the {limit:,.1f} that it may use", hint
    )


def check_machine(settings: Settings) -> Iterator[CheckResult]:
    """Yield the findings about the configuration, and the services that it names; some take long."""
    yield CheckResult("ok", "configuration", plural(len(settings.workspaces), "workspace"))
    for first, second in settings.workspaces_with_same_logs:
        message = f"the same as that of workspace {first}, so both count the same logs"
        hint = "give each workspace a profile_id, or a key of its own"
        yield CheckResult("warning", "key", message, hint, second)
    for workspace in settings.workspaces:
        if workspace.key_file is not None:
            yield replace(check_key_file(workspace.key_file), workspace=workspace.name)
    yield check_state(settings.state.url, settings.state.password_path)
    yield from check_connection(settings.state.url, settings.state.password_path)
    yield from check_web(settings.web.config_file, settings.web_config)
    yield from check_families(settings.metrics.disable)


def check_key_file(path: Path) -> CheckResult:
    """Check that other users cannot read the key."""
    try:
        if path.stat().st_mode & stat.S_IROTH:
            message = f"{path}: every user of this machine can read it"
            return CheckResult("warning", "key file", message, f"chmod o= {path}")
    except OSError as exc:
        return CheckResult(
            "error", "key file", f"{path}: {exc.strerror}", "give the exporter's user access to it"
        )
    return CheckResult("ok", "key file", str(path))


def check_state(url: str, password_file: Path | None = None) -> CheckResult:
    """Check that the state can be used, without creating or changing it."""
    if url == "sqlite://":
        hint = "set --state.url to a file, otherwise every restart counts all logs again that Zernio still keeps"
        return CheckResult("warning", "state", "in memory", hint)
    database, hint = (
        database_at(url, password_file),
        "give the exporter's user write access, or change --state.url",
    )
    try:
        try:
            with Snapshot(url, password_file) as snapshot:
                snapshot.series_values()  # The exporter reads them at its start, as the state of each feed.
                log_count = sum(snapshot.feed_state(scope).log_count for scope in snapshot.scopes)
            usage = ", in use by an exporter" if database.is_in_use() else ""
            message = f"{database.name}{usage}: {plural(log_count, 'log')}"
        except errors.StoreMissing:
            message = f"{database.name}: there is no state; it will be created"
            if not is_postgres(url):
                folder = next(
                    each for each in Path(database.name).absolute().parents if each.exists()
                )
                if not (folder.is_dir() and os.access(folder, os.W_OK)):
                    return CheckResult(
                        "error",
                        "state",
                        f"{database.name}: this user cannot write to {folder}",
                        hint,
                    )
                return CheckResult("ok", "state", message)
        except errors.StoreOutdated as exc:
            message = str(exc)
            if database.is_in_use():  # Its exporter would have to wait.
                return CheckResult("ok", "state", message)
        rehearse(database)
    except errors.StoreError as exc:
        return CheckResult(
            "error", "state", str(exc), hint if isinstance(exc.__cause__, OSError) else ""
        )
    return CheckResult("ok", "state", message)


def check_connection(url: str, password_file: Path | None) -> Iterator[CheckResult]:
    """Warn if the connection to a database on another machine is not protected."""
    if not is_postgres(url):
        return
    with suppress(errors.StoreError):  # check_state reports that it cannot be reached
        if risk := import_postgres().PostgresDatabase(url, password_file).connection_risk():
            hint = "add sslmode=verify-full and sslrootcert=PATH to --state.url"
            yield CheckResult("warning", "state", risk, hint)


def check_web(path: str | None, config: WebConfig) -> Iterator[CheckResult]:
    tls = "TLS" if config.ssl_context is not None else "plain HTTP"
    users = f"passwords of {', '.join(sorted(config.users))}" if config.users else "no password"
    yield CheckResult("ok", "web", ": ".join(filter(None, (path, f"{tls}, {users}"))))
    if config.users and config.ssl_context is None:
        yield CheckResult(
            "warning", "web", f"{path}: passwords are sent unencrypted", "add tls_server_config"
        )


def check_families(disabled: Sequence[str]) -> Iterator[CheckResult]:
    """Warn about disabled families that rules or dashboards use."""
    texts = {
        name: content.decode()
        for name, content in find_assets()
        if name.endswith((".yml", ".json"))
    }
    for family in disabled:
        users = sorted(
            name
            for name, text in texts.items()
            if re.search(rf"\b{family}(_bucket|_count|_sum)?\b", text)
        )
        if users:
            hint = "drop it from --metrics.disable, or do without them"
            yield CheckResult(
                "warning", "metrics", f"{family} is disabled, but used in {', '.join(users)}", hint
            )
