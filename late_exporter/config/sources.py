"""Read the settings: flags win over the environment, the environment over the configuration file.

The merged values are validated once, so that all mistakes are reported together, each with its
place: the flag, the variable, or the file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from late_exporter.config import web
from late_exporter.config.messages import (
    KEY_NAMES,
    describe,
    key_in_file,
    not_supported,
    quote,
    suggest,
)
from late_exporter.config.options import (
    API_COMMANDS,
    DATABASE_COMMANDS,
    EXPORTER_COMMANDS,
    PREFIX,
    Location,
    Option,
)
from late_exporter.config.settings import ALL_OPTIONS, OPTIONS, Settings, WorkspaceSettings
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError

NO_KEY = (
    "no API key: set ZERNIO_API_KEY, or name a file that holds it with ZERNIO_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)

KEY_REMEDY = "name that file with key_file below api, or set ZERNIO_API_KEY"

NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})

_FILE_OPTIONS = {
    section: {option.key: option for option in options if not option.secret}
    for section, options in groupby(OPTIONS, key=attrgetter("section"))
    if section != "config"
}
"""Options by section and key of the configuration file."""

# Kubernetes sets variables for every Service in every pod; a Service named late-exporter must not
# stop the exporter.
_SERVICE_VARIABLE = re.compile(rf"{PREFIX}(?!.*__)(\w+_)?(SERVICE_HOST|SERVICE_PORT|PORT)(_\w+)?")


def load(
    command: str,
    flags: Mapping[str, str | Sequence[str]],
    environ: Mapping[str, str] | None = None,
    *,
    defaults: Mapping[str, str] = NO_DEFAULTS,
) -> Settings:
    """Return the settings and flags of a command; raise ConfigError with every mistake.

    Args:
        command: Name of the command.
        flags: Values by the name of the option, as in ``{"poll.interval": "30s"}``.
        environ: Environment variables, by default those of the process.
        defaults: Values by the name of the option instead of its default.
    """
    sources = _Sources(command, flags, os.environ if environ is None else environ)
    values = sources.values
    problems = sources.problems
    for option in ALL_OPTIONS:
        default = defaults.get(option.name, option.default_for(command))
        values[option.section].setdefault(option.key, default)

    web_config = web.WebConfig()
    web_file = values["web"]["config_file"]
    if web_file and command in EXPORTER_COMMANDS:
        place = f"{sources.place(('web', 'config_file'))}{quote(web_file)}"
        try:
            web_config = web.load(Path(web_file), place=place)
        except ConfigError as exc:
            problems += exc.problems

    problems += sources.check_keys()
    try:
        settings = Settings(**values, web_config=web_config)
    except ValidationError as exc:
        raise ConfigError(*problems, *map(sources.describe, exc.errors())) from None
    if problems:
        raise ConfigError(*problems)
    return settings


class _Sources:
    """What flags, variables and the configuration file set for a command.

    Options of other commands are ignored, so that one file and one environment serve all commands.

    Attributes:
        values: Values by section and key, for pydantic; of the first source that has one.
        problems: Mistakes found while reading.
    """

    def __init__(
        self,
        command: str,
        flags: Mapping[str, str | Sequence[str]],
        environ: Mapping[str, str],
    ) -> None:
        self.values: dict[str, Any] = {option.section: {} for option in ALL_OPTIONS}
        self.problems = list(_unknown_variables(environ))
        self._command = command
        self._places: dict[Location, str] = {}  # flags and variables
        self._file: YamlFile | None = None
        self._is_file_broken = False  # it may have more values

        for option in ALL_OPTIONS:
            if option.name in flags:
                self._put(option, flags[option.name], option.flag)
            for name in option.variables:
                if environ.get(name):
                    self._put(option, environ[name], name)
        path = self.values["config"].get("file")
        if path:
            self._read_file(path)
        directory = environ.get("STATE_DIRECTORY")  # of the unit of systemd, or the image
        if directory and command in DATABASE_COMMANDS:
            self.values["state"].setdefault("url", f"sqlite:///{directory}/late-exporter.db")

    def place(self, location: Location) -> str:
        """Return the flag, the variable, or the file and line of a value or of what contains it."""
        if location[0] != "workspaces":
            location = location[:2]
        place = self._places.get(location)
        if place is None and self._file is not None:
            place = self._file.place(location)
        return place or ".".join(map(str, location))

    def describe(self, error: ErrorDetails) -> str:
        location = error["loc"]
        if error["type"] == "extra_forbidden" and location[-1] in KEY_NAMES:
            return key_in_file(self.place(location), "name that file with api_key_file")
        is_secret = location[:2] == ("api", "key")
        supported = WorkspaceSettings.model_fields
        return describe(error, self.place, supported, with_value=not is_secret)

    def check_keys(self) -> Iterator[str]:
        """Yield too many or too few API keys."""
        given = [name for name, value in self.values["api"].items() if value is not None]
        keys = [self.place(("api", name)) for name in given if name in ("key", "key_file")]
        if "workspaces" in self.values:
            workspaces = self.place(("workspaces",))
            if "profile_id" in given:
                keys.append(self.place(("api", "profile_id")))
            for place in keys:
                yield f"{place}: drop it, each workspace in {workspaces} has its own"
        elif len(keys) > 1:
            yield f"{' and '.join(keys)}: two keys are given; drop one of them"
        elif not keys and self._command in API_COMMANDS and not self._is_file_broken:
            yield NO_KEY

    def _put(self, option: Option, value: object, place: str = "") -> None:
        """Set a value if the command has the option and no earlier source has a value."""
        section = self.values[option.section]
        if self._command in option.commands and option.key not in section:
            section[option.key] = value
            if place:
                self._places[option.section, option.key] = place

    def _read_file(self, path: str) -> None:
        try:
            file = YamlFile(path, place=f"{self.place(('config', 'file'))}{quote(path)}")
        except ConfigError as exc:
            self._is_file_broken = True
            self.problems += exc.problems
            return
        self._file = file
        folder = Path(path).parent
        for section, content in file.values.items():
            if section == "workspaces":
                if self._command in API_COMMANDS:
                    self._read_workspaces(content, folder)
            elif section not in _FILE_OPTIONS:
                self.problems.append(_unknown_section(file.place((section,)), section))
            elif isinstance(content, dict):
                self._read_section(section, content, folder, file)
            elif content is not None:
                self.problems.append(f"{file.place((section,))}: must be a mapping of options")

    def _read_workspaces(self, rows: object, folder: Path) -> None:
        self.values["workspaces"] = rows
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and "api_key_file" in row:
                row["api_key_file"] = _relative(folder, row["api_key_file"])

    def _read_section(
        self, section: str, content: Mapping[str, object], folder: Path, file: YamlFile
    ) -> None:
        options = _FILE_OPTIONS[section]
        for key, value in content.items():
            if section == "api" and key in KEY_NAMES:
                self.problems.append(key_in_file(file.place((section, key)), KEY_REMEDY))
            elif key not in options:
                self.problems.append(not_supported(file.place((section, key)), options))
            elif value is not None:
                is_file = options[key].metavar == "FILE"
                self._put(options[key], _relative(folder, value) if is_file else value)


def _unknown_section(place: str, section: str) -> str:
    if section in KEY_NAMES:
        return key_in_file(place, KEY_REMEDY)
    # An option may be written as its flag: poll.audit-interval.
    parent, _, name = section.partition(".")
    for key, option in _FILE_OPTIONS.get(parent, {}).items():
        if name == key or section == option.name:
            return f"{place}: not supported; write {key} below {parent}"
    return not_supported(place, (*_FILE_OPTIONS, "workspaces"))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = [option.variables[0] for option in OPTIONS]
    for name in sorted(environ.keys() - set(known)):
        if name.startswith(PREFIX) and not _SERVICE_VARIABLE.fullmatch(name):
            yield f"{name}: unknown variable{suggest(name, known, PREFIX)}"


def _relative(folder: Path, path: object) -> object:
    """Resolve a path in a file as Prometheus does: relative to the folder of the file."""
    return str(folder / path) if path and isinstance(path, str) else path
