"""Objectives of single workspaces and platforms in the monitoring mixin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rules.mixin import EvaluateMixin, evaluate_mixin, run_promtool

__all__ = ["evaluate_mixin"]

pytestmark = pytest.mark.e2e

OBJECTIVES = (
    {"workspace": "gold", "platform": "reddit", "objective": 0.9},
    {"workspace": "gold", "objective": 0.999},
    {"platform": "reddit", "objective": 0.95},
)


def _series(workspace: str, platform: str, failed: int) -> list[dict[str, str]]:
    """Return attempts of which some of 100 per minute fail."""
    labels = f'job="late", instance="a", workspace="{workspace}", platform="{platform}", action="publish"'
    return [
        {"series": f'late_publishing_logs_total{{{labels}, status="success"}}', "values": f"0+{100 - failed}x120"},
        {"series": f'late_publishing_logs_total{{{labels}, status="failed"}}', "values": f"0+{failed}x120"},
    ]


def test_budgets_follow_the_objectives(
    evaluate_mixin: EvaluateMixin, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The first objective that matches applies, and a workspace may fail what its platforms may fail together."""
    mixin = evaluate_mixin(objective=0.99, objectives=list(OBJECTIVES))
    test = {
        "interval": "1m",
        "input_series": [
            *_series("gold", "tiktok", 2),  # 0.1 % may fail
            *_series("gold", "reddit", 2),  # 10 %
            *_series("other", "tiktok", 2),  # 1 %
            *_series("other", "reddit", 2),  # 5 %
        ],
        "promql_expr_test": [
            {
                "expr": "round(platform:late_publishing_error_budget:burnrate1h, 0.0001)",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": '{job="late", workspace="gold", platform="tiktok"}', "value": 20},
                    {"labels": '{job="late", workspace="gold", platform="reddit"}', "value": 0.2},
                    {"labels": '{job="late", workspace="other", platform="tiktok"}', "value": 2},
                    {"labels": '{job="late", workspace="other", platform="reddit"}', "value": 0.4},
                ],
            },
            {
                "expr": "round(workspace:late_publishing_error_budget:burnrate1h, 0.0001)",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": '{job="late", workspace="gold"}', "value": round(4 / 10.1, 4)},
                    {"labels": '{job="late", workspace="other"}', "value": round(4 / 6, 4)},
                ],
            },
            {
                "expr": "slo:late_publishing_success:objective",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": "slo:late_publishing_success:objective", "value": 0.99},
                    {
                        "labels": 'slo:late_publishing_success:objective{workspace="gold", platform="reddit"}',
                        "value": 0.9,
                    },
                    {"labels": 'slo:late_publishing_success:objective{workspace="gold"}', "value": 0.999},
                    {"labels": 'slo:late_publishing_success:objective{platform="reddit"}', "value": 0.95},
                ],
            },
        ],
    }
    run_promtool(require_tool("promtool"), tmp_path, mixin, test)
