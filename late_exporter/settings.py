"""What a user may set, and how it becomes ``Settings``: flags win over the environment, the environment over the file.

Every value arrives as text, whichever way it came, so one parser per option serves all three ways, and every mistake
is told with the place it came from.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic import PlainValidator as Parsed
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from late_exporter.errors import ConfigError

__all__ = [
    "OPTIONS",
    "Address",
    "Option",
    "Settings",
    "Simulate",
    "Workspace",
    "load",
    "options_markdown",
    "read_key",
    "shown",
    "suggestion",
]

Loc: TypeAlias = tuple[int | str, ...]
"""Where a value is in the model, as pydantic's errors have it: section and option, or workspaces, index and key."""

REAL = ("run", "check")
EXPORTING = ("run", "check", "demo")
SIMULATING = ("demo", "simulate")
EVERY = ("run", "check", "demo", "simulate")

PREFIX = "LATE_EXPORTER_"
FEEDS = ("publishing", "connections")
INCIDENTS = ("platform-outage", "revoked-token", "rate-limit-storm", "slow-video")
RESERVED_PATHS = ("/", "/-/healthy", "/-/ready")
MAX_BUCKETS = 50
MAX_PORT = 65_535
MAX_FILE = 1 << 20
MAX_SHOWN = 100
LONG = 8
NO_KEY = (
    "no API key: set LATE_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or --api.key-file, "
    "or list workspaces in --config.file"
)
NOT_A_URL = "must be a URL like https://getlate.dev/api"
NOT_A_KEY = "a key is 1 to 512 visible ASCII characters without whitespace"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Workspace:
    """One API key, and where it is good; ``key_file`` is what to read again when the key changes."""

    name: str
    base_url: str
    key: SecretStr | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Simulate:
    """What the simulated API is like; ``history`` is in seconds."""

    listen_address: Address
    seed: int
    logs_per_day: int
    history: float
    rate_limit: int
    incidents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rest of the program gets; all times are in seconds."""

    workspaces: tuple[Workspace, ...]
    api_timeout: float
    quota_share: float
    poll_interval: float
    lookback: float
    reconcile_interval: float
    feeds: tuple[str, ...]
    state_url: str
    listen_addresses: tuple[Address, ...]
    telemetry_path: str
    duration_buckets: tuple[float, ...]
    max_label_values: int
    max_accounts: int
    created_timestamps: bool
    log_level: str
    log_format: str
    simulate: Simulate


@dataclass(frozen=True, slots=True)
class Option:
    """One option as a user sees it.

    Args:
        name: Section and option, as in ``poll.interval``.
        variable: Its environment variable.
        default: As a user would write it; None where there is none.
        metavar: What its value is; empty for a switch.
        help: One or more sentences.
        commands: Which commands have it.
        demo: The default of ``demo`` where it is another one.
        many: It may be given several times, or as a list with commas.
        flag: As in ``--poll.interval``; empty where there is none.
    """

    name: str
    variable: str
    default: str | None
    metavar: str
    help: str
    commands: tuple[str, ...]
    demo: str | None = None
    many: bool = False
    flag: str = ""

    def default_of(self, command: str) -> str | None:
        """The default that the command has."""
        return self.demo if command == "demo" and self.demo is not None else self.default


@dataclass(frozen=True, slots=True)
class _KeyFile:
    path: Path
    key: SecretStr


_UNITS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]\s]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


def _duration(low: str, high: str = "100y") -> Parsed:
    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not _seconds(low) <= seconds <= _seconds(high):
            raise ValueError(f"must be at least {low} and at most {high}")
        return seconds

    return Parsed(parse)


def _seconds(text: str) -> float:
    """A duration in Prometheus' grammar: units from large to small, each at most once, or a bare 0."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if match is None or not text:
        raise ValueError("not a duration; write it like 500ms, 30s or 1h30m")
    return sum(int(count) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True) if count)


def _whole(low: int) -> Parsed:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < low:
            raise ValueError(f"must be a whole number of at least {low}")
        return int(text)

    return Parsed(parse)


def _choice(*allowed: str) -> Parsed:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return Parsed(parse)


