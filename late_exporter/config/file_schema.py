"""The JSON schema of the configuration file, with which editors complete and check it."""

from __future__ import annotations

import json
from typing import Any

from late_exporter.config.settings import OPTIONS, WorkspaceSettings


def format_schema() -> str:
    """Return the schema as JSON, with names as in the documents; it has no types, because all values are texts."""
    sections: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        if not option.secret and option.section != "config":
            choices = {"enum": option.choices} if option.choices and not option.many else {}
            sections.setdefault(option.section, {})[option.path[1]] = {
                "description": option.help,
                **choices,
            }
    fields = WorkspaceSettings.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    workspaces = {
        "type": "array",
        "items": _object({name: {} for name in fields}) | {"required": required},
    }
    schema = _object(
        {**{name: _object(options) for name, options in sections.items()}, "workspaces": workspaces}
    )
    return json.dumps(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
