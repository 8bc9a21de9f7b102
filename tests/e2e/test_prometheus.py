"""Tests with a real Prometheus that scrapes the exporter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.e2e.late import LateServer
from tests.e2e.program import Run, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, scrape_with_prometheus

LOGS = "late_publishing_logs_total"


def test_prometheus_sees_what_was_counted(
    late: LateServer,
    start_exporter: Run,
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Prometheus has the exact totals, sees the first increment of a series as increase, and stores exemplars."""
    late.world.publish(40, over=600)
    program = start_exporter("--metrics.zero-hold=5s", "--metrics.created-timestamps").wait_ready()
    with scrape_with_prometheus(require_tool("prometheus"), tmp_path, program.url) as database:
        wait_equal(40.0, lambda: database.value(f"sum({LOGS})"))
        late.world.publish(3, platform="mastodon", durationMs=700)
        late.world.publish(2, platform="mastodon", status="failed", statusCode=503)
        wait_equal(45.0, lambda: database.value(f"sum({LOGS})"))
        wait_equal(2.0, lambda: database.value('late_publishing_failures_total{platform="mastodon"}'))
        for expression in (
            f'increase({LOGS}{{platform="mastodon",status="success",action="publish"}}[1m])',
            'increase(late_publishing_failures_total{platform="mastodon"}[1m])',
            'increase(late_publishing_duration_seconds_count{platform="mastodon",status="success"}[1m])',
        ):
            wait_until(lambda: (database.value(expression) or 0) > 0.5, describe=lambda: expression)  # noqa: B023 - at once
        assert database.value("up") == 1
        assert database.value("sum(late_up)") == 2
        assert database.value('sum(late_publishing_duration_seconds_bucket{le="+Inf",platform="instagram"})') == 40
        labels = exemplar(database)
        assert labels.keys() == {"log_id", "post_id"}
        assert labels["log_id"] in late.world.insertion_order
        assert database.query("late_publishing_logs_created")
    assert program.scrape().sum(LOGS) == 45
    assert program.stop() == 0


def exemplar(database: PrometheusApi) -> Mapping[str, str]:
    """Return the labels of the stored exemplar of the new platform's durations."""
    expression = 'late_publishing_duration_seconds_bucket{platform="mastodon"}'
    exemplars = wait_until(
        lambda: database.call_api(
            "query_exemplars", query=expression, start=str(time.time() - 600), end=str(time.time())
        )
    )
    labels: Mapping[str, str] = exemplars[0]["exemplars"][0]["labels"]
    return labels
