"""Play days of a customer: record what the exporter shows, and find out who is told what, and when.

The exporter and the rules are as shipped, and time is virtual. Alertmanager is computed here, because
a real one cannot play a week in seconds; ``delivery`` hands shorter plays to a real one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec.structs import replace

from late_exporter.simulator import SimulatedWorld, simulate_world
from late_exporter.simulator.profiles import PROFILES
from tests.e2e.replay.evaluation import FiringAlert, Timing, minutes_of
from tests.e2e.replay.recording import START, Labels, SampleRow, relative_times
from tests.rules.rule_files import FILES
from tests.support.clock import HOUR, MINUTE, VirtualClock
from tests.support.simulated_exporter import SimulatedExporter

ALERTMANAGER = Path(__file__).parents[3] / "deploy" / "alertmanager" / "alertmanager.yml"
RULES = "".join(file.read_text("utf-8") for file in FILES)
SEED = 7

CALM = 6 * HOUR
"""Ordinary life after it."""

BUSY_TIME = 20 * MINUTE
"""How long after a new log the exporter polls in every step."""

QUIET_STEPS = 6 * MINUTE
"""Seconds between polls at other times: few enough for ten minutes to have a successful poll."""


class Length(NamedTuple):
    """How long a customer is played, in days, and the minutes between two scrapes and evaluations.

    Args:
        days: Days of the whole play.
        step: Minutes between two scrapes and evaluations, fewer than the five of a stale series.
        lead: Days of ordinary life before the incident. Some alerts wait for a day of data.
    """

    days: float
    step: int
    lead: float = 26 / 24


LENGTHS: Mapping[str, Length] = {
    # The third post that fails comes two weeks after the first.
    "weekly": Length(days=24, step=4),
    "bakery": Length(days=6, step=2),
    "shop": Length(days=6, step=2),
    "agency": Length(days=2.5, step=2),
    "platform": Length(days=1.6, step=2),
    "large": Length(days=0.4, step=2, lead=0.1),
}
"""Plays of incidents. A large customer is told within minutes, and many posts take long to play."""

ORDINARY_LENGTHS: Mapping[str, Length] = {
    **LENGTHS,
    "agency": Length(days=7, step=2),
    "platform": Length(days=7, step=2),
    "large": Length(days=1.5, step=2),
}
"""Plays without an incident. All days of a large customer are alike."""

SHORT_LENGTH = Length(days=0.4, step=2, lead=0.1)
"""For incidents that are noticed within hours, whatever was before."""


SMALL_POSTS = 15
ORDINARY_RATES = {"refused_rate": 0.004, "exhausted_rate": 0.001}
"""Shares of failed posts, by account, with which one percent of the posts fails on one of its two accounts.

