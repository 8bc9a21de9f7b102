"""What hits many workspaces at once is one page, whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.replay.delivery import Message, deliver
from tests.e2e.replay.evaluation import evaluate
from tests.e2e.replay.recording import INCIDENT_MINUTES, LEAD_MINUTES, TOTAL_MINUTES, SampleRow

Replay: TypeAlias = Callable[[Sequence[SampleRow]], Sequence[tuple[str, str]]]

WORKSPACES = tuple(f"brand-{number:02}" for number in range(1, 15))


def _counter(name: str, before: float, during: float, after: float, **labels: str) -> SampleRow:
    """Return a counter that grows by so much per minute before, during and after the incident."""
    values: list[float | None] = []
    total = 0.0
    for minute in range(TOTAL_MINUTES):
        values.append(total)
        if minute < LEAD_MINUTES:
            total += before
        elif minute < LEAD_MINUTES + INCIDENT_MINUTES:
            total += during
        else:
            total += after
    return SampleRow(name, tuple(labels.items()), values)


def _polls(workspace: str, *, is_dead: bool) -> Iterator[SampleRow]:
    yield SampleRow("late_up", (("workspace", workspace), ("feed", "publishing")), [1.0] * TOTAL_MINUTES)
    for feed in ("publishing", "connections"):
        labels = {"workspace": workspace, "feed": feed}
        yield _counter("late_exporter_polls_total", 2, 0 if is_dead else 2, 2, **labels, outcome="success")
        yield _counter("late_exporter_polls_total", 0, 2 if is_dead else 0, 0, **labels, outcome="unavailable")


def _attempts(workspace: str, platform: str, *, is_failing: bool) -> Iterator[SampleRow]:
    labels = {"workspace": workspace, "platform": platform}
    yield _counter("late_publishing_attempts_total", 0.5, 0 if is_failing else 0.5, 0.5, **labels, status="success")
    yield _counter("late_publishing_attempts_total", 0, 0.5 if is_failing else 0, 0, **labels, status="failed")


@pytest.fixture
def replay(require_tool: Callable[[str], str], tmp_path: Path) -> Replay:
    """Return a function that returns channel and title of each message about series."""

    def run(rows: Sequence[SampleRow]) -> Sequence[tuple[str, str]]:
        alerts = evaluate(rows, tmp_path, require_tool("promtool"))
        messages: Sequence[Message] = deliver(alerts, require_tool("prometheus-alertmanager"), tmp_path)
        return [(message.channel, message.title) for message in messages]

    return run


def test_a_dead_api_is_one_page(replay: Replay) -> None:
    """A dead API of all workspaces pages once, and is resolved once."""
    rows = [row for workspace in WORKSPACES for row in _polls(workspace, is_dead=True)]
    title = "14 of 14 workspaces: the API cannot be read [late]"
    assert replay(rows) == [("#late-critical", f"CRITICAL {title}"), ("#late-critical", f"Resolved, was {title}")]


@pytest.mark.thorough
def test_a_few_workspaces_page_each(replay: Replay) -> None:
    """Three of 40 workspaces, less than a tenth, page on their own."""
    names = [f"brand-{number:02}" for number in range(40)]
    rows = [row for name in names for row in _polls(name, is_dead=name in names[:3])]
    environments = {title.partition(" [")[2] for _, title in replay(rows)}
    assert environments == {f"late/{name}]" for name in names[:3]}


@pytest.mark.thorough
def test_a_platform_that_is_down_is_one_page(replay: Replay) -> None:
    """A platform that fails in all workspaces pages once, although each also publishes to another one."""
    rows = [row for workspace in WORKSPACES for row in _polls(workspace, is_dead=False)]
    rows += [row for workspace in WORKSPACES for row in _attempts(workspace, "instagram", is_failing=True)]
    rows += [row for workspace in WORKSPACES for row in _attempts(workspace, "tiktok", is_failing=False)]
    title = "instagram: most publish attempts fail in 14 workspaces [late]"
    assert replay(rows) == [("#late-critical", f"CRITICAL {title}"), ("#late-critical", f"Resolved, was {title}")]
