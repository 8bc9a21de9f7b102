"""Who is told what, and when: one table of customers by volume and incidents, played for days.

``promises.md`` is the table. ``UPDATE_GOLDEN=1 make plays ARGS="-n 0"`` writes it. The promises
do not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from late_exporter.simulator.profiles import PROFILES
from tests.e2e.replay.delivery import deliver
from tests.e2e.replay.evaluation import FiringAlert, Timing, evaluate
from tests.e2e.replay.plays import (
    LENGTHS,
    ORDINARY_LENGTHS,
    SHORT_LENGTH,
    Failure,
    Length,
    Message,
    Notifier,
    Play,
    record,
)
from tests.e2e.replay.recording import SampleRow

TABLE = Path(__file__).parent / "promises.md"
GOLDEN = Path(__file__).parent / "messages"
PROMTOOL_3 = Path(__file__).parents[3] / ".cache" / "tools3" / "usr" / "bin" / "promtool"
HEADER = """\
# Who is told what, and when

Each incident is played for days, in virtual time, with the rules and routes as shipped. Minutes are
counted from the first post that failed for good, or from the start of the incident if no post has
failed by then. Messages are those that something fires, with reminders, as Alertmanager sends them.
`make plays` computes this table and compares it.

| customer | incident | first message after | alerts and their messages | messages a day |
|---|---|---|---|---|
"""

INCIDENTS = (
    "",
    "healed-retry",
    "one-post-fails",
    "account-dead",
    "platform-fails",
    "everything-fails",
    "revoked-token",
    "account-cooldown",
    "suspended",
    "scheduler-stuck",
)
"""Incidents. The first is ordinary life with a base rate of one percent of failed posts."""

OTHER_INCIDENTS: Mapping[str, Sequence[str]] = {
    "platform": (
        "platform-outage",
        "rate-limit-storm",
        "slow-video",
        "late-publishing",
        "usage-at-limit",
        "usage-near-limit",
        "empty-schedule",
        "empty-balance",
        "account-blocked",
        "approval-overdue",
        "webhook-failing",
    )
}
"""Further incidents by profile: those that do not depend on the volume."""

SMALL = ("weekly", "bakery", "shop")
"""Customers with at most 50 publish attempts a day."""

BATCHES = {"agency": 5, "platform": 5, "large": 2}
"""How many incidents promtool plays at once: a query may load 10,000 samples."""

MINUTES_UNTIL_TOLD = 20
MINUTES_UNTIL_CRITICAL = 30
WEEK = 7.0

FindTool: TypeAlias = Callable[[str], str]


class Cell(NamedTuple):
    """A cell of the table, with what was played and told."""

    profile: str
    incident: str
    play: Play
    messages: Sequence[Message]

    @property
    def row(self) -> str:
        """The row of the table."""
        counts: dict[str, int] = {}
        for message in self.messages:
            name = f"{message.name} ({message.severity})"
            counts[name] = counts.get(name, 0) + 1
        alerts = ", ".join(f"{name}: {count}" for name, count in counts.items())
        first = "-"
        if self.messages:
            told_at = self.messages[0].minute
            failed_before = [each.minute for each in self.play.failures if each.minute <= told_at]
            first = f"{told_at - min(failed_before, default=0)} min"
        per_day = len(self.messages) / self.play.days
        incident = self.incident or "none"
        alerts = alerts or "-"
        return f"| {self.profile} | {incident} | {first} | {alerts} | {per_day:.1f} |"


def _lengths(profile: str) -> Mapping[str, Length]:
    """Return the lengths of the plays of a profile, by incident."""
    lengths = dict.fromkeys(INCIDENTS, LENGTHS[profile])
    lengths[""] = ORDINARY_LENGTHS[profile]
    return {**lengths, **dict.fromkeys(OTHER_INCIDENTS.get(profile, ()), SHORT_LENGTH)}


def _cells(profile: str, plays: Mapping[str, Play], promtool: str, folder: Path) -> Iterator[Cell]:
    """Yield the cells of plays of a profile, by incident."""
    by_timing: dict[Timing, list[str]] = {}
    for name, play in plays.items():
        by_timing.setdefault(play.timing, []).append(name)
    for names in by_timing.values():
        size = BATCHES.get(profile, len(names))
        for number in range(0, len(names), size):
            batch = names[number : number + size]
            alerts = _evaluate({name: plays[name] for name in batch}, promtool, folder)
            for name in batch:
                yield Cell(profile, name, plays[name], list(Notifier().messages(alerts[name])))


def _evaluate(
    plays: Mapping[str, Play],
    promtool: str,
    folder: Path,
) -> Mapping[str, Sequence[FiringAlert]]:
    """Return the alerts of plays of one profile, by incident."""
    rows = {name or "none": play.rows for name, play in plays.items()}
    timing = next(iter(plays.values())).timing
    # Only an incident of a busy schedule looks at past weeks, which no play has.
    has_past_weeks = "empty-schedule" not in plays
    alerts = evaluate(rows, timing, folder, promtool, has_past_weeks=has_past_weeks)
    return {name: alerts[name or "none"] for name in plays}


@pytest.mark.thorough
@pytest.mark.plays
@pytest.mark.parametrize("profile", PROFILES)
def test_promises(
    profile: str,
    tmp_path: Path,
    require_tool: FindTool,
    subtests: pytest.Subtests,
) -> None:
    """A customer of any volume is told of an incident in time, and of nothing else."""
    lengths = _lengths(profile)
    plays = {incident: record(profile, incident, length) for incident, length in lengths.items()}
    cells = list(_cells(profile, plays, require_tool("promtool"), tmp_path))
    for cell in cells:
        with subtests.test(incident=cell.incident):
            check_promises(cell)

    rows = [cell.row for cell in cells]
    if os.environ.get("UPDATE_GOLDEN") == "1":
        _write_rows(profile, rows)
    assert rows == _read_rows(profile)
    if not PROMTOOL_3.exists():
        pytest.skip("Prometheus 3 is not in .cache/tools3; .ci/tools fetches it if it exists")
    assert [cell.row for cell in _cells(profile, plays, str(PROMTOOL_3), tmp_path)] == rows


def check_promises(cell: Cell) -> None:
    """Check what holds whatever the table says."""
    failures = cell.play.failures
    if cell.incident == "healed-retry":
        assert failures == []
        assert cell.messages == []
    elif cell.incident == "one-post-fails" and cell.profile in SMALL:
        (message,) = cell.messages
        _check_told(message, *failures)
    elif cell.incident in {"platform-fails", "everything-fails"}:
        _check_outage(cell)
    elif cell.incident == "":
        _check_base_rate(cell)


def _check_told(message: Message, failure: Failure) -> None:
    """Check that a message is about a post that failed, says where, and comes in time."""
    (alert,) = message.alerts
    assert message.name == "LatePostFailed"
    assert message.severity == "warning"
    assert 0 <= message.minute - failure.minute <= MINUTES_UNTIL_TOLD
    description = alert.annotations["description"]
    assert "Workspace default: " in description
    assert failure.platform in description
    assert failure.username in description
    assert failure.account_id in description
    assert description.endswith("Run: late-exporter posts --workspace default --failed --since 1d")


def _check_outage(cell: Cell) -> None:
    """Check that a critical message comes within half an hour of the third failed post."""
    minutes = sorted({failure.post_id: failure.minute for failure in cell.play.failures}.values())
    critical = [message.minute for message in cell.messages if message.severity == "critical"]
    assert critical, "no critical message"
    assert critical[0] - minutes[2] <= MINUTES_UNTIL_CRITICAL


def _check_base_rate(cell: Cell) -> None:
    """Check that few posts are told one by one, and many not at all."""
    if cell.profile not in SMALL:
        assert len(cell.messages) <= max(1.0, cell.play.days / WEEK)
        return
    assert len(cell.messages) == len(cell.play.failures)
    for message, failure in zip(cell.messages, cell.play.failures, strict=True):
        _check_told(message, failure)


def _read_rows(profile: str) -> list[str]:
    """Return the rows of a profile in the table."""
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.exists() else []
    return [line for line in lines if line.startswith(f"| {profile} |")]


def _write_rows(profile: str, rows: Sequence[str]) -> None:
    """Replace the rows of a profile, in the order of the profiles."""
    by_profile = {name: _read_rows(name) for name in PROFILES}
    by_profile[profile] = list(rows)
    lines = [row for each in by_profile.values() for row in each]
    TABLE.write_text(HEADER + "\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize(
    ("incident", "days"),
    [
        ("healed-retry", 1.5),
        ("one-post-fails", 1.5),
        # The third post fails on the next day.
        pytest.param("everything-fails", 2.5, marks=pytest.mark.thorough),
    ],
)
def test_messages_to_a_bakery(incident: str, days: float, tmp_path: Path, require_tool: FindTool) -> None:
    """A real Alertmanager tells a bakery of posts that failed, and of none that a retry heals."""
    play = record("bakery", incident, Length(days, step=2))
    alerts = _evaluate({incident: play}, require_tool("promtool"), tmp_path)[incident]
    messages = list(Notifier().messages(alerts))
    check_promises(Cell("bakery", incident, play, messages))
    if not messages:
        return

    binary = require_tool("prometheus-alertmanager")
    delivered = deliver(alerts, binary, tmp_path, play.timing.step)
    text = "\n".join(message.render() for message in delivered)
    file = GOLDEN / f"bakery-{incident}.md"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text


WORKSPACES = 1000
HOURS = 9


def _small_workspaces() -> Iterator[SampleRow]:
    """Yield the series of small workspaces, of which one in 33 has failed posts."""
    steps = HOURS * 12 + 1
    for number in range(WORKSPACES):
        workspace = ("workspace", f"brand-{number:03}")
        yield SampleRow("late_up", (workspace, ("feed", "publishing")), [1.0] * steps)
        if number % 33 == 0:
            since = number % steps
            account = (workspace, ("platform", "instagram"), ("account_id", f"{number:024}"))
            failed = 7.0 if number == 330 else 1.0
            values = [None] * since + [failed] * (steps - since)
            yield SampleRow("late_account_failed_posts", account, values)
            due_at = [None] * since + [300.0 * since] * (steps - since)
            yield SampleRow("late_account_last_failed_post_timestamp_seconds", account, due_at)


@pytest.mark.thorough
def test_small_workspaces_are_no_storm(tmp_path: Path, require_tool: FindTool) -> None:
    """A thousand small workspaces are one message every four hours, the worst first."""
    timing = Timing(lead=0, first=5, total=HOURS * 60, step=5)
    rows = {"late": list(_small_workspaces())}
    alerts = evaluate(rows, timing, tmp_path, require_tool("promtool"), has_past_weeks=True)["late"]
    messages = list(Notifier().messages(alerts))
    minutes = [message.minute for message in messages]
    waits = [later - earlier for earlier, later in pairwise(minutes)]
    assert {message.name for message in messages} == {"LatePostFailed"}
    assert [len(message.alerts) for message in messages] == [1] * len(messages)
    assert min(waits) >= 240
    description = messages[-1].alerts[0].annotations["description"]
    assert "Workspaces with most of them: brand-330 (7) " in description