def _share(text: str) -> float:
    share = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0.0 < share <= 1.0:
        raise ValueError("must be a number above 0 and at most 1")
    return share


def _bucket(text: str) -> float:
    bound = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0.0 < bound < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return bound


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if list(bounds) != sorted(set(bounds)):
        raise ValueError("must be in ascending order, each bound once")
    if len(bounds) > MAX_BUCKETS:
        raise ValueError(f"at most {MAX_BUCKETS} bounds are allowed, not {len(bounds)}")
    return bounds


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _items(value: str | Sequence[str]) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    items = [item.strip() for text in texts for item in text.split(",")]
    if not any(items):
        raise ValueError("must name at least one")
    return items


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return items


def _address(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > MAX_PORT or not _is_host(match["six"], match["host"]):
        raise ValueError("not an address; write it like :10077, 127.0.0.1:10077 or [::1]:10077")
    return Address(match["six"] or match["host"], int(match["port"]))


def _is_host(six: str | None, host: str | None) -> bool:
    try:
        if six is not None:
            ipaddress.IPv6Address(six)
        elif host and re.fullmatch(r"[0-9.]+", host):
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise ValueError("must begin with / and hold only letters, digits and - . _ ~ /")
    if text in RESERVED_PATHS:
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}")
    return text


def _state_url(text: str) -> str:
    allowed = re.fullmatch(r"sqlite://(/[^?#]+)?", text) and text.isprintable() and not text.endswith("/")
    if text != "sqlite://" and not allowed:
        raise ValueError("must be sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory")
    return text


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text) or "\\" in text:
        raise ValueError(NOT_A_URL)
    if "@" in text:
        raise ValueError("must hold no user and no password; give the key with LATE_API_KEY or --api.key-file")
    if "?" in text or "#" in text:
        raise ValueError("must hold no query and no fragment")
    host = _url_host(text.partition("://")[2].partition("/")[0])
    if text.startswith("http:") and not _is_loopback(host):
        raise ValueError("must begin with https://; plain http is for a loopback address only")
    return text.rstrip("/")


def _url_host(authority: str) -> str:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not 0 < int(match["port"] or 443) <= MAX_PORT or not _is_host(match["six"], match["host"]):
        raise ValueError(NOT_A_URL)
    return str(match["six"] or match["host"])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _workspace_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits, or _ . -")
    return text


def _key(given: SecretStr) -> SecretStr:
    key = given.get_secret_value().strip()
    if not key:
        raise ValueError("is empty; " + NOT_A_KEY)
    if not re.fullmatch(r"[!-~]{1,512}", key):
        raise ValueError("not a usable key (it is not shown); " + NOT_A_KEY)
    return SecretStr(key)


def _key_file(text: str) -> _KeyFile:
    content = _content(text, 4096)
    if not content.strip():
        raise ValueError("the file is empty")
    return _KeyFile(Path(text), _key(SecretStr(content.decode("latin-1"))))


def _content(path: str, limit: int) -> bytes:
    """What is in the file, one byte more than the limit at most."""
    if not path or "\0" in path:
        raise ValueError("must be the path of a file")
    try:
        with Path(path).open("rb") as file:
            return file.read(limit + 1)
    except OSError as exc:
        raise ValueError(exc.strerror or type(exc).__name__) from exc


def read_key(path: Path) -> SecretStr:
    """The key that is in the file now; raises ConfigError."""
    try:
        return _key_file(str(path)).key
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def _option(
    default: str | None,
    metavar: str,
    help: str,  # noqa: A002 - the table's own word
    commands: tuple[str, ...] = EXPORTING,
    **more: str | bool,
) -> Any:
    seen = {"metavar": metavar, "commands": list(commands), **more}
    value: Any = () if more.get("many") and default is None else default
    extra = cast("JsonDict", seen)
    return Field(value, validate_default=default is not None, description=help, json_schema_extra=extra)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Config(_Section):
    file: str | None = _option(None, "FILE", "YAML file with options and workspaces.", EVERY)


