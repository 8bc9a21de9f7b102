"""Which generation of the API there is, and whether the state is of the same one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from late_exporter.api.generation import AUTO, has_feed
from late_exporter.commands.check.api import api_failure
from late_exporter.commands.check.finding import Finding, Level
from late_exporter.errors import ApiError, LateError, RateLimited
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Feed
from late_exporter.protocols import Client
from late_exporter.store import open_snapshot

__all__ = ["GenerationCheck", "check_generation", "recorded_generations"]

SUBJECT = "generation"


class GenerationCheck(NamedTuple):
    """What was found, and the feeds that are left to be looked at."""

    findings: Sequence[Finding]
    feeds: Sequence[Feed]


def recorded_generations(url: str) -> Mapping[str, str]:
    """The generation that each workspace of a state was counted from; from ``zernio`` there is no way back."""
    found: dict[str, str] = {}
    try:
        with open_snapshot(url) as records:
            for scope in records.scopes:
                coverage = records.feed_state(scope).coverage
                if coverage is not None and found.get(scope.workspace) != "zernio":
                    found[scope.workspace] = coverage.generation
    except LateError:
        return {}  # what is wrong with the state is told elsewhere
    return found


async def check_generation(
    workspace: str, client: Client, names: Sequence[str], *, configured: str, recorded: str | None
) -> GenerationCheck:
    """Ask for the publishing logs in every generation.

    Args:
        workspace: Whose key it is.
        client: Asks with it.
        names: Of the feeds that are to be polled.
        configured: What the user has chosen: ``auto`` or a generation.
        recorded: The generation that the state was counted from; None: there is no such state.
    """
    found: dict[str, bool | None] = {}
    for generation, feeds in GENERATIONS.items():
        try:
            found[generation] = await has_feed(feeds["publishing"], client)
        except RateLimited as exc:
            # Whoever asks again waits until the minute is over.
            return GenerationCheck(_for_workspace([api_failure(feeds["publishing"].path, exc)], workspace), ())
        except ApiError:
            found[generation] = None  # as its endpoints will tell
    chosen = _effective(found, configured, recorded)
    findings = [*_availability(found, chosen, configured), *_switch(chosen, configured, recorded)]
    if chosen is None or found[chosen] is False:
        return GenerationCheck(_for_workspace(findings, workspace), ())
    known = GENERATIONS[chosen]
    findings += (
        Finding(
            level=Level.ERROR,
            subject=SUBJECT,
            message=f"{chosen} has no {name} logs",
            hint="take it out of --poll.feeds",
        )
        for name in names
        if name not in known
    )
    return GenerationCheck(_for_workspace(findings, workspace), [known[name] for name in names if name in known])


def _for_workspace(findings: Sequence[Finding], workspace: str) -> Sequence[Finding]:
    return [msgspec.structs.replace(finding, workspace=workspace) for finding in findings]


def _effective(found: Mapping[str, bool | None], asked: str, counted: str | None) -> str | None:
    """The generation that the exporter reads; None where the API has none."""
    if asked != AUTO:
        return asked
    if counted == "zernio":
        return counted
    return next((generation for generation, there in found.items() if there is not False), None)


def _availability(found: Mapping[str, bool | None], chosen: str | None, asked: str) -> Iterator[Finding]:
    """Which generations the API speaks; nothing where it does not tell."""
    there = [f"{generation}, GET {_path(generation)}" for generation, speaks_it in found.items() if speaks_it]
    gone = [f"no GET {_path(generation)}" for generation, speaks_it in found.items() if speaks_it is False]
    if chosen is None or found[chosen] is False:
        other = "use --api.generation auto" if asked != AUTO else f"the state is of {chosen}: use another --state.url"
        yield Finding(
            level=Level.ERROR,
            subject=SUBJECT,
            message="404: " + "; ".join([*there, *gone]),
            hint=other if there else "look at --api.base-url",
        )
    elif found[chosen]:
        there.sort(key=lambda words: not words.startswith(chosen))
        yield Finding(level=Level.OK, subject=SUBJECT, message="; ".join([*there, *gone]))


def _switch(chosen: str | None, asked: str, counted: str | None) -> Iterator[Finding]:
    """What becomes of a state of the other generation."""
    if counted is None or chosen in (None, counted):
        return
    if counted == "zernio":
        yield Finding(
            level=Level.ERROR,
            subject=SUBJECT,
            message=f"the state was counted from {counted}, whose logs have no ids, and --api.generation is {asked}",
            hint=f"use --api.generation {counted} or auto, or another --state.url",
        )
        return
    yield Finding(
        level=Level.OK,
        subject=SUBJECT,
        message=f"the state was counted from {counted}; the exporter will recognize its logs in {chosen}",
    )


def _path(generation: str) -> str:
    return GENERATIONS[generation]["publishing"].path
