"""Read the settings: flags win over the environment, the environment over the configuration file.

pydantic validates the merged values once, so that all mistakes are reported together, each with its
place: the flag, the variable, or the file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from late_exporter.config import web_file
from late_exporter.config.checks import check_keys, check_settings
from late_exporter.config.command_groups import API_COMMANDS, EXPORTER_COMMANDS
from late_exporter.config.options import PREFIX, Location, Option, suggest
from late_exporter.config.quoting import quote
from late_exporter.config.settings import ALL_OPTIONS, OPTIONS, Settings, WorkspaceSettings
from late_exporter.config.types import EMPTY_VALUES, read_file
from late_exporter.config.web import WebConfig
from late_exporter.config.web_section import describe
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError

Values: TypeAlias = dict[str, Any]  # by section and field

MIN_MASKED_LENGTH = 8

_BY_NAME = {option.name: option for option in ALL_OPTIONS}
_BY_PATH: Mapping[Location, Option] = {option.path: option for option in ALL_OPTIONS}
_BY_VARIABLE = {
    name: option for option in OPTIONS for name in (option.variable, option.alias) if name
}
_IN_FILE = {
    f"{option.section}.{option.key}": option
    for option in OPTIONS
    if not option.secret and option.section != "config"
}
_FILE_SECTIONS = [*dict.fromkeys(option.section for option in _IN_FILE.values()), "workspaces"]

# Kubernetes sets variables for every Service in every pod; a Service named late-exporter must not
# stop the exporter.
_SERVICE_VARIABLE = (
    r"LATE_EXPORTER_(?!.*__)(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class _Environment(EnvSettingsSource):
    """The variables of a command, each by the name that follows from section and field."""

    def __init__(self, values: Values) -> None:
        self._variables = {
            f"{PREFIX}{section}__{key}".lower(): text
            for section, row in values.items()
            for key, text in row.items()
        }
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


class _Sources:
    """What flags, variables and the configuration file set for a command, and the mistakes found while reading.

    Options of other commands are ignored, so that one file and one environment serve all commands.

    Attributes:
        places: Flag or variable of each value that is set; empty for those of the file.
        is_broken: Whether the file could not be read, so that it may hold more values.
    """

    def __init__(
        self, command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]
    ) -> None:
        self.command = command
        self.problems: list[str] = []
        self.is_broken = False
        self.places: dict[Location, str] = {}
        self._file: YamlFile | None = None
        self._flags, self._variables, self._in_file, self._defaults = (Values() for _ in range(4))
        self._read_flags(flags)
        self._read_variables(environ)
        self._read_file()
        if command == "demo":  # Only flags send simulated logs to a real state.
            for layer in (self._variables, self._in_file):
                layer.pop("state", None)
        self._read_defaults(environ)

    def sources(self) -> list[PydanticBaseSettingsSource]:
        """Return pydantic's sources, the first of which takes precedence."""
        layers = (self._flags, self._in_file, self._defaults)
        flags, file, defaults = (InitSettingsSource(Settings, values) for values in layers)
        return [flags, _Environment(self._variables), file, defaults]

    def text_of(self, name: str) -> str:
        """Return the value of an option of one text; empty if no source has it."""
        section, key = _BY_NAME[name].path
        layers = (self._flags, self._variables, self._in_file)
        return next(
            (str(layer[section][key]) for layer in layers if key in layer.get(section, {})), ""
        )

    def place(self, *location: int | str) -> str:
        """Return the flag, the variable, or the file and line of a value or of what contains it."""
        prefixes = (location[:size] for size in range(len(location), 0, -1))
        source = next((prefix for prefix in prefixes if prefix in self.places), location)
        place = self.places.get(source)
        if place or self._file is None:
            return place or ".".join(map(str, location))
        return self._file.place(
            (source[0], _BY_PATH[source].key) if source in _BY_PATH else location
        )

    def describe(self, error: ErrorDetails) -> str:
        location = tuple(key for key in error["loc"] if key != "[key]")
        hint = ""
        if error["type"] == "missing":
            location = location[:-1]
        elif error["type"] == "extra_forbidden":
            hint = suggest(str(location[-1]), WorkspaceSettings.model_fields)
        option = _BY_PATH.get(location[:2])
        return (
            describe(error, self.place(*location), with_value=option is None or not option.secret)
            + hint
        )

    def _put(self, values: Values, option: Option, value: object, place: str = "") -> None:
        if self.command in option.commands:
            section, key = option.path
            values.setdefault(section, {})[key] = value
            if values is not self._defaults:
                self.places.setdefault(option.path, place)

    def _read_flags(self, flags: Mapping[str, Sequence[str]]) -> None:
        for name, texts in flags.items():
            option = _BY_NAME[name]
            self._put(self._flags, option, list(texts) if option.many else texts[-1], option.flag)
            if len(texts) > 1 and not option.many:
                self.problems.append(f"{option.flag}: given {len(texts)} times")

    def _read_variables(self, environ: Mapping[str, str]) -> None:
        for variable, text in sorted(environ.items()):
            option = _BY_VARIABLE.get(variable)
            if option is None:
                if variable.startswith(PREFIX) and not re.fullmatch(_SERVICE_VARIABLE, variable):
                    self.problems.append(
                        f"{variable}: unknown variable{suggest(variable, _BY_VARIABLE, PREFIX)}"
                    )
            elif re.search("[\ud800-\udfff]", text):  # as Python keeps bytes that are not UTF-8
                self.problems.append(f"{variable}: not UTF-8")
            elif text:
                self._put(self._variables, option, text, variable)
                if variable == option.alias and environ.get(option.variable, text) != text:
                    self.problems.append(
                        f"{option.variable} and {variable}: two keys are given; drop one of them"
                    )

    def _read_file(self) -> None:
        path = self.text_of("config.file")
        if not path:
            return
        try:
            content = read_file(path)
            if not content and Path(path).is_fifo():
                raise ValueError("is empty, because a pipe can be read only once")  # noqa: TRY301 - as if unreadable
            self._file = YamlFile(path, content)
        except (ValueError, ConfigError) as exc:
            self.is_broken = True
            place = f"{self.places['config', 'file']}{quote(path)}"
            self.problems += exc.problems if isinstance(exc, ConfigError) else [f"{place}: {exc}"]
        else:
            self.problems += self._read_sections(self._file, Path(path))

    def _read_sections(self, file: YamlFile, path: Path) -> Iterator[str]:
        if not isinstance(file.values, dict):
            yield f"{path}: must be a mapping of sections, as in poll: {{interval: 30s}}"
            return
        for section, content in file.values.items():
            if section not in _FILE_SECTIONS:
                yield f"{file.place((section,))}: unknown{_section_hint(section)}"
            elif section == "workspaces":
                self._read_workspaces(content, path)
            elif isinstance(content, dict):
                yield from self._read_section(file, path, section)
            elif content not in EMPTY_VALUES:
                yield f"{file.place((section,))}: must be a mapping of options"

    def _read_section(self, file: YamlFile, path: Path, section: str) -> Iterator[str]:
        paths: set[Location] = set()
        for key, value in file.values[section].items():
            option = _IN_FILE.get(f"{section}.{key.replace('_', '-')}")
            if option is None:
                # Without a space after the colon the value belongs to the key.
                name = f"{section}.{key.partition(':')[0].replace('_', '-')}"
                yield f"{file.place((section, key))}: unknown{suggest(name, _IN_FILE, f'{section}.')}"
            elif option.path in paths:
                yield f"{file.place((section, key))}: given twice, with a dash and with an underscore"
            else:
                paths.add(option.path)
                self._put(
                    self._in_file,
                    option,
                    _relative(path, value) if option.metavar == "FILE" else value,
                )

    def _read_workspaces(self, rows: object, path: Path) -> None:
        if self.command not in API_COMMANDS:
            return
        self.places["workspaces",] = ""
        if isinstance(rows, list):
            rows = [_workspace(path, row) if isinstance(row, dict) else row for row in rows]
        self._in_file["workspaces"] = rows

    def _read_defaults(self, environ: Mapping[str, str]) -> None:
        """Read the defaults that differ from those of the models: of the command, and of a unit of systemd."""
        for option in ALL_OPTIONS:
            if self.command in option.command_defaults:
                self._put(self._defaults, option, option.command_defaults[self.command])
        directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
        if directory and "state" not in self._defaults:
            self._put(
                self._defaults, _BY_NAME["state.url"], f"sqlite:///{directory}/late-exporter.db"
            )


