"""Who is told what, and when: one table of customers by volume and incidents, played for days.

Each cell checks what is promised, and prints its row of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from late_exporter.simulator.profiles import PROFILES
from tests.e2e.replay.plays import LENGTHS, Failure, Message, Notifier, Play, firing_alerts, record

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
)
"""Incidents, the first of which is ordinary life with a base rate of one percent of failed posts."""

SMALL = ("weekly", "bakery", "shop")
"""Customers with at most 50 publish attempts a day."""

BOTH_VERSIONS = ("bakery", "platform")
"""Customers that are also played with Prometheus 3."""

QUICK = (("bakery", "one-post-fails"), ("bakery", "healed-retry"))
"""Cells that make test plays, for a shorter time; make plays plays all."""

MARKS = (pytest.mark.thorough, pytest.mark.plays)

QUICK_DAYS = 1.5
WEEK = 7.0


class Cell(NamedTuple):
    """A cell of the table, with what was played and told."""

    profile: str
    incident: str
    play: Play
    messages: Sequence[Message]

    @property
    def row(self) -> str:
        """Customer, incident, first message, alerts with their messages, and messages a day.

        Minutes are counted from the first post that failed for good, or else from the start.
        """
        counts: dict[str, int] = {}
        for message in self.messages:
            name = f"{message.alert} ({message.severity})"
            counts[name] = counts.get(name, 0) + 1
        alerts = ", ".join(f"{name}: {count}" for name, count in counts.items())
        first = "-"
        if self.messages:
            start = min((failure.minute for failure in self.play.failures), default=0)
            first = f"{self.messages[0].minute - start} min"
        per_day = len(self.messages) / self.play.days
        return f"| {self.profile} | {self.incident or 'none'} | {first} | {alerts or '-'} | {per_day:.1f} |"


FindTool = Callable[[str], str]


def _cells() -> Iterator[object]:
    for profile, incident in product(PROFILES, INCIDENTS):
        for version in ("installed", "3") if profile in BOTH_VERSIONS else ("installed",):
            name = f"{profile}-{incident or 'none'}-{version}"
            yield pytest.param(profile, incident, version, id=name, marks=MARKS)


def _promtool(version: str, require_tool: FindTool) -> str:
    if version == "installed":
        return require_tool("promtool")
    promtool = Path(__file__).parents[3] / ".cache" / "tools3" / "usr" / "bin" / "promtool"
    if not promtool.exists():
        pytest.skip("Prometheus 3 is not in .cache/tools3; .ci/tools fetches it if the distribution has it")
    return str(promtool)


def _play(profile: str, incident: str, promtool: str, folder: Path, days: float) -> Cell:
    play = record(profile, incident, days)
    alerts = firing_alerts(play, folder, promtool)
    return Cell(profile, incident, play, list(Notifier().messages(alerts)))


@pytest.mark.parametrize(("profile", "incident", "version"), list(_cells()))
def test_promises(profile: str, incident: str, version: str, tmp_path: Path, require_tool: FindTool) -> None:
    """A customer of any volume is told of an incident in time, and of nothing else."""
    cell = _play(profile, incident, _promtool(version, require_tool), tmp_path, LENGTHS[profile].days)
    print(cell.row)  # noqa: T201 - the result of make plays
    check_promises(cell)


@pytest.mark.parametrize(("profile", "incident"), QUICK)
def test_a_post_of_a_bakery(profile: str, incident: str, tmp_path: Path, require_tool: FindTool) -> None:
    """A bakery is told of a post that failed for good, and of none that a retry has published."""
    cell = _play(profile, incident, require_tool("promtool"), tmp_path, QUICK_DAYS)
    check_promises(cell)


def check_promises(cell: Cell) -> None:
    """Check what holds whatever the table says."""
    failures = cell.play.failures
    if cell.incident == "healed-retry":
        assert failures == []
        assert cell.messages == []
    elif cell.incident == "one-post-fails" and cell.profile in SMALL:
        (failure,) = failures
        (message,) = cell.messages
        assert message.alert == "LatePostFailed"
        assert message.minute - failure.minute <= 20
        assert {"workspace", "platform", "account_id"} <= message.labels.keys()
    elif cell.incident in {"platform-fails", "everything-fails"}:
        _check_outage(cell)
    elif cell.incident == "":
        _check_base_rate(cell)


def _check_outage(cell: Cell) -> None:
    """Check that a critical message comes within half an hour of the third failed post."""
    minutes = sorted({failure.post_id: failure.minute for failure in cell.play.failures}.values())
    critical = [message.minute for message in cell.messages if message.severity == "critical"]
    assert critical, "no critical message"
    assert critical[0] - minutes[2] <= 30


def _check_base_rate(cell: Cell) -> None:
    """Check that few posts are told one by one, and many not at all."""
    if cell.profile in SMALL:
        assert {message.alert for message in cell.messages} <= {"LatePostFailed"}
        assert len(cell.messages) == len(_posts_at_once(cell.play.failures))
    else:
        assert len(cell.messages) <= max(1.0, cell.play.days / WEEK)


def _posts_at_once(failures: Sequence[Failure]) -> set[int]:
    """Return the minutes in which posts failed: those that fail at once are told in one message."""
    return {failure.minute for failure in failures}
