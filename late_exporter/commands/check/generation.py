"""Check which generation of each log list the exporter reads, and whether it fits the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from late_exporter.api.generation import (
    AUTO,
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
from late_exporter.model import LATE, ZERNIO, Scope
from late_exporter.protocols import Client
from late_exporter.store.snapshot import Snapshot

OTHER = {LATE: ZERNIO, ZERNIO: LATE}


class GenerationCheck(NamedTuple):
    """Findings about the generations, and the feeds whose endpoints are left to check."""

    findings: Sequence[Finding]
    feeds: Sequence[Feed]


def recorded_generations(url: str, password_file: Path | None = None) -> Mapping[Scope, str]:
    """Return the API generations of the feeds of a state that have counted logs."""
    try:
        with Snapshot(url, password_file) as snapshot:
            states = {scope: snapshot.feed_state(scope) for scope in snapshot.scopes}
    except LateError:
        return {}  # check_state reports what is wrong with the state
    return {
        scope: state.coverage.generation
        for scope, state in states.items()
        if state.coverage is not None and state.log_count
    }


async def check_generation(
    workspace: str,
    client: Client,
    names: Sequence[str],
    *,
    configured_generation: str,
    recorded: Mapping[Scope, str],
) -> GenerationCheck:
    """Examine the lists of each feed as the exporter does."""
    findings: list[Finding] = []
    feeds: list[Feed] = []
    for name in names:
        state_generation = recorded.get(Scope(workspace, name))
        try:
            check = await _check_feed(name, client, configured_generation, state_generation)
        except RateLimited as exc:
            # A further request would wait for the next minute.
            findings.append(api_failure(_subject(name), exc))
            feeds = []
            break
        findings += check.findings
        feeds += check.feeds
    return GenerationCheck([msgspec.structs.replace(finding, workspace=workspace) for finding in findings], feeds)


async def _check_feed(
    name: str, client: Client, configured_generation: str, state_generation: str | None
) -> GenerationCheck:
    lists, subject = lists_of(name), _subject(name)
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
    elif state_generation not in (None, selected) and answers[selected].error is None:
        message = f"the state was counted from {state_generation}; of {selected}, only logs newer than those will count"
        findings.append(Finding(Level.OK, subject, message))
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


def _subject(name: str) -> str:
    return f"{name} generation"
