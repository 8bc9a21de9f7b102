"""Which alerts fire when, by the rules that are shipped, over a Prometheus that holds the past.

Prometheus evaluates rules of its own accord at the present only. So the expressions of the shipped rules are asked of
it, with what the recording rules stand for in place of their names, and ``for`` and ``keep_firing_for`` are applied as
it would apply them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.dashboards.boards import GLOBAL
from tests.e2e.prometheus import PrometheusApi

__all__ = ["Activity", "activities", "lines"]

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"

STEP = 60
"""Seconds between two evaluations."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
RECORDED = re.compile(r"(?P<name>\b\w+:\w+:\w+\b)(?P<range>\[[^]]+\])?(?P<offset> offset \w+)?")


@dataclass(frozen=True)
class Activity:
    """A time in which what an alert waits for was so.

    Args:
        since: Unix time at which it began.
        until: Unix time at which it was so for the last time.
    """

    since: int
    until: int


def lines(prometheus: PrometheusApi, start: int, end: int) -> Iterator[str]:
    """What the rules make that the dashboards show, as OpenMetrics with timestamps, in order of time."""
    samples = [*_recorded(prometheus, start, end), *_alerts(prometheus, start, end)]
    for moment, series, value in sorted(samples):
        yield f"{series} {value} {moment}\n"


def _recorded(prometheus: PrometheusApi, start: int, end: int) -> Iterator[tuple[int, str, str]]:
    """Samples of the recording rules that a dashboard shows."""
    for name, expr in _records().items():
        if name in GLOBAL:
            for metric, values in _matrix(prometheus, _expanded(expr), start, end):
                for moment, value in values:
                    yield moment, _series(name, metric), value


def _alerts(prometheus: PrometheusApi, start: int, end: int) -> Iterator[tuple[int, str, str]]:
    """Samples of the series that Prometheus makes of alerts."""
    for rule in _rules("late-exporter.alerts.yml"):
        hold, keep = (_seconds(rule.get(name, "0s")) for name in ("for", "keep_firing_for"))
        for metric, values in _matrix(prometheus, _expanded(rule["expr"]), start, end):
            labels = {**metric, **rule["labels"], "alertname": rule["alert"]}
            for active in activities([moment for moment, _ in values], hold, keep):
                for moment in range(active.since, min(active.until, end) + 1, STEP):
                    state = "firing" if moment - active.since >= hold else "pending"
                    yield moment, _series("ALERTS", {**labels, "alertstate": state}), "1"
                    yield moment, _series("ALERTS_FOR_STATE", labels), str(active.since)


def activities(moments: Sequence[int], hold: int, keep: int) -> Iterator[Activity]:
    """When an alert was pending or firing, of the moments at which its expression gave a value."""
    since = last = moments[0]
    for moment in (*moments[1:], None):
        fired = last - since >= hold
        if moment is None or moment - last > (max(keep, STEP) if fired else STEP):
            yield Activity(since, last + (keep if fired else 0))
            since = moment or last
        last = moment or last


def _matrix(
    prometheus: PrometheusApi, expr: str, start: int, end: int
) -> Iterator[tuple[Mapping[str, str], Sequence[tuple[int, str]]]]:
    answer = prometheus.call_api("query_range", query=expr, start=str(start), end=str(end), step=str(STEP))
    for row in answer["result"]:
        metric = {name: value for name, value in row["metric"].items() if name != "__name__"}
        yield metric, [(int(moment), value) for moment, value in row["values"]]


def _expanded(expr: str) -> str:
    """An expression without recorded names."""
    records = _records()

    def meant(match: re.Match[str]) -> str:
        if match["name"] not in records:
            return match[0]
        inner, window, offset = f"({_expanded(records[match['name']])})", match["range"], match["offset"] or ""
        if window:
            return f"{inner}{window if ':' in window else f'{window[:-1]}:{STEP}s]'}{offset}"
        return f"last_over_time({inner}[{STEP}s:{STEP}s]{offset})" if offset else inner

    return RECORDED.sub(meant, expr)


def _records() -> Mapping[str, str]:
    return {rule["record"]: rule["expr"] for rule in _rules("late-exporter.rules.yml")}


def _rules(file: str) -> list[Mapping[str, Any]]:
    document = yaml.safe_load((RULES / file).read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _series(name: str, labels: Mapping[str, str]) -> str:
    escaped = {label: value.replace("\\", r"\\").replace('"', r"\"") for label, value in sorted(labels.items())}
    pairs = ",".join(f'{label}="{value}"' for label, value in escaped.items())
    return f"{name}{{{pairs}}}"


def _seconds(duration: str) -> int:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))
