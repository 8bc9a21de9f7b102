"""The table of options: each row has type, default and help, whichever way the value arrives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from late_exporter.config.types import (
    RATE_LIMITS,
    BaseUrl,
    Bool,
    Bounds,
    CommaSeparated,
    File,
    Key,
    KeyFile,
    ListenAddress,
    RateLimit,
    Share,
    StateUrl,
    TcpAddress,
    TelemetryPath,
    WebhookPath,
    WorkspaceName,
    choice,
    distinct,
    duration,
    integer,
)

__all__ = [
    "EXPORTING",
    "OPTIONS",
    "PREFIX",
    "REAL",
    "Given",
    "Layer",
    "Loc",
    "Option",
    "WorkspaceRow",
    "option",
    "options_markdown",
    "suggestion",
    "table",
]

Loc: TypeAlias = tuple[int | str, ...]
"""Where a value is in the model, as pydantic's errors have it: the field, or workspaces, index and key."""

ONCALL = ("post", "logs", "audit", "backfill")
"""The commands that ask the API or the state something, and end."""

RECKONING = ("audit", "backfill")
"""Those that read the state."""

REAL = ("run", "check", "textfile", *ONCALL)
EXPORTING = ("run", "check", "demo", "textfile")
SIMULATING = ("demo", "simulate")
SERVING = ("run", "check", "demo", "healthcheck")
EVERY = ("run", "check", "demo", "simulate", "textfile", "state", *ONCALL)

PREFIX = "LATE_EXPORTER_"
FEEDS = ("publishing", "connections")
EVERY_FEED = (*FEEDS, "webhooks", "messaging", "workflow_event", "api_request")
GENERATIONS = ("auto", "late", "zernio")
LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json")
PLANS = ", ".join(f"{plan} ({limit})" for plan, limit in RATE_LIMITS.items())
INCIDENTS = ("platform-outage", "revoked-token", "rate-limit-storm", "slow-video")


@dataclass(frozen=True, slots=True)
class Option:
    """One option as a user sees it.

    Args:
        name: Section and option, as in ``poll.interval``.
        variable: Its environment variable.
        alias: Another variable that stands for it.
        default: As a user would write it; None where there is none.
        metavar: What its value is; empty for a switch.
        help: One or more sentences.
        commands: Which commands have it.
        others: Defaults of commands that have another one.
        many: It may be given several times, or as a list with commas.
        secret: It comes from the environment only.
        choices: The values there are, where they are a few words.
    """

    name: str
    variable: str
    default: str | None
    metavar: str
    help: str
    commands: tuple[str, ...]
    others: Mapping[str, str] = field(default_factory=dict)
    many: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    alias: str = ""

    @property
    def section(self) -> str:
        """As in ``poll``."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """As in ``interval``: what it is called within its section of a file."""
        return self.name.partition(".")[2].replace(".", "-")

    @property
    def flag(self) -> str:
        """As in ``--poll.interval``; empty where there is none."""
        return "" if self.secret else f"--{self.name}"

    def default_of(self, command: str) -> str | None:
        """The default that the command has."""
        return self.others.get(command, self.default)


def option(
    default: str | None,
    metavar: str,
    help: str,  # noqa: A002 - the table's own word
    commands: tuple[str, ...] = EXPORTING,
    *,
    name: str = "",
    variable: str = "",
    **more: Any,
) -> Any:
    """A field of a model that is an option; see Option."""
    extra: Any = {"option": Option(name, variable, default, metavar, help, commands, **more)}
    value: Any = () if "many" in more and default is None else default
    return Field(value, validate_default=default is not None, json_schema_extra=extra)


class WorkspaceRow(BaseModel):
    """One item of ``workspaces``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: WorkspaceName
    api_key_file: KeyFile
    api_base_url: BaseUrl | None = None


def _named_apart(rows: tuple[WorkspaceRow, ...]) -> tuple[WorkspaceRow, ...]:
    if not rows:
        raise ValueError("must list at least one workspace")
    distinct(tuple(f'the name "{row.name}"' for row in rows))
    return rows


