"""Play days of a customer's life: record what the exporter shows, and find out who is told what, and when.

The exporter and the rules are as shipped, and time is virtual. Alertmanager is computed here, because a real one cannot
play a week in seconds; ``delivery`` hands shorter plays to a real one.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec.structs import replace

from late_exporter.simulator import SimulatedWorld, simulate_world
from late_exporter.simulator.profiles import PROFILES
from tests.e2e.program import run_command
from tests.e2e.replay.recording import START, Labels, SampleRow, relative_times
from tests.rules.rule_files import FILES, load_yaml
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.simulated_exporter import SimulatedExporter

ALERTMANAGER = Path(__file__).parents[3] / "deploy" / "alertmanager" / "alertmanager.yml"
TARGET_LABELS = {"job": "late", "namespace": "social", "instance": "exporter.example:10077"}
SEED = 7

LEAD = 26 * HOUR
"""Ordinary life before an incident, because some alerts wait for a day of data."""

CALM = 6 * HOUR
"""Ordinary life after it."""

FIRING = re.compile(r"time: (\S+?),\s+exp:\s*nil\s+got: (.*?)(?=\n\s+expr:|\Z)", re.DOTALL)
SAMPLE = re.compile(r"\{([^}]*)\} ")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
DURATIONS = {"d": 1440, "h": 60, "m": 1, "s": 0}


class Length(NamedTuple):
    """How long a profile is played, in days, and the minutes between two scrapes and evaluations."""

    days: float
    step: int


LENGTHS: Mapping[str, Length] = {
    "weekly": Length(days=24, step=5),
    "bakery": Length(days=4, step=2),
    "shop": Length(days=4, step=2),
    "agency": Length(days=2.5, step=2),
    "platform": Length(days=1.6, step=2),
    "large": Length(days=1.5, step=2),
}
"""What a large customer sees of an incident happens within hours, and its ordinary days are alike."""


class Failure(NamedTuple):
    """A post that failed for good on an account, with the minute after the start of the incident."""

    minute: int
    post_id: str
    platform: str


class Play(NamedTuple):
    """The series of a play, one value per step, and what went wrong in it."""

    rows: Sequence[SampleRow]
    step: int
    failures: Sequence[Failure]
    days: float


class Message(NamedTuple):
    """A message about alerts that began to fire, with the minute after the start of the incident."""

    minute: int
    alert: str
    severity: str
    labels: Mapping[str, str]


def record(profile_name: str, incident: str, days: float) -> Play:
    """Return the play of an incident without other failures, or of ordinary life if it is empty."""
    profile = PROFILES[profile_name]
    step = LENGTHS[profile_name].step
    if incident:
        profile = replace(profile, refused_rate=0.0, exhausted_rate=0.0, healed_rate=0.0)
    begin = START - LEAD
    step_count = int(days * DAY / (step * MINUTE))
    world = simulate_world(SEED, begin, history=2 * HOUR, profile=profile)
    if incident:
        duration = max(CALM, days * DAY - LEAD - CALM)
        world.start_incident(incident, duration=duration, start_time=START)

    rows: dict[tuple[str, Labels], list[float | None]] = {}
    failures: dict[tuple[str, str], Failure] = {}
    with closing(SimulatedExporter(world, VirtualClock(begin))) as exporter:
        for number in range(step_count):
            assert exporter.poll_feeds() == ["success", "success"]
            for series, value in relative_times(exporter.scrape(), begin).items():
                rows.setdefault(series, [None] * number).append(value)
            for values in rows.values():
                if len(values) == number:
                    values.append(None)
            exporter.clock.advance(step * MINUTE)
            for failure in _failures(world, number * step - int(LEAD / MINUTE)):
                failures.setdefault((failure.post_id, failure.platform), failure)
    sample_rows = [SampleRow(name, labels, values) for (name, labels), values in rows.items()]
    return Play(sample_rows, step, list(failures.values()), days)


def _failures(world: SimulatedWorld, minute: int) -> Iterator[Failure]:
    for post in world.posts.values():
        for account in post.failures:
            yield Failure(minute, post.id, account.platform.name)


def firing_alerts(play: Play, folder: Path, promtool: str) -> Mapping[int, Sequence[Mapping[str, str]]]:
    """Return the labels of the alerts that fire, by the minute after the start of the incident.

    Promtool prints the samples that a unit test does not expect, so the unit test expects none.
    """
    groups = [group for file in FILES for group in load_yaml(file.read_text("utf-8"))["groups"]]
    rules = json.dumps({"groups": groups})
    (folder / "rules.yml").write_text(rules, "utf-8")
    step_count = len(play.rows[0].values)
    up_series = {"series": _series("up", {}), "values": f"1x{2 * step_count}"}
    used_rows = [row for row in play.rows if row.name in rules]
    test = {
        "interval": f"{30 * play.step}s",
        "input_series": [
            up_series,
            *({"series": _series(row.name, dict(row.labels)), "values": _values(row)} for row in used_rows),
        ],
        "promql_expr_test": [
            {"eval_time": f"{number * play.step}m", "expr": 'ALERTS{alertstate="firing"}'}
            for number in range(step_count)
        ],
    }
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{play.step}m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": [test],
    }
    (folder / "play.yml").write_text(json.dumps(document), "utf-8")
    command = (promtool, "test", "rules", "play.yml")
    output = run_command(*command, check=False, cwd=folder, stderr=subprocess.STDOUT, timeout=1800)
    assert "FAILED:" in output or "SUCCESS" in output, output
    return {
        _minutes(time) - int(LEAD / MINUTE): [_parse_pairs(labels) for labels in SAMPLE.findall(samples)]
        for time, samples in FIRING.findall(output)
    }


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = {**TARGET_LABELS, **labels}
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in pairs.items())}}}"


def _values(row: SampleRow) -> str:
    """Return the values, each half a step before an evaluation, so that none is at the edge of a window."""
    return " ".join("_ _" if value is None else f"_ {value!r}" for value in row.values)


def _minutes(duration: str) -> int:
    return sum(int(number) * DURATIONS[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def _parse_pairs(text: str) -> Mapping[str, str]:
    return {name: json.loads(value) for name, value in PAIR.findall(text)}


class Notifier:
    """Computes the messages of Alertmanager with the shipped configuration, at the steps of a play."""

    def __init__(self) -> None:
        self._config: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text("utf-8"))
        self._told: dict[tuple[str, ...], dict[frozenset[tuple[str, str]], int]] = defaultdict(dict)
        self._last: dict[tuple[str, ...], int] = {}

    def messages(self, alerts: Mapping[int, Sequence[Mapping[str, str]]]) -> Iterator[Message]:
        """Yield the messages that say that something fires, not those that it is resolved."""
        for minute, firing in sorted(alerts.items()):
            groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
            for labels in firing:
                if not any(self._inhibits(cause, labels) for cause in firing if cause is not labels):
                    names = self._config["route"]["group_by"]
                    groups[tuple(labels.get(name, "") for name in names)].append(labels)
            yield from self._notify(minute, groups)

    def _notify(self, minute: int, groups: Mapping[tuple[str, ...], Sequence[Mapping[str, str]]]) -> Iterator[Message]:
        for group in [group for group in self._told if group not in groups]:
            del self._told[group]
        for group, members in groups.items():
            present = {frozenset(labels.items()) for labels in members}
            is_new = not present <= self._told[group].keys()
            route = self._route(members[0])
            repeat = _minutes(route["repeat_interval"])
            if is_new or minute - self._last[group] >= repeat:
                self._last[group] = minute
                yield Message(minute, members[0]["alertname"], members[0]["severity"], members[0])
            self._told[group] = dict.fromkeys(present, minute)

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
