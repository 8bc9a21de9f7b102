"""Write the settings in force as a configuration file, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.types import Secret, SecretFile
from late_exporter.masking import mask_url

MASK = "<secret>"
NO_ITEMS = "none"  # an empty list of status feeds; other options have no empty lists
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
PLAIN = re.compile(r"[A-Za-z0-9/:][A-Za-z0-9_./:,+*-]*")
"""Texts that need no quotes in YAML."""


def format_settings(settings: Settings, command: str = "run") -> str:
    """Return the options of a command as YAML: the API key is masked, and files are named but not shown."""
    lines: list[str] = []
    if settings.workspace_list is not None:
        lines.append("workspaces:")
        lines += _workspace_lines(settings)
    section = ""
    for option in OPTIONS:
        value = settings.value_of(option)
        is_unset = value is None or (value == () and option.default is None)
        if command not in option.commands or is_unset or option.section == "config":
            continue
        if settings.workspace_list is not None and option.name in ("api.key", "api.key-file"):
            continue
        if option.section != section:
            section = option.section
            lines.append(f"{section}:")
        lines.append(f"  {option.key}: {_format(option, value)}")
    return "\n".join(lines) + "\n"


def _workspace_lines(settings: Settings) -> Iterator[str]:
    for row in settings.workspace_list or ():
        yield f"- name: {_quote(row.name)}"
        yield f"  api_key_file: {_quote(str(row.api_key_file.path))}"
        if row.api_base_url is not None:
            yield f"  api_base_url: {_quote(row.api_base_url)}"
        if row.profile_id is not None:
            yield f"  profile_id: {_quote(row.profile_id)}"
        if row.labels:
            yield f"  labels: {json.dumps(dict(row.labels), ensure_ascii=False)}"


def _format(option: Option, value: object) -> str:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and option.metavar == "DURATION":
        return format_duration(value)
    items = value if isinstance(value, tuple) and option.many else (value,)
    return _quote(",".join(map(_item_text, items)) or NO_ITEMS)


def _item_text(item: object) -> str:
    if isinstance(item, SecretFile):
        return str(item.path)
    text = f"{item:.15g}" if isinstance(item, float) else str(item)
    return mask_url(text) if "://" in text and not {"@", "?"}.isdisjoint(text) else text


def format_duration(seconds: float) -> str:
    """Return a duration as in Prometheus, for example ``1h30m``."""
    rest, parts = round(seconds * 1000), ""
    for unit, size in UNITS:
        count, rest = divmod(rest, size)
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"


def _quote(text: str) -> str:
    return text if PLAIN.fullmatch(text) else json.dumps(text)
