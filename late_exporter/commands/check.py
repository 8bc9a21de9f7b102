"""The command ``check``: what an operator wants to know before the first start, a line each."""

from __future__ import annotations

import asyncio
import re
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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
from late_exporter.commands.api_reader import (
    connect_workspaces,
    refresh_status,
    selected_workspaces,
)
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.commands.tables import fold
from late_exporter.config.settings import CommandContext, Settings, Workspace
from late_exporter.config.web import WebConfig
from late_exporter.feeds.status_feeds.refresh import AccountList
from late_exporter.format import plural
from late_exporter.health import Condition
from late_exporter.ingest.status_poller import StatusConfig, disabling_reason
from late_exporter.model import LATE, ZERNIO, Scope
from late_exporter.store import database_at, is_postgres
from late_exporter.store.migrations import rehearse
from late_exporter.store.snapshot import open_snapshot
from late_exporter.store.sqlite import check_creation
from late_exporter.thresholds import CLOCK_OFFSET_SECONDS
from late_exporter.web.findings import KEYS_URL, condition_findings, problems_in
from late_exporter.web.verdicts import clock_difference

HINTS: Mapping[type[errors.ApiError], str] = {
    errors.Unauthorized: (
        "make sure that the key is complete, belongs to this API, and may read logs, or make a new "
        f"one at {KEYS_URL}"
    ),
    errors.Forbidden: "grant the key the right to read logs, or use another key",
    errors.RateLimited: "wait a minute; other programs use the same key",
    errors.EndpointNotFound: "check --api.base-url, --api.generation and --poll.feeds",
    errors.ApiUnavailable: "check the network, a proxy, DNS, and --api.base-url",
}
TO_BE_CREATED = "there is no state; it will be created"
ACCESS_HINT = "give the exporter's user write access, or change --state.url"

CLOCK = "clock"
API_CLOCK_HINT = "the API of another workspace agrees with this host: contact Zernio's support"

MAX_NAMES = 3  # workspaces that are named rather than counted
REQUEST_ID = re.compile(r" \(request id [^()]*\)$")

Level: TypeAlias = Literal["ok", "warning", "error"]
"""Severity of a finding; only an error keeps the exporter from working."""

LEVELS: Sequence[Level] = ("error", "warning", "ok")


class CheckResult(msgspec.Struct, frozen=True):
    """The finding of one check; the workspace is empty if it concerns the whole exporter."""

    level: Level
    subject: str
    message: str
    hint: str = ""
    workspace: str = ""


def check(context: CommandContext) -> int:
    """Print all findings; return 1 if one of them is an error."""
    findings = run_interruptible(_find(context))
    exit_code = int(any(finding.level == "error" for finding in findings))
    if context.flags.format == "json":
        return write_lines([json_line(msgspec.to_builtins(findings))], exit_code)
    return write_lines(format_findings(findings), exit_code)


async def _find(context: CommandContext) -> Sequence[CheckResult]:
    settings = context.settings
    feeds = settings.poll.feeds
    workspaces = selected_workspaces(context)
    recorded = await asyncio.to_thread(_read_generations, settings)
    findings: list[CheckResult] = []
    async with connect_workspaces(context) as connections:
        for workspace in workspaces:
            name = workspace.name
            client = connections[name]
            status = status_config(settings, workspace)
            generations = {
                scope.feed: recorded[scope] for scope in recorded if scope.workspace == name
            }
            results = [finding async for finding in check_api(client, feeds, generations, status)]
            # A poll costs one request per feed, and one for pending logs.
            polls_per_minute = 60 / settings.poll.interval
            required_rate = (len(feeds) + 1) * polls_per_minute + status.requests_per_minute
            results += check_quota(client, required_rate, settings.api.quota_share)
            findings += [replace(finding, workspace=name) for finding in results]
    findings = _explain_clocks(findings, feeds)
    findings += await asyncio.to_thread(lambda: list(check_machine(settings, workspaces)))
    return findings


def _explain_clocks(findings: Sequence[CheckResult], feeds: Sequence[str]) -> list[CheckResult]:
    """Return findings that do not blame the clock of the host if an API agrees with it."""
    answering = {
        each.workspace for each in findings if each.level == "ok" and each.subject in feeds
    }
    wrong = {each.workspace for each in findings if each.subject == CLOCK}
    if answering <= wrong:
        return list(findings)
    return [
        replace(each, hint=API_CLOCK_HINT) if each.subject == CLOCK else each for each in findings
    ]


