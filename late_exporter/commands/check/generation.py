"""Check which generation of each log list the exporter reads, and whether it fits the state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from late_exporter.api.generation import (
    AUTO,
    NEWER_ONLY,
    STRICT,
    UNUSABLE_HINT,
    ListAnswers,
    choose_generation,
    examine_lists,
    lists_of,
)
from late_exporter.commands.check.api import api_failure
from late_exporter.commands.check.finding import Finding, Level
from late_exporter.errors import ApiError, LateError, RateLimited
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time
from late_exporter.ingest.recognition import (
    LoadLogs,
    Recognition,
    recognise_logs,
    require_recognition,
    skip_counted,
)
from late_exporter.model import LATE, ZERNIO, Coverage, Scope, StoredLog
from late_exporter.protocols import Client
from late_exporter.store.maintenance import open_snapshot

OTHER = {LATE: ZERNIO, ZERNIO: LATE}


class RecordedFeed(NamedTuple):
    """Counted logs of a feed in a state."""

    coverage: Coverage
    load_logs: LoadLogs


class GenerationCheck(NamedTuple):
    """Findings about the generations, and the feeds whose endpoints are left to check."""

    findings: Sequence[Finding]
    feeds: Sequence[Feed]


def recorded_feeds(url: str, password_file: Path | None = None) -> Mapping[Scope, RecordedFeed]:
    """Return the feeds of a state that have counted logs."""
    try:
        with open_snapshot(url, password_file) as snapshot:
            states = {scope: snapshot.feed_state(scope) for scope in snapshot.scopes}
    except LateError:
        return {}  # check_state reports what is wrong with the state
    return {
        scope: RecordedFeed(state.coverage, _log_loader(url, password_file, scope))
        for scope, state in states.items()
        if state.coverage is not None and state.log_count
    }


def _log_loader(url: str, password_file: Path | None, scope: Scope) -> LoadLogs:
    def read(until: int, limit: int) -> Sequence[StoredLog]:
        with open_snapshot(url, password_file) as snapshot:
            return snapshot.newest_logs(scope, until=until, limit=limit)

    async def load(*, until: int, limit: int) -> Sequence[StoredLog]:
        return await asyncio.to_thread(read, until, limit)

    return load


async def check_generation(
    workspace: str,
    client: Client,
    names: Sequence[str],
    *,
    configured_generation: str,
    switch_policy: str = STRICT,
    recorded: Mapping[Scope, RecordedFeed],
) -> GenerationCheck:
    """Examine the lists of each feed as the exporter does."""
    findings: list[Finding] = []
    feeds: list[Feed] = []
    for name in names:
        recorded_feed = recorded.get(Scope(workspace, name))
        try:
            check = await _check_feed(name, client, configured_generation, recorded_feed, switch_policy)
        except RateLimited as exc:
            # A further request would wait for the next minute.
            findings.append(api_failure(_subject(name), exc))
            feeds = []
            break
        findings += check.findings
        feeds += check.feeds
    return GenerationCheck([msgspec.structs.replace(finding, workspace=workspace) for finding in findings], feeds)


async def _check_feed(
    name: str, client: Client, configured_generation: str, recorded_feed: RecordedFeed | None, switch_policy: str
) -> GenerationCheck:
    lists, subject = lists_of(name), _subject(name)
    state_generation = recorded_feed.coverage.generation if recorded_feed else None
    if configured_generation not in (AUTO, *lists):
        message = f"{configured_generation} has no {name} logs"
        return GenerationCheck([Finding(Level.ERROR, subject, message, hint="remove it from --poll.feeds")], ())
    if LATE not in lists:
        return GenerationCheck((), [lists[ZERNIO]])
    try:
        answers = await examine_lists(name, client)
    except RateLimited:
        raise
    except ApiError:
        # The check of the endpoint reports the error.
        selected = state_generation or ZERNIO if configured_generation == AUTO else configured_generation
        return GenerationCheck((), [lists[selected]])
    try:
        selected = (
            choose_generation(answers, state_generation) if configured_generation == AUTO else configured_generation
        )
    except ApiError as exc:
        return GenerationCheck([Finding(Level.ERROR, subject, str(exc))], ())
    findings = [_answer_finding(subject, answers, selected, configured_generation)]
    if state_generation == ZERNIO != selected:
        message = f"the state was counted from zernio, whose logs have no ids, but --api.generation is {selected}"
        hint = "use --api.generation zernio or auto, or another --state.url"
        findings.append(Finding(Level.ERROR, subject, message, hint=hint))
    elif recorded_feed is not None and selected != state_generation and answers[selected].error is None:
        findings.append(await _switch_finding(subject, client, lists[selected], recorded_feed, switch_policy))
    return GenerationCheck(findings, [lists[selected]] if answers[selected].error is None else ())


def _answer_finding(subject: str, answers: ListAnswers, selected: str, configured_generation: str) -> Finding:
    other = OTHER[selected]
    message = f"{selected}: {answers[selected]}; {other}: {answers[other]}"
    if configured_generation != AUTO:
        remedy = "use --api.generation auto"
    else:
        remedy = f"the state was counted from {selected}: use another --state.url to read {other}"
    if answers[selected].error is not None:
        hint = remedy if answers[other].error is None else UNUSABLE_HINT
        return Finding(Level.ERROR, subject, message, hint=hint)
    if answers[other].is_ahead_of(answers[selected]):
        return Finding(Level.ERROR, subject, f"{message}; the newer logs are not read", hint=remedy)
    return Finding(Level.OK, subject, message)


async def _switch_finding(
    subject: str, client: Client, feed: Feed, recorded_feed: RecordedFeed, switch_policy: str
) -> Finding:
    """Return what the exporter will count in the list of the other generation."""
    coverage = recorded_feed.coverage
    try:
        recognition = await recognise_logs(client, feed, recorded_feed.load_logs, gaps=coverage.gaps)
        if not recognition.is_sufficient:
            return await _mismatch_finding(subject, feed, recognition, recorded_feed, switch_policy)
    except LateError as exc:
        return Finding(Level.ERROR, subject, str(exc))
    message = (
        f"the state was counted from {coverage.generation}; the exporter will match its logs to those of "
        f"{feed.generation}, where {recognition.recognised:,} of {recognition.comparable:,} are recognised"
    )
    return Finding(Level.OK, subject, message)


async def _mismatch_finding(
    subject: str, feed: Feed, recognition: Recognition, recorded_feed: RecordedFeed, switch_policy: str
) -> Finding:
    """Return what follows from the switch policy; raise GenerationMismatch if nothing will be counted."""
    if switch_policy == STRICT:
        require_recognition(recognition, feed)
    consequence = "with --api.switch trust, the exporter will count all others again"
    if switch_policy == NEWER_ONLY:
        now = int(time.time() * 1000) if recognition.api_time is None else recognition.api_time
        coverage = await skip_counted(
            recognition, feed, recorded_feed.load_logs, coverage=recorded_feed.coverage, now=now
        )
        consequence = (
            "with --api.switch newer-only, the exporter will count only logs created since "
            f"{iso_time(coverage.retention_floor)}"
        )
    return Finding(Level.WARNING, subject, f"{recognition.describe(feed)}; {consequence}")


def _subject(name: str) -> str:
    return f"{name} generation"