Small customers keep those of their profile, because each of their failed posts has to be told.
"""


class Failure(NamedTuple):
    """A post that failed for good on an account, at a minute after the start of the incident."""

    minute: int
    post_id: str
    platform: str
    account_id: str
    username: str


class Play(NamedTuple):
    """The series of a play, one value per step, and what went wrong in it."""

    rows: Sequence[SampleRow]
    timing: Timing
    failures: Sequence[Failure]

    @property
    def days(self) -> float:
        return self.timing.total / 1440


class Message(NamedTuple):
    """A message about alerts that fire, with the minute after the start of the incident."""

    minute: int
    alerts: Sequence[FiringAlert]

    @property
    def name(self) -> str:
        return self.alerts[0].labels["alertname"]

    @property
    def severity(self) -> str:
        return self.alerts[0].labels["severity"]


def record(profile_name: str, incident: str, length: Length) -> Play:
    """Return the play of an incident without other failures, or of ordinary life if it is empty."""
    profile = PROFILES[profile_name]
    step = length.step
    lead = round(length.lead * 1440)
    total = round(length.days * 1440)
    if incident:
        profile = replace(profile, refused_rate=0.0, exhausted_rate=0.0, healed_rate=0.0)
    elif profile.posts_per_day > SMALL_POSTS:
        profile = replace(profile, **ORDINARY_RATES)
    begin = START - lead * MINUTE
    world = simulate_world(SEED, begin, history=2 * HOUR, profile=profile)
    if incident:
        duration = max(CALM, (total - lead) * MINUTE - CALM)
        world.start_incident(incident, duration=duration, start_time=START)

    timing = Timing(lead=lead, first=step - lead, total=total, step=step)
    recorder = _Recorder(world)
    with closing(SimulatedExporter(world, VirtualClock(begin))) as exporter:
        for number in range(total // step + 1):
            recorder.add(exporter, number * step - lead)
            exporter.clock.advance(step * MINUTE)
    rows = [SampleRow(name, labels, values) for (name, labels), values in recorder.rows.items()]
    return Play(rows, timing, list(recorder.failures.values()))


class _Recorder:
    """Records the series that rules use, and the posts that fail.

    Polls are left out while nothing is published: such a time has the samples of the last scrape.
    """

    def __init__(self, world: SimulatedWorld) -> None:
        self.rows: dict[tuple[str, Labels], list[float | None]] = {}
        self.failures: dict[tuple[str, str], Failure] = {}
        self._world = world
        self._begin = world.now
        self._step_count = 0
        self._log_count = -1
        self._busy_until = 0.0
        self._next_poll = 0.0

    def add(self, exporter: SimulatedExporter, minute: int) -> None:
        """Add a step, at a minute after the start of the incident."""
        now = exporter.clock.now
        self._world.advance(now)
        for post in self._world.posts.values():
            for account in post.failures:
                platform = account.platform.name
                failure = Failure(minute, post.id, platform, account.id, account.username)
                self.failures.setdefault((post.id, account.id), failure)
        log_count = len(self._world.publishing.rows)
        if log_count != self._log_count:
            self._log_count = log_count
            self._busy_until = now + BUSY_TIME
        if now < self._busy_until or now >= self._next_poll:
            self._next_poll = now + QUIET_STEPS
            assert exporter.poll_feeds() == ["success", "success"]
            self._add_scrape(exporter)
        else:
            for values in self.rows.values():
                values.append(values[-1])
        self._step_count += 1

    def _add_scrape(self, exporter: SimulatedExporter) -> None:
        for series, value in relative_times(exporter.scrape(), self._begin).items():
            if _is_used(series[0]):
                self.rows.setdefault(series, [None] * self._step_count).append(value)
        for values in self.rows.values():
            if len(values) == self._step_count:
                values.append(None)


@cache
def _is_used(name: str) -> bool:
    """Return whether a rule uses the series of a name."""
    return name in RULES


class Notifier:
    """Computes the messages of Alertmanager with the shipped configuration, step by step."""

    def __init__(self) -> None:
        self._config: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text("utf-8"))
        self._told: dict[tuple[str, ...], set[frozenset[tuple[str, str]]]] = {}
        self._last: dict[tuple[str, ...], int] = {}

    def messages(self, alerts: Sequence[FiringAlert]) -> Iterator[Message]:
        """Yield the messages that say that something fires, not those that it is resolved."""
        by_minute: dict[int, list[FiringAlert]] = defaultdict(list)
        for alert in alerts:
            by_minute[alert.minute].append(alert)
        for minute, firing in sorted(by_minute.items()):
            groups: dict[tuple[str, ...], list[FiringAlert]] = defaultdict(list)
            for alert in firing:
                causes = [cause for cause in firing if cause is not alert]
                if not any(self._inhibits(cause.labels, alert.labels) for cause in causes):
                    names = self._config["route"]["group_by"]
                    groups[tuple(alert.labels.get(name, "") for name in names)].append(alert)
            yield from self._notify(minute, groups)

    def _notify(
        self,
        minute: int,
        groups: Mapping[tuple[str, ...], Sequence[FiringAlert]],
    ) -> Iterator[Message]:
        for group in self._told.keys() - groups.keys():
            del self._told[group]
        for group, members in groups.items():
            present = {frozenset(alert.labels.items()) for alert in members}
            is_new = not present <= self._told.get(group, set())
            repeat = minutes_of(self._route(members[0].labels)["repeat_interval"])
            if is_new or minute - self._last[group] >= repeat:
                self._last[group] = minute
                yield Message(minute, members)
            self._told[group] = present

    def _route(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        top = self._config["route"]
        for route in top["routes"]:
            if not route.get("continue") and _matches(route["matchers"], labels):
                return {"repeat_interval": top["repeat_interval"], **route}
        return dict(top)

    def _inhibits(self, source: Mapping[str, str], target: Mapping[str, str]) -> bool:
        return any(
            _matches(rule["source_matchers"], source)
            and _matches(rule["target_matchers"], target)
            and not _matches(rule["target_matchers"], source)
            and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
            for rule in self._config["inhibit_rules"]
        )


def _matches(matchers: Sequence[str], labels: Mapping[str, str]) -> bool:
    return all(
        re.fullmatch(value if operator == "=~" else re.escape(value), labels.get(name, ""))
        for name, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', " ".join(matchers))
    )