def format_findings(findings: Sequence[CheckResult]) -> Iterator[str]:
    """Yield a line per finding, worst first.

    Those of several lists or workspaces with one cause share it.
    """
    lines = _merge(findings)
    subjects = [f"{finding.workspace} {finding.subject}".strip() for finding in lines]
    width = max(map(len, subjects), default=0)
    for finding, subject in zip(lines, subjects, strict=True):
        beginning = f"{finding.level:<7}  {subject:<{width}}  "
        text = "; ".join(filter(None, (finding.message, finding.hint)))
        yield from fold(beginning, printable(text))


def _merge(findings: Sequence[CheckResult]) -> Sequence[CheckResult]:
    """Return one finding for all lists and workspaces that have it for the same cause, worst first.

    What is well in many workspaces differs only in numbers and names.
    """
    total = len({finding.workspace for finding in findings} - {""})
    by_cause: dict[tuple[str, ...], list[CheckResult]] = {}
    for finding in findings:
        # The id of a request always differs.
        message = REQUEST_ID.sub("", finding.message)
        cause = (finding.level, "", message, finding.hint)
        if finding.level == "ok":
            cause = (finding.level, finding.subject, "" if total > MAX_NAMES else message, "")
        by_cause.setdefault(cause, []).append(finding)

    lines = []
    for group in sorted(by_cause.values(), key=lambda each: LEVELS.index(each[0].level)):
        workspaces = dict.fromkeys(finding.workspace for finding in group)
        subjects = dict.fromkeys(finding.subject for finding in group)
        where = ", ".join(workspaces)
        if len(workspaces) > MAX_NAMES:
            where = f"{len(workspaces):,} of {total:,} workspaces"
        message = group[0].message
        if group[0].level == "ok" and any(each.message != message for each in group):
            message += ", others alike"
        subject = ", ".join(subjects)
        lines.append(replace(group[0], workspace=where, subject=subject, message=message))
    return lines


def _read_generations(settings: Settings) -> Mapping[Scope, str]:
    """Return the generations of the feeds in the state; check_state reports errors."""
    generations = {}
    with (
        suppress(errors.StoreError),
        open_snapshot(settings.state.url, settings.state.password_path) as snapshot,
    ):
        for scope in snapshot.scopes:
            coverage = snapshot.feed_state(scope).coverage
            if coverage is not None:
                generations[scope] = coverage.generation
    return generations


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
    skew = 0.0
    is_answering = True
    for name in feeds:
        recorded = recorded_generations.get(name)
        try:
            feed = await find_feed(name, client, recorded=recorded)
            page, response = await fetch_page(client, feed)
            answers = await examine_lists(name, client) if feed.generation == LATE else {}
        except errors.ApiError as exc:
            if not isinstance(exc, errors.Forbidden):
                is_answering = False
            hint = HINTS.get(type(exc), "")
            if recorded == LATE and refuses_list(exc):
                hint = SWITCH_HINT
            yield CheckResult("error", name, str(exc), hint)
            if isinstance(exc, errors.RateLimited):
                break  # a further request would wait for the next minute
            continue

        if response.date is not None:
            skew = max(skew, response.date - clock(), key=abs)
        count = "logs" if page.total is None else plural(page.total, "log")
        yield CheckResult("ok", name, f"{count} in generation {feed.generation} ({feed.path})")
        if answers and answers[ZERNIO].is_ahead_of(answers[LATE]):
            message = "generation zernio has newer logs, which are not read"
            yield CheckResult("error", "generation", message, SWITCH_HINT)

    accounts = AccountList()
    for name in status.feeds if is_answering else ():
        # The API's time decides what is overdue, as in the exporter.
        now = clock() + skew
        result, accounts = await _check_status_feed(client, name, status, now, accounts)
        yield result
    if abs(skew) > CLOCK_OFFSET_SECONDS:
        message = f"{clock_difference(-skew)} the API"
        hint = "synchronize it, otherwise alerts on age are off by as much"
        yield CheckResult("warning", CLOCK, message, hint)


