"""The parts of the Helm chart that follow from others: the table of its values, and the schema of its options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS

__all__ = ["Value", "options_schema", "table", "values"]

OWN = {"api.key-file", "config.file", "state.url", "web.config.file", "web.listen-address", "web.systemd-socket"}
"""Options that are the chart's own business."""


@dataclass(frozen=True)
class Value:
    """One row of the table: what may be set, to what it is, and what that means."""

    name: str
    default: object
    meaning: str


def values(text: str) -> Iterator[Value]:
    """What values.yaml lets one set: every key with a comment, and every key without keys of its own."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        yield from _values(root, "", text.splitlines())


def _values(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        meaning = _comment(lines[: key.start_mark.line])
        if meaning or not (isinstance(value, yaml.MappingNode) and value.value):
            yield Value(name, _loaded(value), meaning)
        else:
            yield from _values(value, f"{name}.", lines)


def _loaded(node: yaml.Node) -> object:
    return yaml.safe_load(yaml.serialize(node))


def _comment(before: list[str]) -> str:
    """The comment that ends where a key begins."""
    words: list[str] = []
    while before and before[-1].lstrip().startswith("#"):
        words.insert(0, before[-1].lstrip().removeprefix("#").strip())
        before = before[:-1]
    return " ".join(words)


def table(text: str) -> str:
    """The values in Markdown."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in values(text):
        default = json.dumps(value.default).replace("|", "\\|")
        rows.append(f"| `{value.name}` | `{default}` | {value.meaning} |")
    return "\n".join(rows)


def options_schema() -> dict[str, Any]:
    """What ``config`` may hold: the options of ``run``, but for those that the chart sets itself."""
    sections: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        if "run" in option.commands and option.name not in OWN and not option.secret:
            sections.setdefault(option.section, {})[option.key.replace("-", "_")] = _option_schema(option)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "object", "additionalProperties": False, "properties": options}
            for name, options in sections.items()
        },
    }


def _option_schema(option: Option) -> dict[str, Any]:
    kinds = ["string", "number", "boolean", *(["array"] if option.many else [])]
    return {"description": option.help, "type": kinds}
