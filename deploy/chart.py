"""Write the generated files of the Helm chart: the table of values in its README, and its schema.

python -m deploy.chart [--check]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS

Schema: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/late-exporter"

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

DURATION = "([0-9]+(ms|[smhdwy]))"
STRINGS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
FILE_NAME: Schema = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
SCRAPE_TIME: Schema = {"type": "string", "pattern": f"^{DURATION}*$"}
STRING_MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
RULE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "alert": {"type": "string", "minLength": 1},
        "record": {"type": "string", "minLength": 1},
        "expr": {"type": ["string", "number"], "minLength": 1},
        "for": {"type": "string", "pattern": f"^{DURATION}+$"},
        "keep_firing_for": {"type": "string", "pattern": f"^{DURATION}+$"},
        "labels": STRING_MAP,
        "annotations": STRING_MAP,
    },
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
"""A rule of a PrometheusRule."""

STRING_MAPS = re.compile(r"(^|\.)([a-z]+Labels|labels|[a-z]+Annotations|annotations|nodeSelector)$")

REFINEMENTS: Mapping[str, Schema] = {
    "apiKey.key": FILE_NAME,
    "webConfig.key": FILE_NAME,
    "state.key": FILE_NAME,
    "state.url": {"type": "string", "pattern": "^(postgresql://([^@:/]*@)?[^@/]+/.+)?$"},
    "workspaces": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "key": FILE_NAME,
                "apiBaseUrl": {"type": "string", "pattern": "^https?://"},
                "profileId": {"type": "string", "minLength": 1},
                "labels": STRING_MAP,
            },
            "required": ["name", "key"],
        },
    },
    "replicas": {"type": "integer", "minimum": 1},
    "persistence.size": {"type": "string", "pattern": "^[0-9.]+([kMGTPE]i?)?$"},
    "persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod"]},
    },
    "image.repository": {"type": "string", "minLength": 1},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "serviceMonitor.job": {"type": "string", "pattern": "^[A-Za-z0-9_./-]*$"},
    "serviceMonitor.interval": {"type": "string", "pattern": f"^{DURATION}+$"},
    "serviceMonitor.scrapeTimeout": SCRAPE_TIME,
    "prometheusRule.rules.exclude": STRINGS,
    "prometheusRule.rules.additional": {"type": "array", "items": RULE},
    "grafanaDashboards.label": {"type": "string", "minLength": 1},
    "networkPolicy.namespaces": STRINGS,
    "extraArgs": STRINGS,
    "extraEnv": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "imagePullSecrets": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 10},
    "podDisruptionBudget": {
        "type": "object",
        "additionalProperties": False,
        "maxProperties": 1,
        "properties": {
            "minAvailable": {"type": ["integer", "string"]},
            "maxUnavailable": {"type": ["integer", "string"]},
        },
    },
}
"""Schemas of values that the default in values.yaml does not describe."""

SCHEMAS_BY_METAVAR: Mapping[str, Schema] = {
    "": {"type": "boolean"},
    "DURATION": {"type": "string", "pattern": f"^{DURATION}+$"},
    "NUMBER": {"type": "integer", "minimum": 0},
    # ``helm --set`` passes a fraction as text.
    "SHARE": {
        "type": ["number", "string"],
        "exclusiveMinimum": 0,
        "maximum": 1,
        "pattern": r"^(0?\.\d+|1)$",
    },
}
"""Schemas of options by the placeholder of their values."""


@dataclass(frozen=True)
class ChartValue:
    """A row of the table of values."""

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
        is_section = isinstance(value, yaml.MappingNode) and bool(value.value)
        if is_section and not description:
            yield from _walk_values(value, f"{name}.", lines)
        else:
            yield ChartValue(name, yaml.safe_load(yaml.serialize(value)), description)


def _preceding_comment(lines_before: list[str]) -> str:
    """Return the comment directly above a key, joined to one line."""
    comment: list[str] = []
    for line in reversed(lines_before):
        if not line.lstrip().startswith("#"):
            break
        comment.insert(0, line.lstrip().removeprefix("#").strip())
    return " ".join(comment)


def values_table(text: str) -> str:
    """Return the table of values in Markdown."""
    rows = ["| value | default | description |", "|---|---|---|"]
    for value in parse_values(text):
        default = json.dumps(value.default).replace("|", "\\|")
        rows.append(f"| `{value.name}` | `{default}` | {value.description} |")
    return "\n".join(rows)


def values_schema(text: str) -> Schema:
    """Return the JSON schema of the values in a values.yaml: a wrong value fails ``helm install``.

    Without it, a wrong value would replace a running pod by one that cannot start.
    """
    root: Schema = _object_schema({})
    for value in parse_values(text):
        _insert(root, value.name, REFINEMENTS.get(value.name) or _schema_of(value))
    root["properties"]["config"] = _config_schema()
    # Helm passes these two to every chart that another one depends on.
    root["properties"]["enabled"] = {"type": "boolean"}
    root["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root}


def _object_schema(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _insert(root: Schema, name: str, schema: Schema) -> None:
    """Add the schema of a value, and those of the sections that it is in."""
    *sections, key = name.split(".")
    for section in sections:
        root = root["properties"].setdefault(section, _object_schema({}))
    root["properties"][key] = schema


def _schema_of(value: ChartValue) -> Schema:
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array", "items": {"type": "object"}}
        case _ if STRING_MAPS.search(value.name):
            return STRING_MAP
        case _:
            return {"type": "object"}


def _config_schema() -> Schema:
    """Return the schema of ``config``: options of ``run`` that the chart does not set itself."""
    sections: dict[str, Schema] = {}
    for option in OPTIONS:
        if "run" not in option.commands or option.name in MANAGED_OPTIONS or option.secret:
            continue
        options = sections.setdefault(option.section, _object_schema({}))["properties"]
        options[option.key] = _option_schema(option)
    return _object_schema(sections)


def _option_schema(option: Option) -> Schema:
    """Return the schema of an option: what the program would accept, as far as a schema can say."""
    schema: Schema = {"description": option.help}
    if option.many:
        items: Schema = {"enum": list(option.choices)} if option.choices else {"type": "string"}
        listed = "|".join(map(re.escape, option.choices)) or "[^,]+"
        text = {"type": "string", "pattern": f"^(({listed})(, *({listed}))*|none)$"}
        alternatives = [{"type": "array", "items": items}, text]
        if option.metavar == "FAMILY=LIST":
            alternatives.append({"type": "object"})
        return {**schema, "anyOf": alternatives}
    if option.choices:
        return {**schema, "enum": list(option.choices)}
    anything: Schema = {"type": ["string", "number", "boolean"]}
    return {**schema, **SCHEMAS_BY_METAVAR.get(option.metavar, anything)}


def generated_files() -> Mapping[Path, str]:
    """Return the text of each generated file."""
    values = (CHART / "values.yaml").read_text("utf-8")
    readme = (CHART / "README.md").read_text("utf-8")
    before, begin, rest = readme.partition("<!-- begin values -->\n")
    _, end, after = rest.partition("\n<!-- end values -->")
    return {
        CHART / "values.schema.json": json.dumps(values_schema(values), indent=2) + "\n",
        CHART / "README.md": before + begin + values_table(values) + end + after,
    }


def main() -> None:
    """Write the files, or exit with an error if --check finds outdated ones."""
    for path, text in generated_files().items():
        is_current = path.exists() and path.read_text("utf-8") == text
        if is_current:
            continue
        if "--check" in sys.argv[1:]:
            sys.exit(f"outdated: {path.relative_to(ROOT)}; run make generate")
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