class _Api(_Section):
    key: Annotated[SecretStr, Parsed(_key)] | None = _option(
        None,
        "KEY",
        "API key of Late. It has no flag, because every user of a machine can read the arguments of its processes.",
        REAL,
        variable="LATE_API_KEY",
        flag=False,
    )
    key_file: Annotated[_KeyFile, Parsed(_key_file)] | None = _option(
        None,
        "FILE",
        "File that holds the API key. It is read again when it changes.",
        REAL,
        variable="LATE_API_KEY_FILE",
    )
    base_url: Annotated[str, Parsed(_base_url)] = _option(
        "https://getlate.dev/api",
        "URL",
        "Where the Late API is. Plain http is allowed to a loopback address only.",
        REAL,
    )
    timeout: Annotated[float, _duration("1ms")] = _option("30s", "DURATION", "How long to wait for an answer.")
    quota_share: Annotated[float, Parsed(_share)] = _option(
        "0.5", "SHARE", "Share of the key's requests a minute that the exporter may use, above 0 and at most 1."
    )


class _Poll(_Section):
    interval: Annotated[float, _duration("100ms")] = _option("30s", "DURATION", "Time between two polls, with jitter.")
    lookback: Annotated[float, _duration("1m", "90d")] = _option(
        "7d", "DURATION", "How far back the first sync reads, 1m to 90d."
    )
    reconcile_interval: Annotated[float, _duration("100ms")] = _option(
        "10m", "DURATION", "Time between two walks that look for logs the polls have missed."
    )
    feeds: Annotated[
        tuple[Annotated[str, _choice(*FEEDS)], ...], BeforeValidator(_items), AfterValidator(_distinct)
    ] = _option("publishing,connections", "LIST", "Log lists to read.", many=True)


class _State(_Section):
    url: Annotated[str, Parsed(_state_url)] = _option(
        "sqlite:///data/late-exporter.db",
        "URL",
        "Where to remember what was counted: three slashes for a relative path, four for an absolute one, sqlite:// "
        "for memory. Where $STATE_DIRECTORY is set, as by systemd, the default is a file below it.",
        demo="sqlite://",
    )


class _Web(_Section):
    listen_address: Annotated[
        tuple[Annotated[Address, Parsed(_address)], ...], BeforeValidator(_items), AfterValidator(_distinct)
    ] = _option(":10077", "ADDRESS", "Address to serve on; may be given several times.", many=True)
    telemetry_path: Annotated[str, Parsed(_telemetry_path)] = _option("/metrics", "PATH", "Path of the metrics.")


class _Metrics(_Section):
    duration_buckets: Annotated[
        tuple[Annotated[float, Parsed(_bucket)], ...], BeforeValidator(_items), AfterValidator(_ascending)
    ] = _option(
        "0.1,0.25,0.5,1,2.5,5,10,30,60,120,300,600",
        "LIST",
        "Upper bounds of the duration histograms' buckets, in seconds.",
        many=True,
    )
    max_label_values: Annotated[int, _whole(1)] = _option(
        "50", "NUMBER", "Values a label may have beyond the known ones; what comes later is counted as other."
    )
    max_accounts: Annotated[int, _whole(0)] = _option(
        "500", "NUMBER", "Accounts with metrics of their own; what comes later is counted as other. 0 for none."
    )
    created_timestamps: Annotated[bool, Parsed(_switch)] = _option(
        "false", "", "Give counters and histograms a _created series in OpenMetrics."
    )


class _Log(_Section):
    level: Annotated[str, _choice("debug", "info", "warn", "error")] = _option(
        "info", "LEVEL", "Least level to log: debug, info, warn or error.", EVERY
    )
    format: Annotated[str, _choice("logfmt", "json")] = _option(
        "logfmt", "FORMAT", "How to log: logfmt or json.", EVERY
    )


