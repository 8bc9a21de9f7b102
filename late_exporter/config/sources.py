"""Read the settings: flags win over the environment, the environment over the configuration file.

All mistakes of all sources are reported at once, each with its place: the flag, the variable, or the file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from late_exporter.config.commands import API_COMMANDS, COMMANDS, EXPORTER_COMMANDS, SERVER_COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS, CommandFlags
from late_exporter.config.options import PREFIX, Location, Option, suggest
from late_exporter.config.settings import OPTIONS, Settings, WorkspaceSettings
from late_exporter.config.types import (
    EMPTY_VALUES,
    Address,
    Secret,
    UnixPath,
    distinct,
    parse_listen_address,
    quote,
    read_file,
    split_items,
)
from late_exporter.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from late_exporter.config.web import WebConfig
    from late_exporter.config.yaml_file import YamlFile

MIN_MASKED_LENGTH = 8
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)
WORKSPACES = "must be a list of name, api_key_file and optionally api_base_url and profile_id"

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


def load(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a command; raise ConfigError with every mistake.

    Options of other commands are ignored, and their files not read. Flags are named as in
    ``{"poll.interval": ["30s"]}``.
    """
    from late_exporter.config.validation import validate_settings  # noqa: PLC0415 - pydantic takes long to import

    environ = os.environ if environ is None else environ
    sources = _read_sources(command, flags, environ)
    places = {location: place for source in reversed(sources) for location, place in source.places.items()}
    problems = [problem for source in sources for problem in source.problems]
    settings = None
    try:
        settings = validate_settings([*(source.values for source in sources), _defaults(OPTIONS)], places)
    except ConfigError as exc:
        problems += exc.problems
    problems += _check_keys(command, places, is_broken=any(source.is_broken for source in sources))
    web_config, web_problems = _load_web_config(command, sources)
    problems += web_problems
    problems += _check_webhooks(settings, places) if settings else ()
    if settings is not None and not web_problems and command in SERVER_COMMANDS:
        problems += _check_webhook_auth(settings, web_config, places)
    if settings is None or problems:
        raise ConfigError(*_mask_keys(environ, problems))
    return settings._replace(loaded_web_config=web_config)


def health_check_target(flags: Mapping[str, Sequence[str]]) -> tuple[Address | UnixPath, bool] | None:
    """Return the first address of the configuration and whether TLS may be in use, or None if there is a mistake.

    The health check runs every few seconds, so this parses only what it needs, without pydantic.
    """
    sources = _read_sources("healthcheck", flags, os.environ)
    if any(source.problems for source in sources):
        return None
    addresses, _ = _first(sources, "web.listen-address") or (_BY_NAME["web.listen-address"].default, "")
    try:
        address: Address | UnixPath = distinct(tuple(map(parse_listen_address, split_items(addresses))))[0]
    except ValueError:
        return None
    return address, _first(sources, "web.config.file") is not None


def parse_flags(command: str, flags: Mapping[str, Sequence[str]]) -> CommandFlags:
    """Return the flags of a command, given as in ``{"limit": ["5"]}``; raise ConfigError with every mistake."""
    from late_exporter.config.validation import validate_flags  # noqa: PLC0415 - as above

    source = _from_flags(command, flags, COMMAND_FLAGS)
    problems = source.problems + _check_format(command, flags)
    values = _defaults(COMMAND_FLAGS) | _from_defaults(command, COMMAND_FLAGS).values | source.values
    try:
        command_flags = validate_flags(values, source.places)
    except ConfigError as exc:
        raise ConfigError(*problems, *exc.problems) from None
    if problems:
        raise ConfigError(*problems)
    return command_flags


def parse_format(command: str, flags: Mapping[str, Sequence[str]]) -> str:
    """Return the output format of a command that has no other flags; raise ConfigError with every mistake."""
    source = _from_flags(command, flags, COMMAND_FLAGS)
    if problems := source.problems + _check_format(command, flags):
        raise ConfigError(*problems)
    formats = COMMANDS[command].formats
    format_name: str = source.values.get("format", formats[0] if formats else "")
    return format_name


def _check_format(command: str, flags: Mapping[str, Sequence[str]]) -> list[str]:
    formats = COMMANDS[command].formats
    return [
        f"--format{quote(text)}: must be one of {', '.join(formats)}"
        for text in flags.get("format", ())
        if text not in formats
    ]


