"""The values that flags, environment and configuration file set, as text, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from late_exporter.config.commands import API_COMMANDS
from late_exporter.config.options import PREFIX, Location, Option, suggest
from late_exporter.config.settings import OPTIONS, WorkspaceSettings
from late_exporter.config.types import EMPTY_VALUES, Secret, is_utf8, read_file
from late_exporter.errors import ConfigError
from late_exporter.masking import quote

if TYPE_CHECKING:
    from pathlib import Path

    from late_exporter.config.yaml_file import YamlFile

WORKSPACES = "must be a list of name, api_key_file and optionally api_base_url, profile_id and labels"

_BY_NAME = {option.name: option for option in OPTIONS}
_BY_VARIABLE = {name: option for option in OPTIONS for name in (option.variable, option.alias) if name}
_IN_FILE = {
    f"{option.section}.{option.key}": option for option in OPTIONS if option.flag and option.section != "config"
}
_SECTIONS = dict.fromkeys(option.section for option in _IN_FILE.values())

# Kubernetes sets variables for every Service in every pod; a Service named late-exporter must not stop the exporter.
_SERVICE_VARIABLE = (
    r"LATE_EXPORTER_(?!.*__)(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class ConfigSource:
    """The values that one source sets for a command.

    Args:
        command: Command that runs; options of other commands are ignored.

    Attributes:
        values: Values as text, by section and field, or by field for the flags of a single command.
        places: Flag, variable or file and line of each value.
        problems: Mistakes found while reading.
        is_broken: Whether the source could not be read, so that it may hold more values.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.values: dict[str, Any] = {}
        self.places: dict[Location, str] = {}
        self.problems: list[str] = []
        self.is_broken = False

    def put(self, option: Option, value: object, place: str) -> None:
        if self.command not in option.commands:
            return
        values = self.values
        for key in option.path[:-1]:
            values = values.setdefault(key, {})
        values[option.path[-1]] = value
        self.places[option.path] = place

    def get(self, name: str) -> tuple[Any, str] | None:
        section, key = _BY_NAME[name].path
        return (self.values[section][key], self.places[section, key]) if (section, key) in self.places else None


