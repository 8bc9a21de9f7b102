"""Check the generation of the API, and whether it fits the state."""

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

SUBJECT = "generation"


class GenerationCheck(NamedTuple):
    """Findings about the generation, and the feeds whose endpoints are left to check."""

    findings: Sequence[Finding]
    feeds: Sequence[Feed]


def recorded_generations(url: str) -> Mapping[str, str]:
    """Return the generation of each workspace of a state; one on ``zernio`` cannot return to ``late``."""
    generations: dict[str, str] = {}
    try:
        with open_snapshot(url) as snapshot:
            for scope in snapshot.scopes:
                coverage = snapshot.feed_state(scope).coverage
                if coverage is not None and generations.get(scope.workspace) != "zernio":
                    generations[scope.workspace] = coverage.generation
    except LateError:
        return {}  # check_state reports what is wrong with the state
    return generations


async def check_generation(
    workspace: str, client: Client, names: Sequence[str], *, configured_generation: str, state_generation: str | None
) -> GenerationCheck:
    """Request the publishing logs of every generation; ``state_generation`` is None if nothing was counted yet."""
    availability: dict[str, bool | None] = {}
    for generation, feeds in GENERATIONS.items():
        try:
            availability[generation] = await has_feed(feeds["publishing"], client)
        except RateLimited as exc:
            # A further request would wait for the next minute.
            return GenerationCheck(_for_workspace([api_failure(feeds["publishing"].path, exc)], workspace), ())
        except ApiError:
            availability[generation] = None  # the check of its endpoints reports the error
    selected_generation = _select(availability, configured_generation, state_generation)
    findings = [
        *_availability_findings(availability, selected_generation, configured_generation),
        *_state_findings(selected_generation, configured_generation, state_generation),
    ]
    if selected_generation is None or availability[selected_generation] is False:
        return GenerationCheck(_for_workspace(findings, workspace), ())
    feeds = GENERATIONS[selected_generation]
    findings += (
        Finding(Level.ERROR, SUBJECT, f"{selected_generation} has no {name} logs", hint="remove it from --poll.feeds")
        for name in names
        if name not in feeds
    )
    return GenerationCheck(_for_workspace(findings, workspace), [feeds[name] for name in names if name in feeds])


def _for_workspace(findings: Sequence[Finding], workspace: str) -> Sequence[Finding]:
    return [msgspec.structs.replace(finding, workspace=workspace) for finding in findings]


def _select(
    availability: Mapping[str, bool | None], configured_generation: str, state_generation: str | None
) -> str | None:
    """Return the generation that the exporter reads, None if the API has none."""
    if configured_generation != AUTO:
        return configured_generation
    if state_generation == "zernio":
        return state_generation
    return next((generation for generation, is_available in availability.items() if is_available is not False), None)


def _availability_findings(
    availability: Mapping[str, bool | None], selected_generation: str | None, configured_generation: str
) -> Iterator[Finding]:
    present_paths = [
        f"{generation}, GET {_path(generation)}" for generation, is_there in availability.items() if is_there
    ]
    absent_paths = [f"no GET {_path(generation)}" for generation, is_there in availability.items() if is_there is False]
    if selected_generation is None or availability[selected_generation] is False:
        if not present_paths:
            hint = "check --api.base-url"
        elif configured_generation != AUTO:
            hint = "use --api.generation auto"
        else:
            hint = f"the state was counted from {selected_generation}: use another --state.url"
        message = "404: " + "; ".join([*present_paths, *absent_paths])
        yield Finding(Level.ERROR, SUBJECT, message, hint=hint)
    elif availability[selected_generation]:
        present_paths.sort(key=lambda text: not text.startswith(selected_generation))
        yield Finding(Level.OK, SUBJECT, "; ".join([*present_paths, *absent_paths]))


def _state_findings(
    selected_generation: str | None, configured_generation: str, state_generation: str | None
) -> Iterator[Finding]:
    if state_generation is None or selected_generation in (None, state_generation):
        return
    if state_generation == "zernio":
        yield Finding(
            Level.ERROR,
            SUBJECT,
            (
                f"the state was counted from {state_generation}, whose logs have no ids, but --api.generation is "
                f"{configured_generation}"
            ),
            hint=f"use --api.generation {state_generation} or auto, or another --state.url",
        )
        return
    message = (
        f"the state was counted from {state_generation}; the exporter will match its logs to those of "
        f"{selected_generation}"
    )
    yield Finding(Level.OK, SUBJECT, message)


def _path(generation: str) -> str:
    return GENERATIONS[generation]["publishing"].path
