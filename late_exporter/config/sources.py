"""Read the settings: flags win over the environment, the environment over the configuration file.

The merged values are validated once, so that all mistakes are reported together, each with its
place: the flag, the variable, or the file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from late_exporter.config import web
from late_exporter.config.messages import describe, quote, suggest
from late_exporter.config.options import (
    API_COMMANDS,
    EXPORTER_COMMANDS,
    PREFIX,
    Location,
    Option,
)
from late_exporter.config.settings import ALL_OPTIONS, OPTIONS, Settings, WorkspaceSettings
from late_exporter.config.yaml_file import EMPTY_VALUES, YamlFile
from late_exporter.errors import ConfigError

NO_KEY = (
    "no API key: set ZERNIO_API_KEY, or name a file that holds it with ZERNIO_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)

_BY_PATH: Mapping[Location, Option] = {option.path: option for option in ALL_OPTIONS}
_IN_FILE = [option for option in OPTIONS if not option.secret and option.section != "config"]
_FILE_SECTIONS = [*dict.fromkeys(option.section for option in _IN_FILE), "workspaces"]

# Kubernetes sets variables for every Service in every pod; a Service named late-exporter must not
# stop the exporter.
_SERVICE_VARIABLE = re.compile(rf"{PREFIX}(?!.*__)(\w+_)?(SERVICE_HOST|SERVICE_PORT|PORT)(_\w+)?")


def load(
    command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings and flags of a command; raise ConfigError with every mistake.

    Flags are named as in ``{"poll.interval": ["30s"]}``.
    """
    sources = _Sources(command, flags, os.environ if environ is None else environ)
    problems = sources.problems
    web_file = sources.values.get("web", {}).get("config_file")
    if web_file and command in EXPORTER_COMMANDS:
        place = f"{sources.place(('web', 'config_file'))}{quote(web_file)}"
        try:
            sources.values["web_config"] = web.load(Path(web_file), place=place)
        except ConfigError as exc:
            problems += exc.problems

    settings = None
    try:
        settings = Settings(**sources.values)
    except ValidationError as exc:
        problems += [sources.describe(error) for error in exc.errors()]
    problems += sources.check_keys()
    if settings is None or problems:
        raise ConfigError(*problems)
    return settings


class _Sources:
    """What flags, variables and the configuration file set for a command.

    Options of other commands are ignored, so that one file and one environment serve all commands.

    Attributes:
        values: Values by section and field, for pydantic.
        problems: Mistakes found while reading.
    """

    def __init__(
        self, command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]
    ) -> None:
        self.values: dict[str, Any] = {}
        self.problems = list(_unknown_variables(environ))
        self._command = command
        self._places: dict[Location, str] = {}  # flags and variables
        self._file: YamlFile | None = None
        self._is_file_broken = False  # it may have more values

        # The first source that has a value wins.
        for option in ALL_OPTIONS:
            texts = flags.get(option.name)
            if texts:
                self._put(option, list(texts) if option.many else texts[-1], option.flag)
            for name in option.variables:
                if environ.get(name):
                    self._put(option, environ[name], name)
        path = self.values.get("config", {}).get("file")
        if path:
            self._read_file(path)
        directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
        for option in ALL_OPTIONS:
            if command in option.command_defaults:
                self._put(option, option.command_defaults[command])
            elif option.name == "state.url" and directory:  # of the unit of systemd
                self._put(option, f"sqlite:///{directory}/late-exporter.db")

    def place(self, location: Location) -> str:
        """Return the flag, the variable, or the file and line of a value or of what contains it."""
        if location[0] != "workspaces":
            location = location[:2]
        place = self._places.get(location)
        if place is None and self._file is not None:
            place = self._file.place(location)
        return place or ".".join(map(str, location))

    def describe(self, error: ErrorDetails) -> str:
        option = _BY_PATH.get(error["loc"][:2])
        is_secret = option is not None and option.secret
        supported = WorkspaceSettings.model_fields
        return describe(error, self.place, supported, with_value=not is_secret)

    def check_keys(self) -> Iterator[str]:
        """Yield too many or too few API keys."""
        api = self.values.get("api", {})
        keys = [self.place(("api", name)) for name in ("key", "key_file") if name in api]
        if "workspaces" in self.values:
            workspaces = self.place(("workspaces",))
            if "profile_id" in api:
                keys.append(self.place(("api", "profile_id")))
            for place in keys:
                yield f"{place}: drop it, each workspace in {workspaces} has its own"
        elif len(keys) > 1:
            yield f"{' and '.join(keys)}: two keys are given; drop one of them"
        elif not keys and self._command in API_COMMANDS and not self._is_file_broken:
            yield NO_KEY

    def _put(self, option: Option, value: object, place: str = "") -> None:
        """Set a value if the command has the option and no earlier source has a value."""
        section, key = option.path
        if self._command in option.commands and key not in self.values.get(section, {}):
            self.values.setdefault(section, {})[key] = value
            if place:
                self._places[option.path] = place

    def _read_file(self, path: str) -> None:
        try:
            self._file = YamlFile(path, place=f"{self.place(('config', 'file'))}{quote(path)}")
        except ConfigError as exc:
            self._is_file_broken = True
            self.problems += exc.problems
            return
        folder = Path(path).parent
        for section, content in self._file.values.items():
            if section not in _FILE_SECTIONS:
                place = self._file.place((section,))
                supported = ", ".join(_FILE_SECTIONS)
                self.problems.append(f"{place}: not supported; supported are {supported}")
            elif section == "workspaces":
                if self._command in API_COMMANDS:
                    self.values["workspaces"] = content
                    for row in content if isinstance(content, list) else ():
                        if isinstance(row, dict) and row.get("api_key_file"):
                            row["api_key_file"] = _relative(folder, row["api_key_file"])
            elif isinstance(content, dict):
                self._read_section(section, content, self._file, folder)
            elif content not in EMPTY_VALUES:
                place = self._file.place((section,))
                self.problems.append(f"{place}: must be a mapping of options")

    def _read_section(
        self, section: str, content: Mapping[str, object], file: YamlFile, folder: Path
    ) -> None:
        known = {option.key: option for option in _IN_FILE if option.section == section}
        for key, value in content.items():
            option = known.get(key)
            if option is None:
                place = file.place((section, key))
                self.problems.append(f"{place}: not supported; supported are {', '.join(known)}")
            else:
                is_file = option.metavar == "FILE"
                self._put(option, _relative(folder, value) if is_file else value)


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = [option.variable for option in OPTIONS]
    for name in sorted(environ.keys() - set(known)):
        if name.startswith(PREFIX) and not _SERVICE_VARIABLE.fullmatch(name):
            yield f"{name}: unknown variable{suggest(name, known, PREFIX)}"


def _relative(folder: Path, path: object) -> object:
    """Resolve a path in a file as Prometheus does: relative to the folder of the file."""
    return str(folder / path) if path and isinstance(path, str) else path
