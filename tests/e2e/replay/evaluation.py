"""Evaluate the shipped rules over recorded series with promtool, step by step."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.program import run_command
from tests.e2e.replay.recording import SampleRow
from tests.rules.rule_files import FILES, load_yaml, needed_groups

INSTANCE = "exporter.example:10077"
FAILED_CHECK = re.compile(r"alertname: (\w+), time: (\S+?),.*?got:\[(.*?)\n {12}\]", re.DOTALL)
ALERT = re.compile(r"Labels:\{(.*)\}\n\s+Annotations:\{(.*)\}")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
WEEKS_AGO = re.compile(r"(?<=scheduled\"} offset )(\d)w")
"""Schedules of past weeks, which become those of some minutes before the incident."""

NOT_PLAYED = ("LateCatchUpStuck", "LateCoverageLost")
"""Alerts on the exporter with windows of 7 and 14 days: more samples than promtool allows."""

MINUTES = {"w": 10_080, "d": 1440, "h": 60, "m": 1}
TIMEOUT = 1800


class FiringAlert(NamedTuple):
    """An alert that fires at a minute after the start of the incident, with its texts."""

    minute: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Timing(NamedTuple):
    """Times of an evaluation, in minutes.

    Args:
        lead: Time before the incident.
        first: Time of the first evaluation of interest, from the start of the incident.
        total: Time of the last evaluation, from the first scrape.
        step: Time from one evaluation to the next, and from one recorded scrape to the next.
    """

    lead: int
    first: int
    total: int
    step: int

    @property
    def sample_seconds(self) -> int:
        """Seconds from one sample to the next.

        They hardly ever divide a window. So few samples are at the edge of one, where Prometheus 2
        includes them and Prometheus 3 does not. Prometheus forgets a value after five minutes, so
        steps of more than two minutes have several samples.
        """
        return 60 * min(self.step, 2) + 1


def evaluate(
    rows_by_job: Mapping[str, Sequence[SampleRow]],
    timing: Timing,
    folder: Path,
    promtool: str,
    *,
    has_past_weeks: bool = False,
) -> Mapping[str, Sequence[FiringAlert]]:
    """Return the alerts of each job that fire in each step.

    Jobs share one run of promtool, whose time depends on the number of evaluations more than on
    that of series. Promtool prints the alerts that a unit test does not expect, so the unit test
    expects none.

    Args:
        rows_by_job: Series of each job.
        timing: Times of the evaluation.
        folder: Folder for temporary files.
        promtool: Path of promtool.
        has_past_weeks: Whether the rules see real weeks. If not, they look for the schedules of
            past weeks in the hours before the incident.
    """
    texts = [file.read_text("utf-8") for file in FILES]
    if not has_past_weeks:
        texts = [_adapt(text) for text in texts]
    groups = [_without(group, NOT_PLAYED) for text in texts for group in load_yaml(text)["groups"]]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    rules = json.dumps({"groups": needed_groups(groups, json.dumps(alerts))})
    (folder / "rules.yml").write_text(rules, "utf-8")

    used_rows = {job: [row for row in rows if row.name in rules] for job, rows in rows_by_job.items()}
    names = sorted({rule["alert"] for rule in alerts})
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{timing.step}m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": [_unit_test(used_rows, timing, names)],
    }
    (folder / "replay.yml").write_text(json.dumps(test), "utf-8")
    command = (promtool, "test", "rules", "replay.yml")
    options = {"cwd": folder, "stderr": subprocess.STDOUT, "timeout": TIMEOUT}
    output = run_command(*command, check=False, **options)
    assert "FAILED:" in output or "SUCCESS" in output, output
    assert ", err: " not in output, output[-2000:]

    firing: dict[str, list[FiringAlert]] = {job: [] for job in rows_by_job}
    for alert in _parse_alerts(output, timing.lead):
        firing[alert.labels["job"]].append(alert)
    for each in firing.values():
        each.sort(key=lambda alert: (alert.minute, *alert.labels.items()))
    return firing


def _adapt(rules: str) -> str:
    """Return rules that look for the schedules of past weeks in the hours before the incident."""
    return WEEKS_AGO.sub(lambda match: f"{90 + 10 * int(match[1])}m", rules)


def _without(group: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return a group without the alerts with some names."""
    return {**group, "rules": [rule for rule in group["rules"] if rule.get("alert") not in names]}


def _unit_test(
    rows_by_job: Mapping[str, Sequence[SampleRow]], timing: Timing, alert_names: Sequence[str]
) -> Mapping[str, Any]:
    sample_count = 60 * timing.total // timing.sample_seconds
    series = []
    for job, rows in rows_by_job.items():
        target = {"job": job, "instance": INSTANCE}
        series.append({"series": _series("up", target), "values": f"1x{sample_count}"})
        for row in rows:
            values = _values(row, timing, sample_count)
            name = _series(row.name, {**target, **dict(row.labels)})
            series.append({"series": name, "values": values})
    return {
        "interval": f"{timing.sample_seconds}s",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name}
            for minute in range(timing.lead + timing.first, timing.total, timing.step)
            for name in alert_names
        ],
    }


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _values(row: SampleRow, timing: Timing, sample_count: int) -> str:
    """Return the values of the samples, each that of the next scrape, with equal ones together.

    So an evaluation sees the scrape of its own time.
    """
    last = len(row.values) - 1
    step_seconds = 60 * timing.step
    times = range(0, sample_count * timing.sample_seconds, timing.sample_seconds)
    numbers = (min(last, ceil(time / step_seconds)) for time in times)
    parts = []
    for value, group in groupby(row.values[number] for number in numbers):
        count = sum(1 for _ in group)
        parts.append(f"_x{count}" if value is None else f"{value!r}x{count - 1}")
    return " ".join(parts)


def _parse_alerts(output: str, lead: int) -> Iterator[FiringAlert]:
    for _, time, alerts in FAILED_CHECK.findall(output):
        for labels, texts in ALERT.findall(alerts):
            yield FiringAlert(minutes_of(time) - lead, _parse_pairs(labels), _parse_pairs(texts))


def minutes_of(duration: str) -> int:
    """Return the minutes of a duration as Prometheus writes it: ``1w``, ``6d23h55m``."""
    parts = re.findall(r"(\d+)([wdhm])", duration)
    return sum(int(number) * MINUTES[unit] for number, unit in parts)


def _parse_pairs(text: str) -> Mapping[str, str]:
    return {name: json.loads(value) for name, value in PAIR.findall(text)}