def load(
    command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings and flags of a command; raise ConfigError with every mistake.

    Flags are named as in ``{"poll.interval": ["30s"]}``.
    """
    environ = os.environ if environ is None else environ
    sources = _Sources(command, flags, environ)
    problems, settings = sources.problems, None
    try:
        settings = Settings(sources=sources.sources())  # type: ignore[call-arg] # see settings_customise_sources
    except ValidationError as exc:
        problems += map(sources.describe, exc.errors())
    problems += check_keys(command, sources.places, sources.place, is_broken=sources.is_broken)
    web_config = WebConfig()
    if (path := sources.text_of("web.config.file")) and command in EXPORTER_COMMANDS:
        try:
            web_config = web_file.load(
                Path(path), place=f"{sources.place('web', 'config_file')}{quote(path)}"
            )
        except ConfigError as exc:
            problems += exc.problems
            settings = None
    if settings is not None:
        settings = settings.with_web_config(web_config)
        problems += check_settings(command, settings, sources.place)
    if settings is None or problems:
        raise ConfigError(*_mask_keys(environ, problems))
    return settings


def _workspace(file: Path, row: Mapping[str, object]) -> Mapping[str, object]:
    values = {key.replace("-", "_"): value for key, value in row.items()}
    return {
        key: _relative(file, value) if key == "api_key_file" else value
        for key, value in values.items()
    }


def _relative(file: Path, path: object) -> object:
    """Resolve a path in a file as Prometheus does: relative to the folder of the file."""
    return str(file.parent / path) if path and isinstance(path, str) else path


def _section_hint(name: str) -> str:
    section, _, key = name.replace("_", "-").partition(".")
    if f"{section}.{key}" in _IN_FILE:
        return f"; write it as {section}: {{{key}: ...}}"
    return suggest(name, _FILE_SECTIONS) or f"; sections are {', '.join(_FILE_SECTIONS)}"


def _mask_keys(environ: Mapping[str, str], problems: Sequence[str]) -> list[str]:
    """Mask API keys that were also set as something else; masking a short one would hide too much."""
    messages = list(problems)
    for name in (
        name for option in OPTIONS if option.secret for name in (option.variable, option.alias)
    ):
        key = environ.get(name, "").strip()
        if len(key) >= MIN_MASKED_LENGTH:
            messages = [problem.replace(key, "***") for problem in messages]
    return messages
