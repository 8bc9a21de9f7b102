"""JSON schema of the chart's values, made of values.yaml, so that a misspelt key is an error of ``helm install``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from deploy.kubernetes.chart import ChartValue, options_schema, parse_values

__all__ = ["values_schema"]

Schema: TypeAlias = dict[str, Any]

STRING: Schema = {"type": "string"}
STRINGS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
STRING_MAP: Schema = {"type": "object", "additionalProperties": STRING}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
NAMES: Schema = {"type": "array", "items": {"type": ["string", "object"], "minLength": 1}}
FILE_NAME: Schema = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
SERVICE_TYPE: Schema = {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}
DURATION = "([0-9]+(ms|[smhdwy]))"

STRING_MAPS = re.compile(r"(^|\.)([a-z]+Labels|labels|[a-z]+Annotations|annotations|nodeSelector)$")

REFINEMENTS: Mapping[str, Schema] = {
    "apiKey.key": FILE_NAME,
    "webConfig.key": FILE_NAME,
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
                "labels": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "minLength": 1},
                },
            },
            "required": ["name", "key"],
        },
    },
    "extraArgs": {"type": ["array", "object", "null"], "items": STRING},
    "extraEnv": {
        "type": ["array", "object", "null"],
        "items": {"type": "object", "required": ["name"]},
    },
    "extraEnvFrom": {"type": "array", "items": {"type": ["object", "string"]}},
    "extraContainers": {"type": ["array", "string"], "items": {"type": "object"}},
    "initContainers": {"type": ["array", "string"], "items": {"type": "object"}},
    "extraManifests": {"type": "array", "items": {"type": ["object", "string"]}},
    "global.imagePullSecrets": NAMES,
    "imagePullSecrets": NAMES,
    "image.repository": {"type": "string", "minLength": 1},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "state.url": {"type": "string", "pattern": "^(postgresql://([^@:/]*@)?[^@/]+/.+)?$"},
    "state.key": FILE_NAME,
    "replicas": {"type": "integer", "minimum": 1},
    "persistence.size": {"type": "string", "pattern": "^[0-9.]+([kMGTPE]i?)?$"},
    "persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod"]},
    },
    "service.type": SERVICE_TYPE,
    "service.port": PORT,
    "service.loadBalancerSourceRanges": STRINGS,
    "service.nodePort": {**PORT, "minimum": 0},
    "job": {"type": "string", "pattern": "^[A-Za-z0-9_./-]*$"},
    **{
        f"{monitor}.{name}": {"type": "string", "pattern": f"^{DURATION}{count}$"}
        for monitor in ("serviceMonitor", "podMonitor", "vmServiceScrape", "podMonitoring")
        for name, count in (("interval", "+"), ("scrapeTimeout", "*"))
    },
    "serviceMonitor.targetLabels": STRINGS,
    "podMonitor.podTargetLabels": STRINGS,
    "prometheusRule.rules.exclude": STRINGS,
    "podDisruptionBudget": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "minAvailable": {"type": ["integer", "string"]},
            "maxUnavailable": {"type": ["integer", "string"]},
            "unhealthyPodEvictionPolicy": {"enum": ["AlwaysAllow", "IfHealthyBudget"]},
        },
    },
    "grafanaDashboards.label": {"type": "string", "minLength": 1},
    "networkPolicy.namespaces": STRINGS,
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 10},
    "revisionHistoryLimit": {"type": "integer", "minimum": 0},
}
"""Schemas of values that the default in values.yaml does not describe."""

UNUSED_VALUES: Mapping[str, tuple[Schema, str]] = {
    "enabled": (
        {"type": "boolean"},
        "no effect: for the `condition` of a chart that depends on this one",
    ),
    "apiKey.value": (
        {"type": "string"},
        "must be empty: values are stored with the release, so keys are in a Secret",
    ),
    "ingress": ({"type": "object"}, "must not be enabled: metrics are not public"),
}
"""Schemas of values that templates reject with a reason, or that another chart needs."""


def values_schema(text: str) -> Schema:
    """Return the JSON schema of the values in a values.yaml."""
    root = _schema_of_values(text)
    properties = root["properties"]
    properties["config"] = {**options_schema()}
    for name, (schema, reason) in UNUSED_VALUES.items():
        _insert(root, name, {**schema, "description": reason})
    properties["global"]["additionalProperties"] = True  # globals of an umbrella chart
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root}


def _schema_of_values(text: str) -> Schema:
    root: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
    for value in parse_values(text):
        _insert(root, value.name, REFINEMENTS.get(value.name) or _schema_of(value))
        _require_sections(root, value.name)
    return root


def _schema_of(value: ChartValue) -> Schema:
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return STRING
        case list():
            return OBJECTS
        case _:
            return STRING_MAP if STRING_MAPS.search(value.name) else {"type": "object"}


def _insert(root: Schema, name: str, schema: Schema) -> None:
    """Add the schema of a value, and strict ones of the sections that it is in."""
    *sections, key = name.split(".")
    for section in sections:
        empty = {"type": "object", "additionalProperties": False, "properties": {}}
        root = root.setdefault("properties", {}).setdefault(section, empty)
    root.setdefault("properties", {})[key] = schema


def _require_sections(root: Schema, name: str) -> None:
    """Require the sections that a value is in: one that is null, as if all of it is commented out, has no defaults."""
    for section in name.split(".")[:-1]:
        required = root.setdefault("required", [])
        if section not in required:
            required.append(section)
        root = root["properties"][section]
