"""Replay simulated incidents: the log lists of the API become the messages that people read.

The exporter, the rules, the Alertmanager configuration and the templates are as shipped. Time is virtual, so nothing
depends on how long a step takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.replay.delivery import Message, deliver
from tests.e2e.replay.evaluation import evaluate
from tests.e2e.replay.recording import INCIDENT_MINUTES, record_incidents

GOLDEN = Path(__file__).parent / "messages"
SINGLE = ("platform-outage", "rate-limit-storm", "revoked-token", "slow-video", "late-publishing", "scheduler-stuck")
ACCOUNTS = ("account-blocked", "account-cooldown", "approval-overdue", "webhook-failing")
INCIDENTS = {
    **{name: ((name,), INCIDENT_MINUTES) for name in (*SINGLE, "usage-at-limit", "suspended")},
    "empty-schedule": (("empty-schedule",), 90),
    "accounts-and-plan": ((*ACCOUNTS, "empty-balance", "usage-near-limit"), 110),
}
"""Incidents that happen at once, of which none explains another, and their duration in minutes: an empty schedule and
a failing webhook are reported after an hour."""

QUICK = ("platform-outage", "suspended", "accounts-and-plan")
"""Those that make test replays; make thorough replays all."""


class Page(NamedTuple):
    """Beginning of a page, and the minutes within which it is sent, and resolved after the incident."""

    title: str
    minutes: int
    resolved_minutes: int


PAGES = {
    "platform-outage": Page("instagram: ", 15, 15),
    "rate-limit-storm": Page("twitter: ", 15, 15),
    "revoked-token": Page("instagram: ", 15, 20),
    "usage-at-limit": Page("all uploads of the plan used", 15, 20),
    "suspended": Page("plan suspended", 15, 20),
}
"""What each incident pages; the others page nothing."""


def _render(messages: Sequence[Message]) -> str:
    return "\n".join(
        f"## {message.minute} minutes after the start, in {message.channel}\n\n"
        f"{message.title}\n\n{message.text.strip()}\n"
        for message in messages
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in QUICK else [pytest.mark.thorough]) for name in INCIDENTS],
)
def incident(request: pytest.FixtureRequest) -> str:
    """Return the name of an incident."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def messages(
    incident: str, require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Sequence[Message]:
    """Return the messages about an incident."""
    folder = tmp_path_factory.mktemp(incident)
    alerts = evaluate(record_incidents(*INCIDENTS[incident]), folder, require_tool("promtool"))
    return deliver(alerts, require_tool("prometheus-alertmanager"), folder)


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
    page = PAGES.get(incident)
    if page is None:
        assert pages == []
        return
    firing, resolved = pages
    assert firing.title.startswith(f"CRITICAL {page.title}")
    assert 0 < firing.minute <= page.minutes
    assert resolved.title.startswith(f"Resolved, was {page.title}")
    assert INCIDENT_MINUTES < resolved.minute <= INCIDENT_MINUTES + page.resolved_minutes