def read_sources(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> list[ConfigSource]:
    """Return all sources, the first of which takes precedence."""
    sources = [read_flags(command, flags, OPTIONS), _from_environment(command, environ)]
    return [
        *sources,
        _from_file(command, sources),
        command_defaults(command, OPTIONS),
        _from_systemd(command, environ),
    ]


def first_value(sources: Sequence[ConfigSource], name: str) -> tuple[Any, str] | None:
    """Return the value of an option and its place, or None if no source has it."""
    return next(filter(None, (source.get(name) for source in sources)), None)


def defaults_of(options: Sequence[Option]) -> dict[str, Any]:
    """Return the defaults of the options of all commands."""
    defaults: dict[str, Any] = {}
    for option in options:
        values = defaults.setdefault(option.section, {}) if option.section else defaults
        values[option.path[-1]] = option.default
    return defaults


def read_flags(command: str, flags: Mapping[str, Sequence[str]], options: Sequence[Option]) -> ConfigSource:
    source = ConfigSource(command)
    by_name = {option.name: option for option in options}
    for name, texts in flags.items():
        option = by_name[name]
        if len(texts) > 1 and not option.many:
            source.problems.append(f"{option.flag}: given {len(texts)} times")
        source.put(option, list(texts) if option.many else texts[-1], option.flag)
    return source


def _from_environment(command: str, environ: Mapping[str, str]) -> ConfigSource:
    source = ConfigSource(command)
    for variable, text in sorted(environ.items()):
        option = _BY_VARIABLE.get(variable)
        if option is not None and not is_utf8(text):
            source.problems.append(f"{variable}: not UTF-8")
        elif option is not None and text:
            if variable == option.alias and environ.get(option.variable, text) != text:
                source.problems.append(f"{option.variable} and {variable}: two keys are given; drop one of them")
            source.put(option, Secret(text) if option.secret else text, variable)
        elif option is None and variable.startswith(PREFIX) and not re.fullmatch(_SERVICE_VARIABLE, variable):
            source.problems.append(f"{variable}: unknown variable{suggest(variable, _BY_VARIABLE, PREFIX)}")
    return source


def _from_file(command: str, sources: Sequence[ConfigSource]) -> ConfigSource:
    source = ConfigSource(command)
    path, place = first_value(sources, "config.file") or ("", "")
    if not place:
        return source
    from pathlib import Path  # noqa: PLC0415 - not needed without a file

    from late_exporter.config.yaml_file import YamlFile  # noqa: PLC0415 - as above

    try:
        content = read_file(path)
        if not content and Path(path).is_fifo():
            raise ValueError("is empty, because a pipe can be read only once")  # noqa: TRY301 - as if unreadable
        file = YamlFile(path, content, lambda key: key.replace("-", "_"))
    except ValueError as exc:
        source.is_broken = True
        source.problems.append(f"{place}{quote(path)}: {exc}")
    except ConfigError as exc:
        source.is_broken = True
        source.problems += exc.problems
    else:
        _read_sections(file, Path(path), source)
        source.problems += file.problems
    return source


def _read_sections(file: YamlFile, path: Path, source: ConfigSource) -> None:
    if not isinstance(file.values, dict):
        source.problems.append(f"{path}: must be a mapping of sections, as in poll: {{interval: 30s}}")
        return
    for section, value in file.values.items():
        if section == "workspaces":
            _read_workspaces(file, path, source)
        elif section not in _SECTIONS:
            file.reject((section,), "unknown" + _section_hint(section))
        elif isinstance(value, dict):
            for key in value:
                _read_option(file, path, source, (section, key))
        elif value not in EMPTY_VALUES:
            file.reject((section,), "must be a mapping of options")


def _section_hint(name: str) -> str:
    section, _, key = name.replace("_", "-").partition(".")
    if f"{section}.{key}" in _IN_FILE:
        return f"; write it as {section}: {{{key}: ...}}"
    sections = [*_SECTIONS, "workspaces"]
    return suggest(name, sections) or f"; sections are {', '.join(sections)}"


def _read_option(file: YamlFile, path: Path, source: ConfigSource, keys: tuple[str, str]) -> None:
    section, key = keys
    name = f"{section}.{key.replace('_', '-')}"
    option, value = _IN_FILE.get(name), file.values[section][key]
    if option is None:
        # Without a space after the colon the value belongs to the key.
        hint = suggest(name.partition(":")[0], _IN_FILE, f"{section}.")
        file.reject((section, key.replace("_", "-")), f"unknown{hint}")
    elif isinstance(value, str):
        text = _relative_to(path, value) if option.metavar == "FILE" else value
        source.put(option, text, file.place(keys, option.name))
    elif _is_list_or_mapping(option, value):
        source.put(option, value, file.place(keys, option.name))
    else:
        kinds = "one value or a list of values" if option.many else "one value"
        kinds = "a mapping of names to lists of values" if option.is_mapping else kinds
        file.reject(keys, f"must be {kinds}", name=option.name)


def _is_list_or_mapping(option: Option, value: object) -> bool:
    """Return whether a value of the file that is not a text has the form that the option takes."""
    if isinstance(value, dict):
        return option.is_mapping and all(map(_is_list_of_texts, value.values()))
    return option.many and _is_list_of_texts(value)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _read_workspaces(file: YamlFile, path: Path, source: ConfigSource) -> None:
    if source.command not in API_COMMANDS:
        return
    rows = file.values["workspaces"]
    source.places["workspaces",] = file.place(("workspaces",))
    if not isinstance(rows, list):
        file.reject(("workspaces",), WORKSPACES)
        return
    source.values["workspaces"] = []
    for index, row in enumerate(rows):
        here = ("workspaces", index)
        source.places[here] = file.place(here)
        values = {}
        for key, value in row.items() if isinstance(row, dict) else ():
            if key not in WorkspaceSettings._fields:
                file.reject((*here, key), "unknown" + suggest(key, WorkspaceSettings._fields))
                continue
            source.places[*here, key] = file.place((*here, key))
            values[key] = _relative_to(path, value) if key == "api_key_file" and isinstance(value, str) else value
        source.values["workspaces"].append(values)


def _relative_to(file: Path, path: str) -> str:
    """Resolve a path in a file as Prometheus does: relative to the folder of the file."""
    return str(file.parent / path) if path else ""


def _from_systemd(command: str, environ: Mapping[str, str]) -> ConfigSource:
    """Return the location of the state in the first state directory of the unit."""
    source = ConfigSource(command)
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
    if directory:
        source.put(_BY_NAME["state.url"], f"sqlite:///{directory}/late-exporter.db", "STATE_DIRECTORY")
    return source


def command_defaults(command: str, options: Sequence[Option]) -> ConfigSource:
    """Return the defaults of the command that differ from those of the model."""
    source = ConfigSource(command)
    for option in options:
        if command in option.command_defaults:
            source.put(option, option.command_defaults[command], option.flag)
    return source
