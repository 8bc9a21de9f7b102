"""Additions to the expressions of all rules: the label of the cluster, and a selector of the exporters."""

from __future__ import annotations

import re

__all__ = ["CLUSTER_LABEL", "add_selector", "keep_label"]

CLUSTER_LABEL = "cluster"
"""Label that distinguishes clusters, if the series have it."""

GROUPING = re.compile(r"\b(by|on) \((?=job\b)")
RAW_SERIES = re.compile(r"(?<![\w:])(?:late_\w+|up|process_start_time_seconds)(?![\w:])\{?")
"""Series of the exporters, unlike those that rules record, with the brace of their matchers."""


def keep_label(expr: str, label: str) -> str:
    """Return an expression with a label added to every list of labels that aggregates and matches keep.

    Args:
        expr: An expression of which all lists of labels that matter begin with ``job``.
        label: Label, with the comma that follows it.
    """
    return GROUPING.sub(rf"\1 ({label}", expr)


def add_selector(expr: str, matchers: str, braces: str) -> str:
    """Return an expression with matchers added to every series of the exporters.

    Args:
        expr: The expression.
        matchers: What to add to matchers, with the comma that follows.
        braces: What to add to a series without matchers.
    """
    return RAW_SERIES.sub(lambda series: series[0] + (matchers if series[0].endswith("{") else braces), expr)