class Given(BaseSettings):
    """The one model behind flags, environment and file, made of ``layers`` in the order in which they win."""

    config_file: str | None = option(None, "FILE", "YAML file with options and workspaces.", (*EVERY, "healthcheck"))
    api_key: Key | None = option(
        None,
        "KEY",
        "API key of Late. It has no flag, because every user of a machine can read the arguments of its processes.",
        REAL,
        variable="LATE_API_KEY",
        alias="ZERNIO_API_KEY",
        secret=True,
    )
    api_key_file: KeyFile | None = option(
        None,
        "FILE",
        "File that holds the API key. It is read again when it changes.",
        REAL,
        variable="LATE_API_KEY_FILE",
    )
    api_base_url: BaseUrl = option(
        "https://getlate.dev/api",
        "URL",
        "Where the Late API is. Plain http is allowed to a loopback address only.",
        REAL,
    )
    api_generation: Annotated[str, choice(*GENERATIONS)] = option(
        "auto",
        "NAME",
        "Generation of the API: late, zernio, or auto to ask which one it is.",
        REAL,
        choices=GENERATIONS,
    )
    api_timeout: Annotated[float, duration("1ms")] = option(
        "30s", "DURATION", "How long to wait for an answer.", (*EXPORTING, *ONCALL)
    )
    api_quota_share: Share = option(
        "0.5",
        "SHARE",
        "Share of the key's requests a minute that the exporter may use, above 0 and at most 1.",
        (*EXPORTING, *ONCALL),
    )
    poll_interval: Annotated[float, duration("100ms")] = option(
        "30s",
        "DURATION",
        "Time between two polls, with jitter.",
        (*EXPORTING, "logs", "audit"),
        others={"demo": "5s", "logs": "5s"},
    )
    poll_lookback: Annotated[float, duration("1m", "90d")] = option(
        "7d", "DURATION", "How far back the first sync reads, 1m to 90d."
    )
    poll_reconcile_interval: Annotated[float, duration("100ms")] = option(
        "10m", "DURATION", "Time between two walks that look for logs the polls have missed."
    )
    # Daily by default: it costs less in a day than the reconcile walk in ten minutes, and only what runs can alarm.
    poll_audit_interval: Annotated[float, duration("0s")] = option(
        "1d", "DURATION", "Time between two audits of all that was counted against all that the API shows; 0s for none."
    )
    poll_feeds: CommaSeparated[Annotated[str, choice(*EVERY_FEED)]] = option(
        "publishing,connections",
        "LIST",
        "Log lists to read; webhooks, messaging, workflow_event and api_request are of generation zernio only.",
        (*EXPORTING, *RECKONING),
        many=True,
        choices=EVERY_FEED,
    )
    state_url: StateUrl = option(
        "sqlite:///data/late-exporter.db",
        "URL",
        "Where to remember what was counted: three slashes for a relative path, four for an absolute one, sqlite:// "
        "for memory. Where $STATE_DIRECTORY is set, as by systemd, the default is a file below it.",
        (*EXPORTING, *RECKONING, "state"),
        others={"demo": "sqlite://"},
    )
    web_listen_address: CommaSeparated[ListenAddress] = option(
        ":10077",
        "ADDRESS",
        "Address to serve on, or unix: and a path; may be given several times. Sockets that systemd passes on are "
        "served instead.",
        SERVING,
        many=True,
    )
    web_systemd_socket: Bool = option("false", "", "Do not start without sockets from systemd.")
    web_telemetry_path: TelemetryPath = option("/metrics", "PATH", "Path of the metrics.")
    web_config_file: File | None = option(
        None,
        "FILE",
        "YAML file with TLS, users, headers and limits, in the format of the exporter-toolkit. It is read again when "
        "it or a certificate changes.",
        SERVING,
        name="web.config.file",
    )
    web_enable_lifecycle: Bool = option(
        "false", "", "Reload on POST /-/reload and stop on POST /-/quit. SIGHUP reloads in any case."
    )
    webhook_path: WebhookPath | None = option(
        None,
        "PATH",
        "Path at which Late's webhooks are taken, as in /webhook; what a workspace alone is told is posted to its name "
        "below. Needs --webhook.secret-file.",
    )
    webhook_secret_file: KeyFile | None = option(
        None,
        "FILE",
        "File that holds the secret with which webhooks are signed. It is read again when it changes.",
    )
    webhook_replay_window: Annotated[float, duration("1s", "1d")] = option(
        "5m",
        "DURATION",
        "How far from now the time of a webhook may be; what is further away, or comes twice, is refused.",
    )
    webhook_poll_interval: Annotated[float, duration("100ms")] | None = option(
        None,
        "DURATION",
        "Time between two polls while webhooks come; by default --poll.interval.",
        (*EXPORTING, "audit"),
    )
    metrics_duration_buckets: Bounds = option(
        "0.1,0.25,0.5,1,2.5,5,10,30,60,120,300,600",
        "LIST",
        "Upper bounds of the duration histograms' buckets, in seconds.",
        (*EXPORTING, "backfill"),
        many=True,
    )
    metrics_max_label_values: Annotated[int, integer(1)] = option(
        "50", "NUMBER", "Values a label may have beyond the known ones; what comes later is counted as other."
    )
    metrics_max_accounts: Annotated[int, integer(0)] = option(
        "500",
        "NUMBER",
        "Accounts with metrics of their own; what comes later is counted as other. 0 for none.",
        (*EXPORTING, "backfill"),
    )
    metrics_created_timestamps: Bool = option(
        "false", "", "Give counters and histograms a _created series in OpenMetrics."
    )
    log_level: Annotated[str, choice(*LEVELS)] = option(
        "info", "LEVEL", "Least level to log: debug, info, warn or error.", EVERY, choices=LEVELS
    )
    log_format: Annotated[str, choice(*FORMATS)] = option(
        "logfmt", "FORMAT", "How to log: logfmt or json.", EVERY, choices=FORMATS
    )
    simulate_listen_address: TcpAddress = option(
        "127.0.0.1:10078", "ADDRESS", "Address to serve the simulated API on.", SIMULATING
    )
    simulate_seed: Annotated[int, integer(0)] = option("1", "NUMBER", "The same seed gives the same logs.", SIMULATING)
    simulate_logs_per_day: Annotated[int, integer(1)] = option(
        "5000", "NUMBER", "Publishing logs a day.", SIMULATING, others={"demo": "20000"}
    )
    simulate_history: Annotated[float, duration("0s", "90d")] = option(
        "7d", "DURATION", "How far back logs go at the start, at most 90d.", SIMULATING, others={"demo": "3d"}
    )
    simulate_rate_limit: RateLimit = option(
        "600",
        "LIMIT",
        f"Requests a minute allowed to a key, or a plan: {PLANS}.",
        SIMULATING,
        others={"demo": "6000"},
    )
    simulate_incident: CommaSeparated[Annotated[str, choice(*INCIDENTS)]] = option(
        None,
        "NAME",
        f"Incident to begin with; may be given several times: {', '.join(INCIDENTS)}.",
        SIMULATING,
        many=True,
        choices=INCIDENTS,
    )
    workspaces: Annotated[tuple[WorkspaceRow, ...], AfterValidator(_named_apart)] | None = None

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers in place of pydantic's own sources, which could not tell where a value came from."""
        return tuple(InitSettingsSource(settings_cls, layer.values) for layer in init_settings.init_kwargs["layers"])


