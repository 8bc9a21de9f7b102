"""Replay simulated incidents: the log lists of the API become the messages that people read.

The exporter, the rules, the Alertmanager configuration and the templates are as shipped. Time is virtual, so nothing
depends on how long a step takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, product
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.replay.delivery import Message, deliver
from tests.e2e.replay.evaluation import Timing, evaluate
from tests.e2e.replay.recording import INCIDENT_MINUTES, LEAD_MINUTES, TOTAL_MINUTES, SampleRow, record_incidents

GOLDEN = Path(__file__).parent / "messages"
ACCOUNTS = ("account-blocked", "account-cooldown", "approval-overdue", "webhook-failing")
INCIDENTS = {
    "platform-outage": (("platform-outage",), INCIDENT_MINUTES),
    "accounts-and-plan": ((*ACCOUNTS, "empty-balance", "usage-near-limit"), 110),
}
"""Incidents that happen at once, of which none explains another, and their duration in minutes: a failing webhook is
reported after an hour. ``promises.md`` has all incidents."""

PAGING = ("platform-outage",)
TIMING = Timing(lead=LEAD_MINUTES, first=-30, total=TOTAL_MINUTES, step=1)

FindTool: TypeAlias = Callable[[str], str]


def _replay(rows: Sequence[SampleRow], folder: Path, find: FindTool) -> Sequence[Message]:
    """Return the messages about series."""
    alerts = evaluate({"late": rows}, TIMING, folder, find("promtool"))
    return deliver(alerts["late"], find("prometheus-alertmanager"), folder)


def _render(messages: Sequence[Message]) -> str:
    return "\n".join(message.render() for message in messages)


@pytest.fixture(scope="module", params=INCIDENTS)
def incident(request: pytest.FixtureRequest) -> str:
    """Return the name of an incident."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def messages(incident: str, require_tool: FindTool, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Message]:
    """Return the messages about an incident."""
    return _replay(record_incidents(*INCIDENTS[incident]), tmp_path_factory.mktemp(incident), require_tool)


def test_messages_equal_the_golden_ones(incident: str, messages: Sequence[Message]) -> None:
    """With any Prometheus, the messages are those that a person has read; UPDATE_GOLDEN=1 writes them instead."""
    file = GOLDEN / f"{incident}.md"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(_render(messages), "utf-8")
    assert file.read_text("utf-8") == _render(messages)


def test_one_page_for_an_incident(incident: str, messages: Sequence[Message]) -> None:
    """A failing platform, or a limit of the plan, pages once, soon, and is resolved once; nothing else pages."""
    pages = [message for message in messages if message.channel == "#late-critical"]
    if incident not in PAGING:
        assert pages == []
        return
    firing, resolved = pages
    assert firing.title.startswith("CRITICAL ")
    assert 0 < firing.minute <= 15
    assert resolved.title.startswith("Resolved, ")
    assert INCIDENT_MINUTES < resolved.minute <= INCIDENT_MINUTES + 20


def _polls(workspaces: int, *, dead: int) -> Iterator[SampleRow]:
    """Yield the series of workspaces, for some of which the API is dead during the incident."""
    for number in range(workspaces):
        workspace = ("workspace", f"brand-{number:02}")
        yield SampleRow("late_up", (workspace, ("feed", "publishing")), [1.0] * TOTAL_MINUTES)
        for feed, outcome in product(("publishing", "connections"), ("success", "unavailable")):
            polls = []
            for minute in range(-LEAD_MINUTES, TOTAL_MINUTES - LEAD_MINUTES):
                is_dead = number < dead and 0 <= minute < INCIDENT_MINUTES
                polls.append(2.0 if is_dead == (outcome == "unavailable") else 0.0)
            labels = (workspace, ("feed", feed), ("outcome", outcome))
            yield SampleRow("late_exporter_polls_total", labels, [*accumulate(polls)])


def test_a_dead_api_is_one_page(require_tool: FindTool, tmp_path: Path) -> None:
    """A dead API of many workspaces pages once, and is resolved once."""
    messages = _replay([*_polls(14, dead=14)], tmp_path, require_tool)
    title = "14 of 14 workspaces: the API cannot be read [late]"
    assert [(message.channel, message.title) for message in messages] == [
        ("#late-critical", f"CRITICAL {title}"),
        ("#late-critical", f"Resolved, was {title}"),
    ]


@pytest.mark.thorough
def test_a_few_workspaces_page_each(require_tool: FindTool, tmp_path: Path) -> None:
    """Three of 40 workspaces, less than a tenth, page on their own."""
    messages = _replay([*_polls(40, dead=3)], tmp_path, require_tool)
    names = {message.title.partition(" [")[2] for message in messages}
    assert names == {f"late/brand-{number:02}]" for number in range(3)}
