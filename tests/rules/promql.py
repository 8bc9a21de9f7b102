"""Series and labels that a PromQL expression refers to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

pytest.importorskip("promql_parser", reason="promql-parser does not load in this version of Python")

from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    parse,
    walk,
)

OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


class Matcher(NamedTuple):
    """Operator and value of a label matcher."""

    operator: str
    value: str


class Selector(NamedTuple):
    """A series selector of an expression.

    Args:
        name: Metric name, empty if the selector has none.
        matchers: Matchers by label.
        function: Function that takes the selector as its argument, if any.
        is_range: Whether the selector has a range or is the expression of a subquery.
    """

    name: str
    matchers: Mapping[str, Matcher]
    function: str = ""
    is_range: bool = False


def selectors(expr: str) -> list[Selector]:
    """Return the series selectors of an expression; raise ValueError if it is not valid PromQL."""
    result: list[Selector] = []
    ancestors: list[Expr] = []

    def enter(node: Expr) -> None:
        if isinstance(node, VectorSelector):
            is_range = bool(ancestors) and isinstance(ancestors[-1], MatrixSelector | SubqueryExpr)
            parent = ancestors[-1 - is_range] if len(ancestors) > is_range else None
            function = parent.func.name if isinstance(parent, Call) else ""
            matchers = {each.name: Matcher(OPERATORS[str(each.op)], each.value) for each in node.matchers.matchers}
            result.append(Selector(node.name or "", matchers, function, is_range))
        ancestors.append(node)

    def leave(_: Expr) -> None:
        ancestors.pop()

    walk(parse(expr), enter, leave)
    return result


def named_labels(expr: str) -> set[str]:
    """Return the labels in the by, without, on, ignoring and group clauses of an expression."""
    labels: set[str] = set()

    def enter(node: Expr) -> None:
        if isinstance(node, AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)
        elif isinstance(node, BinaryExpr) and node.modifier:
            labels.update(node.modifier.group_labels or ())
            labels.update(node.modifier.matching.labels if node.modifier.matching else ())

    walk(parse(expr), enter)
    return labels
