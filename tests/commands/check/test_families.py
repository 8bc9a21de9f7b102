"""Findings about families that are disabled, and about buckets."""

from __future__ import annotations

from late_exporter.commands.check.families import MonitoringAssets, check_families
from late_exporter.commands.check.finding import Level

RULES = b"""
  - record: platform:used:rate5m
    expr: rate(late_used_total[5m])
  - record: platform:used:ratio
    expr: |
      platform:used:rate5m
      / 2
  - alert: LateUsed
    expr: platform:used:ratio > 1
    annotations:
      summary: late_mentioned
  - alert: LateSlow
    expr: late_wait_seconds_bucket{feed="x", le="5.0"} > 1
"""
DASHBOARD = b'{"title": "Late / Wait", "expr": "rate(late_wait_seconds_bucket{le=~\\"1([.]0)?\\"}[5m])"}'
FILES = [("prometheus/a.rules.yml", RULES), ("grafana/wait.json", DASHBOARD), ("systemd/late.service", b"late_x")]


def test_users_of_a_family() -> None:
    """Alerts use a family by themselves or by recording rules; what only a text mentions is not used."""
    assets = MonitoringAssets(FILES)
    assert ["LateUsed"] == assets.users_of("late_used_total")
    assert ["LateSlow", "dashboard Late / Wait"] == assets.users_of("late_wait_seconds")
    assert [] == assets.users_of("late_mentioned")
    assert {"late_wait_seconds": {1.0, 5.0}} == assets.bounds


def test_disabled_families() -> None:
    """A family that alerts or dashboards need is a warning that names some of them; another one is none."""
    needed, free = check_families(["late_up", "late_activity_duration_seconds"], {})
    assert Level.WARNING == needed.level
    assert needed.message.startswith("late_up is disabled, but used by LateCoverageAtRisk, ")
    assert needed.message.endswith(" more")
    assert (Level.OK, "late_activity_duration_seconds is disabled; no alert or dashboard uses it") == (
        free.level,
        free.message,
    )


def test_buckets() -> None:
    """Buckets that rules or dashboards name must be there."""
    (finding,) = check_families([], {"late_exporter_log_lag_seconds": (1.0, 60.0)})
    reason = "the buckets of late_exporter_log_lag_seconds lack 3600, which alerts or dashboards use"
    assert (Level.WARNING, reason) == (finding.level, finding.message)
    assert [] == list(check_families([], {"late_exporter_log_lag_seconds": (3600.0,)}))
    assert [] == list(check_families([], {}))
