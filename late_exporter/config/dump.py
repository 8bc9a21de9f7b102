"""Write the settings in force as a configuration file, without secrets."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import SecretStr

from late_exporter.config.messages import mask_url
from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.types import format_duration

MASK = "<secret>"
NO_ITEMS = "none"  # an empty list of status feeds; other options have no empty lists
UNSET: tuple[object, ...] = (None, (), {})


def format_settings(settings: Settings, command: str = "run") -> str:
    """Return the options of a command as YAML.

    The API key is masked, and other files are named but not shown.
    """
    content: dict[str, Any] = {}
    if settings.workspace_list is not None:
        content["workspaces"] = [
            {key: _plain(value) for key, value in row if value} for row in settings.workspace_list
        ]
    for option in OPTIONS:
        if command not in option.commands or option.section == "config":
            continue
        value = settings.value_of(option)
        if option.default is not None or value not in UNSET:
            content.setdefault(option.section, {})[option.key] = _format(option, value)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)


def _format(option: Option, value: Any) -> Any:
    if option.metavar == "DURATION":
        return format_duration(value)
    plain = _plain(value)
    return plain or NO_ITEMS if option.many else plain


def _plain(value: Any) -> Any:
    """Return a value in types of YAML; tuples that have names for their items are one text."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, int | float):
        return value
    text = str(value)
    if "://" in text and ("@" in text or "?" in text):
        return mask_url(text)
    return text
