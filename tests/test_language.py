"""The vocabulary of the code and the documentation: see docs/development/glossary.md."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

MAX_PARTICIPLE_SHARE = 0.005

PARTICIPLES = frozenset(
    re.findall(
        r"\w+",
        """
        admitted adopted allowed announced asked begun born chosen claimed committed counted dated drained folded
        forgotten found given gone heard held hidden judged kept known left listed looked lost made merged met moved
        named needed noted opened passed polled recognized remembered rung said seen shown sought spoken synced taken
        tallied told tried waited waking walked wanted written
        """,
    )
)
"""Participles that need a noun: ``found_logs``, or better the role of the value, instead of ``found``."""


DIALECT = re.compile(
    r"\b(?:tells?|hears?|anew|parted with|taken over|(?<!there )(?:is|are) none|whoever|nobody"
    r"|(?:came|comes) to its end|is given its chance)\b"
)
"""Phrases of the private language that this code base was once written in."""

CODE_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE_SPAN = re.compile(r"`[^`\n]*`")


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below some folders of the repository."""
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts
    )


def markdown_files() -> list[Path]:
    """Return the documentation and the runbooks."""
    folders = (ROOT / "docs", ROOT / "deploy")
    return sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))])


def identifiers(module: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines."""
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name.lstrip("_")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name.lstrip("_")


@cache
def modules() -> list[ast.Module]:
    """Return the syntax trees of the package."""
    return [ast.parse(path.read_text(encoding="utf-8")) for path in python_files("late_exporter")]


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(
        node.name.lstrip("_") for module in modules() for node in ast.walk(module) if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_identifiers_are_not_bare_participles() -> None:
    names = Counter(name for module in modules() for name in identifiers(module))
    participles = {name: count for name, count in names.most_common() if name in PARTICIPLES}
    assert sum(participles.values()) / names.total() < MAX_PARTICIPLE_SHARE, participles


def test_sources_and_documents_are_plain_english() -> None:
    for path in (*python_files("late_exporter", "deploy", "grafana", ".ci"), *markdown_files()):
        text = CODE_SPAN.sub("", CODE_FENCE.sub("", path.read_text(encoding="utf-8")))
        assert [line for line in text.splitlines() if DIALECT.search(line)] == [], path