def table(model: type[BaseModel], *, variables: bool) -> Iterator[Option]:
    """The options of a model's fields; without variables they are those of commands, and have no section."""
    for field_name, info in model.model_fields.items():
        extra: Any = info.json_schema_extra
        if extra is None:
            continue
        row: Option = extra["option"]
        if not variables:
            yield replace(row, name=field_name.replace("_", "-"))
            continue
        section, _, key = field_name.partition("_")
        variable = row.variable or f"{PREFIX}{section}__{key}".upper()
        yield replace(row, name=row.name or f"{section}.{key.replace('_', '-')}", variable=variable)


OPTIONS = tuple(table(Given, variables=True))


@dataclass(slots=True)
class Layer:
    """What one source gives to a command; a broken one may hold more than could be read."""

    command: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Loc, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: bool = False

    def put(self, option: Option, value: object, place: str) -> None:
        """Take the value of an option."""
        if self.command in option.commands:
            name = option.name.replace(".", "_").replace("-", "_")
            self.values[name] = value
            self.places[name,] = place


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What was probably meant, as the end of a message; a prefix that all have makes none of them close."""
    names = {item.removeprefix(prefix): item for item in known}
    close = difflib.get_close_matches(name.removeprefix(prefix), sorted(names), n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""


def options_markdown() -> str:
    """The table of options for the README."""
    rows = ["| flag | variable | default | commands | |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        flag = f"`{option.flag}`" if option.flag else "-"
        default = f"`{option.default}`" if option.default is not None else "-"
        others = ", ".join(f"`{command}`: `{value}`" for command, value in option.others.items())
        commands, meaning = ", ".join(option.commands), option.help.replace("|", "\\|")
        default += f" ({others})" if others else ""
        variables = " or ".join(f"`{name}`" for name in (option.variable, option.alias) if name)
        rows.append(f"| {flag} | {variables} | {default} | {commands} | {meaning} |")
    return "\n".join(rows)
