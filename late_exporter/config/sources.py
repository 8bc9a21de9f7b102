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
from late_exporter.config.types import EMPTY_VALUES, read_file
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError

DAY = 86_400.0
MAX_SIMULATED_LOGS = 2_000_000  # at startup; they take two minutes and 4 GB of memory
NO_KEY = (
    "no API key: set ZERNIO_API_KEY, or name a file that holds it with ZERNIO_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)

_BY_NAME = {option.name: option for option in ALL_OPTIONS}
_BY_PATH: Mapping[Location, Option] = {option.path: option for option in ALL_OPTIONS}
_KNOWN_VARIABLES = {name for option in OPTIONS for name in option.variables}
_IN_FILE = {
    f"{option.section}.{option.key}": option
    for option in OPTIONS
    if not option.secret and option.section != "config"
}
_FILE_SECTIONS = [*dict.fromkeys(option.section for option in _IN_FILE.values()), "workspaces"]

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
    path = sources.text_of("web.config.file")
    if path and command in EXPORTER_COMMANDS:
        place = f"{sources.place('web', 'config_file')}{quote(path)}"
        try:
            sources.values["web_config"] = web.load(Path(path), place=place)
        except ConfigError as exc:
            problems += exc.problems

    settings = None
    try:
        settings = Settings(**sources.values)
    except ValidationError as exc:
        problems += [sources.describe(error) for error in exc.errors()]
    else:
        problems += _contradictions(settings, sources)
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
        self.problems: list[str] = []
        self._command = command
        self._places: dict[Location, str] = {}  # flag or variable; empty for values of the file
        self._file: YamlFile | None = None
        self._is_broken = False  # whether the file could not be read: it may have more values

        # The first source that has a value wins.
        self._read_flags(flags)
        if command == "demo":
            # Only a flag sends simulated logs to a real state.
            self._put(_BY_NAME["state.url"], "sqlite://", "")
        self._read_variables(environ)
        self._read_file()
        self._read_defaults(environ)

    def text_of(self, name: str) -> str:
        """Return the value of an option of one text; empty if no source has it."""
        section, key = _BY_NAME[name].path
        return str(self.values.get(section, {}).get(key, ""))

    def place(self, *location: int | str) -> str:
        """Return the flag, the variable, or the file and line of a value or of what contains it."""
        path = location
        while path and path not in self._places:
            path = path[:-1]
        place = self._places.get(path)
        if place or self._file is None:
            return place or ".".join(map(str, location))
        if path in _BY_PATH:
            option = _BY_PATH[path]
            return self._file.place((option.section, option.key))
        return self._file.place(location)

    def describe(self, error: ErrorDetails) -> str:
        location = tuple(key for key in error["loc"] if key != "[key]")
        hint = ""
        if error["type"] == "missing":
            location = location[:-1]
        elif error["type"] == "extra_forbidden":
            hint = suggest(str(location[-1]), WorkspaceSettings.model_fields)
        option = _BY_PATH.get(location[:2])
        is_secret = option is not None and option.secret
        return describe(error, self.place(*location), with_value=not is_secret) + hint

    def check_keys(self) -> Iterator[str]:
        """Yield too many or too few API keys."""
        keys = [
            self.place("api", name) for name in ("key", "key_file") if ("api", name) in self._places
        ]
        if ("workspaces",) in self._places:
            workspaces = self.place("workspaces")
            for key in keys:
                yield f"{key}: drop it, each workspace in {workspaces} has its own api_key_file"
            if ("api", "profile_id") in self._places:
                profile = self.place("api", "profile_id")
                yield f"{profile}: drop it, workspaces in {workspaces} have their own"
        elif len(keys) > 1:
            yield f"{' and '.join(keys)}: two keys are given; drop one of them"
        elif not keys and self._command in API_COMMANDS and not self._is_broken:
            yield NO_KEY

    def _put(self, option: Option, value: object, place: str) -> None:
        """Set a value if the command has the option and no earlier source has a value."""
        if self._command in option.commands and option.path not in self._places:
            section, key = option.path
            self.values.setdefault(section, {})[key] = value
            self._places[option.path] = place

    def _put_default(self, option: Option, value: str) -> None:
        if self._command in option.commands:
            section, key = option.path
            self.values.setdefault(section, {}).setdefault(key, value)

    def _read_flags(self, flags: Mapping[str, Sequence[str]]) -> None:
        for name, texts in flags.items():
            option = _BY_NAME[name]
            self._put(option, list(texts) if option.many else texts[-1], option.flag)

    def _read_variables(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            is_ours = name.startswith(PREFIX) and not _SERVICE_VARIABLE.fullmatch(name)
            if is_ours and name not in _KNOWN_VARIABLES:
                hint = suggest(name, [option.variable for option in OPTIONS], PREFIX)
                self.problems.append(f"{name}: unknown variable{hint}")
        for option in OPTIONS:
            names = [name for name in option.variables if environ.get(name)]
            for name in names:
                if re.search("[\ud800-\udfff]", environ[name]):  # bytes that are not UTF-8
                    self.problems.append(f"{name}: not UTF-8")
                else:
                    self._put(option, environ[name], name)
            if len({environ[name] for name in names}) > 1:
                both = " and ".join(names)
                self.problems.append(f"{both}: two keys are given; drop one of them")

    def _read_file(self) -> None:
        path = self.text_of("config.file")
        if not path:
            return
        try:
            content = read_file(path)
            if not content and Path(path).is_fifo():
                raise ValueError("is empty, because a pipe can be read only once")  # noqa: TRY301 - as if unreadable
            self._file = YamlFile(path, content)
        except ConfigError as exc:
            self._is_broken = True
            self.problems += exc.problems
        except ValueError as exc:
            self._is_broken = True
            self.problems.append(f"{self._places['config', 'file']}{quote(path)}: {exc}")
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
        known: set[Location] = set()
        for key, value in file.values[section].items():
            option = _IN_FILE.get(f"{section}.{key.replace('_', '-')}")
            if option is None:
                # Without a space after the colon the value belongs to the key.
                name = f"{section}.{key.partition(':')[0].replace('_', '-')}"
                hint = suggest(name, _IN_FILE, f"{section}.")
                yield f"{file.place((section, key))}: unknown{hint}"
            elif option.path in known:
                place = file.place((section, key))
                yield f"{place}: given twice, with a dash and with an underscore"
            else:
                known.add(option.path)
                self._put(option, _relative(path, value) if option.metavar == "FILE" else value, "")

    def _read_workspaces(self, rows: object, path: Path) -> None:
        if self._command not in API_COMMANDS:
            return
        if isinstance(rows, list):
            rows = [_workspace(path, row) if isinstance(row, dict) else row for row in rows]
        self._places["workspaces",] = ""
        self.values["workspaces"] = rows

    def _read_defaults(self, environ: Mapping[str, str]) -> None:
        """Set the defaults that differ from those of the models."""
        directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
        if directory:  # of the unit of systemd
            state = f"sqlite:///{directory}/late-exporter.db"
            self._put_default(_BY_NAME["state.url"], state)
        for option in ALL_OPTIONS:
            if self._command in option.command_defaults:
                self._put_default(option, option.command_defaults[self._command])


def _contradictions(settings: Settings, sources: _Sources) -> Iterator[str]:
    """Yield the mistakes in valid options that do not go together."""
    if settings.state.replicas and not settings.state.url.startswith("postgresql://"):
        remedy = "name its database with --state.url postgresql://user@host/database"
        place = sources.place("state", "replicas")
        yield f'{place} "true": replicas share a state in PostgreSQL; {remedy}'
    count = settings.simulate.logs_per_day * settings.simulate.history / DAY
    if count > MAX_SIMULATED_LOGS:
        yield (
            f"--simulate.logs-per-day and --simulate.history: these are {count:,.0f} logs at "
            f"startup; reduce one of them, at most {MAX_SIMULATED_LOGS:,} are possible"
        )


def _workspace(file: Path, row: Mapping[str, object]) -> Mapping[str, object]:
    values = {key.replace("-", "_"): value for key, value in row.items()}
    if "api_key_file" in values:
        values["api_key_file"] = _relative(file, values["api_key_file"])
    return values


def _relative(file: Path, path: object) -> object:
    """Resolve a path in a file as Prometheus does: relative to the folder of the file."""
    return str(file.parent / path) if path and isinstance(path, str) else path


def _section_hint(name: str) -> str:
    section, _, key = name.replace("_", "-").partition(".")
    if f"{section}.{key}" in _IN_FILE:
        return f"; write it as {section}: {{{key}: ...}}"
    return suggest(name, _FILE_SECTIONS) or f"; sections are {', '.join(_FILE_SECTIONS)}"
