"""Generated parts of the Helm chart: the table of values and the JSON schema of ``config``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS

__all__ = ["ChartValue", "options_schema", "parse_values", "values_markdown"]

MANAGED_OPTIONS = {
    "api.key-file",
    "config.file",
    "state.password-file",
    "state.replicas",
    "state.url",
    "web.config.file",
    "web.listen-address",
}
"""Options that the chart sets itself, so users cannot set them in ``config``."""


@dataclass(frozen=True)
class ChartValue:
    """One row of the table of values."""

    name: str
    default: object
    description: str


def parse_values(text: str) -> Iterator[ChartValue]:
    """Yield every documented key and every leaf key of a values.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        yield from _walk_values(root, "", text.splitlines())


def _walk_values(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[ChartValue]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        description = _preceding_comment(lines[: key.start_mark.line])
        if description or not (isinstance(value, yaml.MappingNode) and value.value):
            yield ChartValue(name, _plain_value(value), description)
        else:
            yield from _walk_values(value, f"{name}.", lines)


def _plain_value(node: yaml.Node) -> object:
    return yaml.safe_load(yaml.serialize(node))


def _preceding_comment(before: list[str]) -> str:
    """Return the comment directly above a key, joined to one line."""
    lines_above: list[str] = []
    while before and before[-1].lstrip().startswith("#"):
        lines_above.insert(0, before[-1].lstrip().removeprefix("#").strip())
        before = before[:-1]
    return " ".join(lines_above)


def values_markdown(text: str) -> str:
    """Return the table of values in Markdown."""
    rows = ["| value | default | description |", "|---|---|---|"]
    for value in parse_values(text):
        default = json.dumps(value.default).replace("|", "\\|")
        rows.append(f"| `{value.name}` | `{default}` | {value.description} |")
    return "\n".join(rows)


def options_schema() -> dict[str, Any]:
    """Return the JSON schema of ``config``: the options of ``run`` that the chart does not set itself."""
    sections: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        if "run" in option.commands and option.name not in MANAGED_OPTIONS and not option.secret:
            sections.setdefault(option.section, {})[option.key.replace("-", "_")] = _option_schema(
                option
            )
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "object", "additionalProperties": False, "properties": options}
            for name, options in sections.items()
        },
    }


def _option_schema(option: Option) -> dict[str, Any]:
    kinds = [
        "string",
        "number",
        "boolean",
        *(["array"] * option.many),
        *(["object"] * option.is_mapping),
    ]
    return {"description": option.help, "type": kinds}