class _Simulate(_Section):
    listen_address: Annotated[Address, Parsed(_address)] = _option(
        "127.0.0.1:10078", "ADDRESS", "Address to serve the simulated API on.", SIMULATING
    )
    seed: Annotated[int, _whole(0)] = _option("1", "NUMBER", "The same seed gives the same logs.", SIMULATING)
    logs_per_day: Annotated[int, _whole(1)] = _option("5000", "NUMBER", "Publishing logs a day.", SIMULATING)
    history: Annotated[float, _duration("0s", "90d")] = _option(
        "7d", "DURATION", "How far back logs go at the start, at most 90d.", SIMULATING
    )
    rate_limit: Annotated[int, _whole(1)] = _option(
        "600", "NUMBER", "Requests a minute allowed to a key.", SIMULATING, demo="1200"
    )
    incident: Annotated[
        tuple[Annotated[str, _choice(*INCIDENTS)], ...], BeforeValidator(_items), AfterValidator(_distinct)
    ] = _option(
        None,
        "NAME",
        f"Incident to begin with; may be given several times: {', '.join(INCIDENTS)}.",
        SIMULATING,
        many=True,
    )


class _WorkspaceRow(_Section):
    name: Annotated[str, Parsed(_workspace_name)]
    api_key_file: Annotated[_KeyFile, Parsed(_key_file)]
    api_base_url: Annotated[str, Parsed(_base_url)] | None = None


def _distinct_names(rows: tuple[_WorkspaceRow, ...]) -> tuple[_WorkspaceRow, ...]:
    if not rows:
        raise ValueError("must list at least one workspace")
    _distinct(tuple(f'the name "{row.name}"' for row in rows))
    return rows