def _read_sources(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> list[ConfigSource]:
    """Return all sources, the first of which takes precedence."""
    sources = [_from_flags(command, flags, OPTIONS), _from_environment(command, environ)]
    return [
        *sources,
        _from_file(command, sources),
        _from_defaults(command, OPTIONS),
        _from_systemd(command, environ),
    ]


def _first(sources: Sequence[ConfigSource], name: str) -> tuple[Any, str] | None:
    """Return the value of an option and its place, or None if no source has it."""
    return next(filter(None, (source.get(name) for source in sources)), None)


def _defaults(options: Sequence[Option]) -> dict[str, Any]:
    """Return the defaults of all options, whichever command has them."""
    defaults: dict[str, Any] = {}
    for option in options:
        values = defaults.setdefault(option.section, {}) if option.section else defaults
        values[option.path[-1]] = option.default
    return defaults


def _from_flags(command: str, flags: Mapping[str, Sequence[str]], options: Sequence[Option]) -> ConfigSource:
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
        if option is not None and text:
            if variable == option.alias and environ.get(option.variable, text) != text:
                source.problems.append(f"{option.variable} and {variable}: two keys are given; drop one of them")
            source.put(option, Secret(text) if option.secret else text, variable)
        elif option is None and variable.startswith(PREFIX) and not re.fullmatch(_SERVICE_VARIABLE, variable):
            source.problems.append(f"{variable}: unknown variable{suggest(variable, _BY_VARIABLE, PREFIX)}")
    return source


def _from_file(command: str, sources: Sequence[ConfigSource]) -> ConfigSource:
    source = ConfigSource(command)
    path, place = _first(sources, "config.file") or ("", "")
    if not place:
        return source
    from pathlib import Path  # noqa: PLC0415 - not needed without a file

    from late_exporter.config.yaml_file import YamlFile  # noqa: PLC0415 - as above

    try:
        file = YamlFile(path, read_file(path), lambda key: key.replace("-", "_"))
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
            file.reject((section,), "unknown" + suggest(section, [*_SECTIONS, "workspaces"]))
        elif isinstance(value, dict):
            for key in value:
                _read_option(file, path, source, (section, key))
        elif value not in EMPTY_VALUES:
            file.reject((section,), "must be a mapping of options")


def _read_option(file: YamlFile, path: Path, source: ConfigSource, keys: tuple[str, str]) -> None:
    section, key = keys
    name = f"{section}.{key.replace('_', '-')}"
    option, value = _IN_FILE.get(name), file.values[section][key]
    if option is None:
        file.reject((section, key.replace("_", "-")), "unknown" + suggest(name, _IN_FILE))
    elif isinstance(value, str):
        text = _relative_to(path, value) if option.metavar == "FILE" else value
        source.put(option, text, file.place(keys, option.name))
    elif option.many and isinstance(value, list) and all(isinstance(item, str) for item in value):
        source.put(option, value, file.place(keys, option.name))
    else:
        kinds = "one value or a list of values" if option.many else "one value"
        file.reject(keys, f"must be {kinds}", name=option.name)


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


def _from_defaults(command: str, options: Sequence[Option]) -> ConfigSource:
    """Return the defaults of the command that differ from those of the model."""
    source = ConfigSource(command)
    for option in options:
        if command in option.command_defaults:
            source.put(option, option.command_defaults[command], option.flag)
    return source


def _load_web_config(command: str, sources: Sequence[ConfigSource]) -> tuple[WebConfig | None, Sequence[str]]:
    path, place = _first(sources, "web.config.file") or ("", "")
    if not place or command not in EXPORTER_COMMANDS:
        return None, ()
    from pathlib import Path  # noqa: PLC0415 - as above

    from late_exporter.config import web_file  # noqa: PLC0415 - as above

    try:
        read_file(path, 0)
        return web_file.load(Path(path)), ()
    except ConfigError as exc:
        return None, exc.problems
    except ValueError as exc:
        return None, [f"{place}{quote(path)}: {exc}"]


def _check_keys(command: str, places: Mapping[Location, str], *, is_broken: bool) -> Iterator[str]:
    keys = [places["api", name] for name in ("key", "key_file") if ("api", name) in places]
    if ("workspaces",) in places:
        reason = f"drop it, each workspace in {places['workspaces',]} has its own api_key_file"
        yield from (f"{key}: {reason}" for key in keys)
        if ("api", "profile_id") in places:
            yield f"{places['api', 'profile_id']}: drop it, workspaces in {places['workspaces',]} have their own"
    elif len(keys) > 1:
        yield f"{' and '.join(keys)}: two keys are given; drop one of them"
    elif not keys and command in API_COMMANDS and not is_broken:
        yield NO_KEY


def _check_webhooks(settings: Settings, places: Mapping[Location, str]) -> Iterator[str]:
    path, interval = settings.webhook.path, settings.webhook.poll_interval
    if path is not None:
        place = f"{places['webhook', 'path']}{quote(path)}"
        if settings.webhook.secret_file is None:
            yield f"{place}: name a file that holds the secret of the webhooks with --webhook.secret-file"
        if f"{settings.web.telemetry_path}/".startswith(f"{path}/"):
            yield f"{place}: must not be --web.telemetry-path{quote(settings.web.telemetry_path)} or its parent"
    if interval is not None and interval < settings.poll.interval:
        place = f"{places['webhook', 'poll_interval']}{quote(f'{interval:g}s')}"
        yield f"{place}: must be at least --poll.interval, {settings.poll.interval:g}s"


def _check_webhook_auth(
    settings: Settings, web_config: WebConfig | None, places: Mapping[Location, str]
) -> Iterator[str]:
    if settings.webhook.require_auth and (web_config is None or not web_config.users):
        yield f"{places['webhook', 'require_auth']}: needs basic_auth_users in the file of --web.config.file"


def _mask_keys(environ: Mapping[str, str], problems: Sequence[str]) -> list[str]:
    """Mask API keys that were also set as something else; masking a short one would hide too much."""
    messages = list(problems)
    for name in (name for option in OPTIONS if option.secret for name in (option.variable, option.alias)):
        key = environ.get(name, "").strip()
        if len(key) >= MIN_MASKED_LENGTH:
            messages = [problem.replace(key, "***") for problem in messages]
    return messages
