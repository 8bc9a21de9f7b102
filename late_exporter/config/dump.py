"""Write the settings in force as a configuration file, without secrets."""

from __future__ import annotations

import yaml

from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.types import format_duration

HIDDEN = {"config", "simulate", "flags", "web_config"}
"""Sections that are not those of an exporter."""


def format_settings(settings: Settings) -> str:
    """Return the settings as YAML; pydantic masks the API key, and other files are only named."""
    content = settings.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=HIDDEN)
    for option in OPTIONS:
        if option.metavar == "DURATION" and option.section in content:
            section = content[option.section]
            section[option.key] = format_duration(section[option.key])
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