async def _check_status_feed(
    client: LateClient,
    name: str,
    config: StatusConfig,
    now: float,
    accounts: AccountList,
) -> tuple[CheckResult, AccountList]:
    """Refresh a status feed; return what it reports, and the accounts as far as they are known."""
    subject = f"status feed {name}"
    feed = config.feeds[name]
    try:
        reports = await refresh_status(
            client, feed, now, max_accounts=config.max_accounts, accounts=accounts
        )
    except errors.ApiError as exc:
        if not disabling_reason(exc):
            return CheckResult("warning", subject, str(exc)), accounts
        hint = "leave it out of --status.feeds, or grant the key the right"
        return CheckResult("warning", subject, f"off: {exc}", hint), accounts

    conditions = []
    for report in reports:
        if isinstance(report, AccountList):
            accounts = report
        elif isinstance(report, Condition):
            conditions.append(report)
    findings = list(condition_findings(conditions, now))
    problems = problems_in(findings)
    level: Level = "warning" if problems else "ok"
    message = "; ".join(finding.line for finding in problems or findings) or "nothing to report"
    steps = dict.fromkeys(finding.wording.step for finding in problems)
    return CheckResult(level, subject, message, " ".join(filter(None, steps))), accounts


def check_quota(
    client: LateClient, required_rate: float, quota_share: float
) -> Iterator[CheckResult]:
    """Compare the requests per minute that polling needs with those that it may use."""
    quota = client.quota
    if quota is None:
        return
    left = left_by_others(quota.limit, quota_share, quota.customer_requests)
    limit = min(quota.limit * quota_share, left)
    others = "; polling takes"
    if quota.customer_requests:
        count = quota.customer_requests
        others = f"; others (such as a running exporter) use about {count:,}, polling"
    message = f"{quota.limit:,} requests per minute{others} about {required_rate:,.1f}"
    if required_rate <= limit:
        yield CheckResult("ok", "quota", message)
        return
    hint = "raise --poll.interval or --api.quota-share, or give the exporter a key of its own"
    excess = f"{message}, more than the {limit:,.1f} that it may use"
    yield CheckResult("warning", "quota", excess, hint)


def check_machine(settings: Settings, workspaces: Sequence[Workspace]) -> Iterator[CheckResult]:
    """Yield the findings about the configuration and what it names; some take long."""
    yield CheckResult("ok", "configuration", plural(len(settings.workspaces), "workspace"))
    for workspace in workspaces:
        if workspace.key_file is not None:
            yield replace(check_key_file(workspace.key_file), workspace=workspace.name)
    yield check_state(settings.state.url, settings.state.password_path)
    yield from check_web(settings.web.config_file, settings.web_config)


def check_key_file(path: Path) -> CheckResult:
    """Check that other users cannot read the key."""
    if path.stat().st_mode & stat.S_IROTH:
        message = f"{path}: every user of this machine can read it"
        return CheckResult("warning", "key file", message, f"chmod o= {path}")
    return CheckResult("ok", "key file", str(path))


def check_state(url: str, password_file: Path | None = None) -> CheckResult:
    """Check that the state can be used, without creating or changing it."""
    if url == "sqlite://":
        hint = (
            "set --state.url to a file, otherwise every restart counts all logs again "
            "that Zernio still keeps"
        )
        return CheckResult("warning", "state", "in memory", hint)

    database = database_at(url, password_file)
    try:
        try:
            with open_snapshot(url, password_file) as snapshot:
                # The exporter reads them at its start, as the state of each feed.
                snapshot.series_values()
                log_count = sum(snapshot.feed_state(scope).log_count for scope in snapshot.scopes)
            usage = ", in use by an exporter" if database.is_in_use() else ""
            message = f"{database.name}{usage}: {plural(log_count, 'log')}"
        except errors.StoreMissing:
            message = f"{database.name}: {TO_BE_CREATED}"
            if not is_postgres(url):
                check_creation(Path(database.name))
                return CheckResult("ok", "state", message)
        except errors.StoreOutdated as exc:
            message = str(exc)
            if database.is_in_use():  # Its exporter would have to wait.
                return CheckResult("ok", "state", message)
        rehearse(database)
    except errors.StoreError as exc:
        hint = ACCESS_HINT if isinstance(exc.__cause__, OSError) else ""
        return CheckResult("error", "state", str(exc), hint)
    return CheckResult("ok", "state", message)


def check_web(path: str | None, config: WebConfig) -> Iterator[CheckResult]:
    tls = "TLS" if config.ssl_context is not None else "plain HTTP"
    users = f"passwords of {', '.join(sorted(config.users))}" if config.users else "no password"
    yield CheckResult("ok", "web", ": ".join(filter(None, (path, f"{tls}, {users}"))))
    if config.users and config.ssl_context is None:
        message = f"{path}: passwords are sent unencrypted"
        yield CheckResult("warning", "web", message, "add tls_server_config")