class _Given(BaseSettings):
    """The one model behind flags, environment and file."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    config: _Config = Field(default_factory=_Config)
    api: _Api = Field(default_factory=_Api)
    poll: _Poll = Field(default_factory=_Poll)
    state: _State = Field(default_factory=_State)
    web: _Web = Field(default_factory=_Web)
    metrics: _Metrics = Field(default_factory=_Metrics)
    log: _Log = Field(default_factory=_Log)
    simulate: _Simulate = Field(default_factory=_Simulate)
    workspaces: Annotated[tuple[_WorkspaceRow, ...], AfterValidator(_distinct_names)] | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours knows what it read from which variable
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is no such file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - keys have their own option
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """One source a layer, in the order in which they win."""
        layers = cast("InitSettingsSource", init_settings).init_kwargs["layers"]
        return tuple(InitSettingsSource(settings_cls, layer.values) for layer in layers)


def _options() -> Iterator[Option]:
    for section, model in _Given.model_fields.items():
        if section == "workspaces":
            continue
        for field, info in cast("type[_Section]", model.annotation).model_fields.items():
            yield _row(section, field, info.default, info.description or "", cast("Any", info.json_schema_extra))


def _row(section: str, field: str, default: Any, help: str, more: Mapping[str, Any]) -> Option:  # noqa: A002 - as above
    name = f"{section}.{field.replace('_', '-')}"
    return Option(
        name=name,
        variable=more.get("variable", f"{PREFIX}{section}__{field}".upper()),
        default=default or None,
        metavar=more["metavar"],
        help=help,
        commands=tuple(more["commands"]),
        demo=more.get("demo"),
        many=more.get("many", False),
        flag=f"--{name}" if more.get("flag", True) else "",
    )


OPTIONS: tuple[Option, ...] = tuple(_options())

_BY_NAME = {option.name: option for option in OPTIONS}
_BY_VARIABLE = {option.variable: option for option in OPTIONS}
_SECTIONS = {name.partition(".")[0] for name in _BY_NAME} - {"config"}
_IN_FILE = [option.name for option in OPTIONS if option.flag and option.name != "config.file"]

# Kubernetes gives every pod variables for every Service: one named late-exporter must not stop the exporter.
_SERVICE_VARIABLE = re.compile(
    r"LATE_EXPORTER_(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What was probably meant, as the end of a message; empty where nothing is close.

    Args:
        name: What was written.
        known: What could have been.
        prefix: What names have in common, which makes none of them close.
    """
    names = {item.removeprefix(prefix): item for item in known}
    close = difflib.get_close_matches(name.removeprefix(prefix), sorted(names), n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""


def shown(value: object, *, url: bool = False) -> str:
    """A value as messages quote it: without what may be a key, and cut where it is long; empty for what is no text."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str):
        return ""
    text = re.sub(r"sk_[0-9A-Za-z]{8,}", "***", value)
    text = _masked(text) if url or "://" in text else text
    return " " + json.dumps(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...", ensure_ascii=False)


def _masked(url: str) -> str:
    """The URL without user, password, query and fragment; where one cannot tell them apart, without all of them."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    if "@" in rest and re.search(r"[?#]", rest):
        return f"{scheme}{slashes}***"
    rest = re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)
    return scheme + slashes + re.sub(r"([?#]).+", r"\1***", rest, flags=re.DOTALL)


class _Layer:
    """What one source gives to a command: values nested as the model is, and the place of each."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.values: dict[str, Any] = {}
        self.places: dict[Loc, str] = {}

    def put(self, option: Option, value: object, place: str) -> None:
        if self.command in option.commands:
            section, field = option.name.replace("-", "_").split(".")
            self.values.setdefault(section, {})[field] = value
            self.places[section, field] = place


class _Document:
    """A YAML file, read into a layer as far as it is right.

    Args:
        path: As the user gave it.
        layer: Takes the values.
        problems: Takes the mistakes.
    """

    def __init__(self, path: str, layer: _Layer, problems: list[str]) -> None:
        self.path = path
        self.layer = layer
        self.problems = problems

    def read(self, content: bytes) -> bool:
        """Whether it could be read at all."""
        try:
            root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
            self.problems.append(self._broken(exc))
            return False
        if root is not None:
            self._read_root(root)
        return True

    def _broken(self, exc: Exception) -> str:
        match exc:
            case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
                return f"{self.path}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {exc.problem}"
            case RecursionError():
                return f"{self.path}: nested too deeply"
            case _:
                return f"{self.path}: not a text file in UTF-8"

    def _read_root(self, root: yaml.Node) -> None:
        if not isinstance(root, yaml.MappingNode):
            self.problems.append(f"{self.path}: must be a mapping of sections, as in poll: {{interval: 30s}}")
            return
        for name, key, node in self._pairs(root, ""):
            if name == "workspaces":
                self._read_workspaces(key, node)
            elif name in _SECTIONS:
                self._read_section(name, key, node)
            else:
                self._complain(key, key.value, "unknown" + suggestion(name, [*_SECTIONS, "workspaces"]))

    def _read_section(self, section: str, key: yaml.Node, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null"):
            return
        if not isinstance(node, yaml.MappingNode):
            self._complain(key, section, "must be a mapping of options")
            return
        for name, name_key, value in self._pairs(node, f"{section}."):
            option = f"{section}.{name.replace('_', '-')}"
            if option in _IN_FILE:
                self._read_option(_BY_NAME[option], name_key, value)
            else:
                self._complain(name_key, f"{section}.{name_key.value}", "unknown" + suggestion(option, _IN_FILE))

    def _read_option(self, option: Option, key: yaml.Node, node: yaml.Node) -> None:
        match node:
            case yaml.ScalarNode():
                value = self._beside(node.value) if option.name == "api.key-file" else node.value
                self.layer.put(option, value, self._place(key, option.name))
            case yaml.SequenceNode() if option.many and all(isinstance(item, yaml.ScalarNode) for item in node.value):
                self.layer.put(option, [item.value for item in node.value], self._place(key, option.name))
            case _:
                self._complain(
                    key, option.name, "must be one value or a list of values" if option.many else "must be one value"
                )

    def _read_workspaces(self, key: yaml.Node, node: yaml.Node) -> None:
        if self.layer.command not in REAL:
            return
        self.layer.places["workspaces",] = self._place(key, "workspaces")
        if not isinstance(node, yaml.SequenceNode):
            self._complain(key, "workspaces", "must be a list of name, api_key_file and perhaps api_base_url")
            return
        self.layer.values["workspaces"] = [self._workspace(index, item) for index, item in enumerate(node.value)]

    def _workspace(self, index: int, node: yaml.Node) -> dict[str, str]:
        here = f"workspaces[{index}]"
        row: dict[str, str] = {}
        self.layer.places["workspaces", index] = self._place(node, here)
        if not isinstance(node, yaml.MappingNode):
            node = yaml.MappingNode("", [], node.start_mark)
        for name, key, value in self._pairs(node, f"{here}."):
            if name not in _WorkspaceRow.model_fields:
                self._complain(key, f"{here}.{key.value}", "unknown" + suggestion(name, _WorkspaceRow.model_fields))
                continue
            self.layer.places["workspaces", index, name] = self._place(key, f"{here}.{name}")
            text = value.value if isinstance(value, yaml.ScalarNode) else ""
            row[name] = self._beside(text) if name == "api_key_file" else text
        return row

    def _pairs(self, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
        """Keys in snake case with their nodes, each key once."""
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain(key, prefix.rstrip(".") or "key", "a key must be one word")
                continue
            name = key.value.replace("-", "_")
            if name in lines:
                self._complain(key, prefix + key.value, f"given twice, first in line {lines[name]}")
                continue
            lines[name] = key.start_mark.line + 1
            yield name, key, value

    def _beside(self, path: str) -> str:
        """Paths in a file are relative to the file, as in Prometheus' own."""
        return str(Path(self.path).parent / path) if path else ""

    def _place(self, node: yaml.Node, name: str) -> str:
        return f"{self.path}:{node.start_mark.line + 1}: {name}"

    def _complain(self, node: yaml.Node, name: str, reason: str) -> None:
        self.problems.append(f"{self._place(node, name)}: {reason}")


class _Loading:
    """One reading of all sources for one command."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.problems: list[str] = []
        self.all_read = True
        self.flags, self.environment, self.file, self.defaults = (_Layer(command) for _ in range(4))

    @property
    def layers(self) -> tuple[_Layer, ...]:
        """The layers in the order in which they win."""
        return self.flags, self.environment, self.file, self.defaults

    @property
    def places(self) -> dict[Loc, str]:
        """Where each value came from."""
        return {loc: place for layer in reversed(self.layers) for loc, place in layer.places.items()}

    def read_flags(self, flags: Mapping[str, Sequence[str]]) -> None:
        for name, texts in flags.items():
            option = _BY_NAME[name]
            if len(texts) > 1 and not option.many:
                self.problems.append(f"{option.flag}: given {len(texts)} times")
            self.flags.put(option, list(texts) if option.many else texts[-1], option.flag)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            if variable in _BY_VARIABLE and environ[variable]:
                self._read_variable(_BY_VARIABLE[variable], environ[variable])
            elif variable.startswith(PREFIX) and not self._is_known(variable):
                self.problems.append(f"{variable}: unknown variable{suggestion(variable, _BY_VARIABLE, PREFIX)}")

    def _read_variable(self, option: Option, text: str) -> None:
        value = SecretStr(text) if option.name == "api.key" else text
        self.environment.put(option, value, option.variable)

    @staticmethod
    def _is_known(variable: str) -> bool:
        return variable in _BY_VARIABLE or ("__" not in variable and bool(_SERVICE_VARIABLE.fullmatch(variable)))

    def read_file(self) -> None:
        layer = next((layer for layer in self.layers if "config" in layer.values), None)
        if layer is None:
            return
        path, place = layer.values["config"]["file"], layer.places["config", "file"]
        try:
            content = _content(path, MAX_FILE)
            if len(content) > MAX_FILE:
                raise ValueError("larger than 1 MiB")  # noqa: TRY301 - told as the other reasons are
        except ValueError as exc:
            self.problems.append(f"{place}{shown(path)}: {exc}")
            self.all_read = False
        else:
            self.all_read = _Document(path, self.file, self.problems).read(content)

    def read_defaults(self, environ: Mapping[str, str]) -> None:
        """Only where a command or systemd has others than the model."""
        directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
        if directory:
            self.defaults.put(_BY_NAME["state.url"], f"sqlite:///{directory}/late-exporter.db", "STATE_DIRECTORY")
        for option in OPTIONS:
            if self.command == "demo" and option.demo is not None:
                self.defaults.put(option, option.demo, option.flag)

    def validated(self) -> _Given | None:
        try:
            return _Given(**cast("dict[str, Any]", {"layers": self.layers}))
        except ValidationError as exc:
            self.problems.extend(self._problem(error) for error in exc.errors())
            return None

    def _problem(self, error: ErrorDetails) -> str:
        loc, places = error["loc"], self.places
        place = next(places[loc[:size]] for size in range(len(loc), 0, -1) if loc[:size] in places)
        if error["type"] == "missing":
            return f"{place}: {loc[-1]} is missing"
        value = shown(error["input"], url=str(loc[-1]).endswith("url"))
        return f"{place}{value}: {error['ctx']['error']}"

    def check_keys(self) -> None:
        places = self.places
        keys = [places[loc] for loc in (("api", "key"), ("api", "key_file")) if loc in places]
        if ("workspaces",) in places:
            reason = f"drop it, each workspace in {self.places['workspaces',]} has its own api_key_file"
            self.problems.extend(f"{key}: {reason}" for key in keys)
        elif len(keys) > 1:
            self.problems.append(f"{' and '.join(keys)}: two keys are given; drop one of them")
        elif not keys and self.command in REAL and self.all_read:
            self.problems.append(NO_KEY)


def load(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command; raises ConfigError with every mistake there is.

    Args:
        command: Options that it does not have are left out, and their files unread.
        flags: Texts by the option's name, as in ``{"poll.interval": ["30s"]}``.
        environ: The environment; None is that of the process.
    """
    environ = os.environ if environ is None else environ
    loading = _Loading(command)
    loading.read_flags(flags)
    loading.read_environment(environ)
    loading.read_file()
    loading.read_defaults(environ)
    given = loading.validated()
    loading.check_keys()
    if given is None or loading.problems:
        raise ConfigError(*_without(environ.get("LATE_API_KEY", "").strip(), loading.problems)) from None
    return _settings(given)


def _without(key: str, problems: list[str]) -> list[str]:
    """The problems without a key that was given by mistake as something else too; a short one hides too much."""
    return [problem.replace(key, "***") for problem in problems] if len(key) >= LONG else problems


def _settings(given: _Given) -> Settings:
    return Settings(
        workspaces=_workspaces(given),
        api_timeout=given.api.timeout,
        quota_share=given.api.quota_share,
        poll_interval=given.poll.interval,
        lookback=given.poll.lookback,
        reconcile_interval=given.poll.reconcile_interval,
        feeds=given.poll.feeds,
        state_url=given.state.url,
        listen_addresses=given.web.listen_address,
        telemetry_path=given.web.telemetry_path,
        duration_buckets=given.metrics.duration_buckets,
        max_label_values=given.metrics.max_label_values,
        max_accounts=given.metrics.max_accounts,
        created_timestamps=given.metrics.created_timestamps,
        log_level=given.log.level,
        log_format=given.log.format,
        simulate=_simulate(given.simulate),
    )


def _workspaces(given: _Given) -> tuple[Workspace, ...]:
    api = given.api
    if given.workspaces is not None:
        return tuple(
            Workspace(row.name, row.api_base_url or api.base_url, row.api_key_file.key, row.api_key_file.path)
            for row in given.workspaces
        )
    if api.key_file is not None:
        return (Workspace("default", api.base_url, api.key_file.key, api.key_file.path),)
    return (Workspace("default", api.base_url, api.key),)


def _simulate(given: _Simulate) -> Simulate:
    return Simulate(
        listen_address=given.listen_address,
        seed=given.seed,
        logs_per_day=given.logs_per_day,
        history=given.history,
        rate_limit=given.rate_limit,
        incidents=given.incident,
    )


def options_markdown() -> str:
    """The table of options for the README."""
    rows = ["| flag | variable | default | commands | |", "|---|---|---|---|---|"]
    rows.extend(f"| {' | '.join(_cells(option))} |" for option in OPTIONS)
    return "\n".join(rows)


def _cells(option: Option) -> Iterator[str]:
    yield f"`{option.flag}`" if option.flag else "-"
    yield f"`{option.variable}`"
    demo = f" (`demo`: `{option.demo}`)" if option.demo is not None else ""
    yield (f"`{option.default}`" if option.default is not None else "-") + demo
    yield ", ".join(option.commands)
    yield option.help.replace("|", "\\|")
