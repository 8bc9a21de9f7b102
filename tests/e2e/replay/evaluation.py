"""Evaluate the shipped rules over recorded series with promtool, minute by minute."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.program import run_command
from tests.e2e.replay.recording import LEAD_MINUTES, TOTAL_MINUTES, SampleRow
from tests.rules.rule_files import FILES, load_yaml, needed_groups

TARGET_LABELS = {"job": "late", "instance": "exporter.example:10077"}
FAILED_CHECK = re.compile(r"alertname: (\w+), time: (\S+?),.*?got:\[(.*?)\n {12}\]", re.DOTALL)
ALERT = re.compile(r"Labels:\{(.*)\}\n\s+Annotations:\{(.*)\}")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
WEEKS_AGO = re.compile(r"(?<=scheduled\"} offset )(\d)w")
"""Schedules of past weeks, which become those of some minutes before the incident."""


class FiringAlert(NamedTuple):
    """An alert that fires in a minute after the start of the incident, with rendered annotations."""

    minute: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def evaluate(rows: Sequence[SampleRow], folder: Path, promtool: str) -> Sequence[FiringAlert]:
    """Return the alerts that fire in each minute, from half an hour before the incident.

    Promtool prints the alerts that a unit test does not expect, so the unit test expects none.
    """
    groups = [group for file in FILES for group in load_yaml(_adapt(file.read_text("utf-8")))["groups"]]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    rules = json.dumps({"groups": needed_groups(groups, json.dumps(alerts))})
    (folder / "rules.yml").write_text(rules, "utf-8")
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": [_unit_test([row for row in rows if row.name in rules], sorted({rule["alert"] for rule in alerts}))],
    }
    (folder / "replay.yml").write_text(json.dumps(test), "utf-8")
    command = (promtool, "test", "rules", "replay.yml")
    output = run_command(*command, check=False, cwd=folder, stderr=subprocess.STDOUT)
    assert "FAILED:" in output, output
    return sorted(_parse_alerts(output), key=lambda alert: (alert.minute, *alert.labels.items()))


def _adapt(rules: str) -> str:
    """Return rules that look for the schedules of past weeks in the hours before the incident."""
    return WEEKS_AGO.sub(lambda match: f"{90 + 10 * int(match[1])}m", rules)


def _unit_test(rows: Sequence[SampleRow], alert_names: Sequence[str]) -> Mapping[str, Any]:
    up_series = {"series": _series("up", {}), "values": f"1x{2 * TOTAL_MINUTES}"}
    return {
        "interval": "30s",
        "input_series": [
            up_series,
            *({"series": _series(row.name, dict(row.labels)), "values": _values(row)} for row in rows),
        ],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name}
            for minute in range(LEAD_MINUTES - 30, TOTAL_MINUTES)
            for name in alert_names
        ],
    }


def _series(name: str, labels: Mapping[str, str]) -> str:
    return (
        f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in {**TARGET_LABELS, **labels}.items())}}}"
    )


def _values(row: SampleRow) -> str:
    """Return the values, each half a minute before the evaluation of its minute.

    So none is at the edge of a window, where Prometheus 2 includes it and Prometheus 3 does not.
    """
    return " ".join("_ _" if value is None else f"_ {value!r}" for value in row.values[1:])


def _parse_alerts(output: str) -> Iterator[FiringAlert]:
    for _, time, alerts in FAILED_CHECK.findall(output):
        for labels, texts in ALERT.findall(alerts):
            yield FiringAlert(_minutes(time) - LEAD_MINUTES, _parse_pairs(labels), _parse_pairs(texts))


def _minutes(duration: str) -> int:
    return sum(
        int(number) * {"d": 1440, "h": 60, "m": 1}[unit] for number, unit in re.findall(r"(\d+)([dhm])", duration)
    )


def _parse_pairs(text: str) -> Mapping[str, str]:
    return {name: json.loads(value) for name, value in PAIR.findall(text)}
