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
        function: Function that takes the selector, or a range of it, as its argument, if any.
    """

    name: str
    matchers: Mapping[str, Matcher]
    function: str = ""


def selectors(expr: str) -> list[Selector]:
    """Return the series selectors of an expression; raise ValueError if it is not valid PromQL."""
    result: list[Selector] = []
    ancestors: list[Expr] = []

    def enter(node: Expr) -> None:
        if isinstance(node, VectorSelector):
            outer = [each for each in ancestors if not isinstance(each, MatrixSelector | SubqueryExpr)]
            function = outer[-1].func.name if outer and isinstance(outer[-1], Call) else ""
            matchers = {each.name: Matcher(OPERATORS[str(each.op)], each.value) for each in node.matchers.matchers}
            result.append(Selector(node.name or "", matchers, function))
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
