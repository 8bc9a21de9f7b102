"""Just enough of PromQL to see which series an expression selects, and which labels it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Selector", "named_labels", "selectors"]

TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<number>\d[\w.]*|\[[^\]]*\])
    | (?P<name>[A-Za-z_:][\w:]*)
    | (?P<sign>=~|!~|[=!<>]=|.)
    """,
    re.VERBOSE,
)
NAME = re.compile(r"[A-Za-z_:][\w:]*")
WORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "offset"}
LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
PAIR = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')

Matcher: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Selector:
    """A series that an expression selects: ``function`` it is directly in, ``window`` where it is a range."""

    name: str
    matchers: tuple[Matcher, ...]
    function: str
    window: str


def _tokens(expr: str) -> list[str]:
    found = [match for match in TOKEN.finditer(expr) if match.lastgroup != "space"]
    assert expr.replace(" ", "").replace("\n", "") == "".join(match[0] for match in found).replace(" ", "")
    return [match[0] for match in found]


def _matchers(tokens: list[str], start: int) -> tuple[tuple[Matcher, ...], int]:
    """What stands in braces, and where it ends."""
    if tokens[start] != "{":
        return (), start
    end = tokens.index("}", start)
    inside = "".join(tokens[start + 1 : end])
    pairs = tuple((match[1], match[2], match[3]) for match in PAIR.finditer(inside))
    assert inside.count('"') == 2 * len(pairs), inside
    return pairs, end + 1


def selectors(expr: str) -> Iterator[Selector]:
    """Every series that an expression selects."""
    tokens = [*_tokens(expr), ""]
    enclosing = [""]
    lists = set(_in_lists(tokens))
    at = 0
    while tokens[at]:
        token, at = tokens[at], at + 1
        if token == "(":
            enclosing.append(tokens[at - 2] if NAME.fullmatch(tokens[at - 2]) else "")
        elif token == ")":
            enclosing.pop()
        elif NAME.fullmatch(token) and token not in WORDS and tokens[at] not in {"(", *LISTS} and at - 1 not in lists:
            matchers, at = _matchers(tokens, at)
            yield Selector(token, matchers, enclosing[-1], tokens[at] if tokens[at].startswith("[") else "")


def named_labels(expr: str) -> set[str]:
    """The labels that the lists of aggregations and of vector matching name."""
    tokens = _tokens(expr)
    return {tokens[at] for at in _in_lists(tokens) if tokens[at] != ","}


def _in_lists(tokens: list[str]) -> Iterator[int]:
    for at, token in enumerate(tokens[:-1]):
        if token in LISTS and tokens[at + 1] == "(":
            yield from range(at + 2, tokens.index(")", at))
