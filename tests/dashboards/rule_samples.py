"""Samples that the shipped rules would have produced over historical data.

Prometheus evaluates rules only at the current time. This module queries the expressions of the rules instead, with
recorded names replaced by their expressions, and applies ``for`` and ``keep_firing_for`` as Prometheus would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tests.dashboards.dashboard_files import UNTARGETED_SERIES
from tests.e2e.prometheus import PrometheusApi
from tests.rules.unit_tests import load_groups

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"

STEP = 60
"""Evaluation interval in seconds."""

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
RECORDED_NAME = re.compile(
    r'(?P<name>\b\w+:\w+:\w+\b)(\{(?P<label>\w+)="(?P<value>\w+)"\})?(?P<range>\[[^]]+\])?(?P<offset> offset \w+)?'
)


@dataclass(frozen=True)
class ActivePeriod:
    """Period in which an alert was pending or firing.

    Args:
        since: Unix time of the first evaluation with a result.
        until: Unix time of the last evaluation with a result.
    """

    since: int
    until: int


def sample_lines(prometheus: PrometheusApi, start: int, end: int, *, after_alerts: bool) -> Iterator[str]:
    """Yield the samples of rules shown on dashboards, as OpenMetrics lines with timestamps in time order.

    Args:
        prometheus: Database with the samples of the exporter, and of the other rules.
        start: Unix time of the first evaluation.
        end: Unix time of the last evaluation.
        after_alerts: Whether to evaluate the alerts that depend on other alerts, or all other rules.
    """
    samples = [*_alert_samples(prometheus, start, end, after_alerts=after_alerts)]
    if not after_alerts:
        samples += _recorded_samples(prometheus, start, end)
    for timestamp, series, value in sorted(samples):
        yield f"{series} {value} {timestamp}\n"


def _recorded_samples(prometheus: PrometheusApi, start: int, end: int) -> Iterator[tuple[int, str, str]]:
    for name, expr in _recording_rules().items():
        if name in UNTARGETED_SERIES:
            for metric, values in _query_range(prometheus, _inline_records(expr), start, end):
                for timestamp, value in values:
                    yield timestamp, _format_series(name, metric), value


def _alert_samples(
    prometheus: PrometheusApi, start: int, end: int, *, after_alerts: bool
) -> Iterator[tuple[int, str, str]]:
    """Yield samples of ALERTS and ALERTS_FOR_STATE."""
    for rule in _load_rules("alert"):
        expr = _inline_records(rule["expr"])
        if ("ALERTS{" in expr) != after_alerts:
            continue
        for_seconds, keep_firing_seconds = (
            _duration_seconds(rule.get(name, "0s")) for name in ("for", "keep_firing_for")
        )
        for metric, values in _query_range(prometheus, expr, start, end):
            labels = {**metric, **rule["labels"], "alertname": rule["alert"]}
            for active in active_periods([timestamp for timestamp, _ in values], for_seconds, keep_firing_seconds):
                for timestamp in range(active.since, min(active.until, end) + 1, STEP):
                    state = "firing" if timestamp - active.since >= for_seconds else "pending"
                    yield timestamp, _format_series("ALERTS", {**labels, "alertstate": state}), "1"
                    yield timestamp, _format_series("ALERTS_FOR_STATE", labels), str(active.since)


def active_periods(timestamps: Sequence[int], for_seconds: int, keep_firing_seconds: int) -> Iterator[ActivePeriod]:
    """Yield the periods in which an alert was active, given the times at which its expression had a result."""
    since = last = timestamps[0]
    for timestamp in (*timestamps[1:], None):
        is_firing = last - since >= for_seconds
        if timestamp is None or timestamp - last > (max(keep_firing_seconds, STEP) if is_firing else STEP):
            yield ActivePeriod(since, last + (keep_firing_seconds if is_firing else 0))
            since = timestamp or last
        last = timestamp or last


def _query_range(
    prometheus: PrometheusApi, expr: str, start: int, end: int
) -> Iterator[tuple[Mapping[str, str], Sequence[tuple[int, str]]]]:
    answer = prometheus.call_api("query_range", query=expr, start=str(start), end=str(end), step=str(STEP))
    for row in answer["result"]:
        metric = {name: value for name, value in row["metric"].items() if name != "__name__"}
        yield metric, [(int(timestamp), value) for timestamp, value in row["values"]]


def _inline_records(expr: str) -> str:
    """Replace the names of recorded series by their expressions."""
    records = _recording_rules()

    def inline(match: re.Match[str]) -> str:
        if match["name"] not in records:
            return match[0]
        inner = f"({_inline_records(records[match['name']])})"
        if label := match["label"]:
            wanted = f'label_replace(vector(1), "{label}", "{match["value"]}", "", "")'
            inner = f"({inner} and on ({label}) {wanted})"
        window = match["range"]
        offset = match["offset"] or ""
        if window:
            return f"{inner}{window if ':' in window else f'{window[:-1]}:{STEP}s]'}{offset}"
        return f"last_over_time({inner}[{STEP}s:{STEP}s]{offset})" if offset else inner

    return RECORDED_NAME.sub(inline, expr)


def _recording_rules() -> Mapping[str, str]:
    return {rule["record"]: rule["expr"] for rule in _load_rules("record")}


@cache
def _load_rules(kind: Literal["alert", "record"]) -> list[Mapping[str, Any]]:
    groups = (group for file in sorted(RULES.glob("late-exporter.*.yml")) for group in load_groups(file))
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def _format_series(name: str, labels: Mapping[str, str]) -> str:
    escaped = {label: value.replace("\\", r"\\").replace('"', r"\"") for label, value in sorted(labels.items())}
    pairs = ",".join(f'{label}="{value}"' for label, value in escaped.items())
    return f"{name}{{{pairs}}}"


def _duration_seconds(duration: str) -> int:
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))
