"""The sections of options about what is served, pushed, logged and simulated; see ``late_exporter.config.settings``."""

# Annotations are evaluated: they are read as data.
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

from late_exporter.config.commands import (
    ALL_COMMANDS,
    EXPORTER_COMMANDS,
    SERVER_COMMANDS,
    SIMULATOR_COMMANDS,
)
from late_exporter.config.events import EventOutput
from late_exporter.config.named_lists import FamilyBuckets, FamilyName, UserWorkspaces
from late_exporter.config.options import option
from late_exporter.config.parsers import duration, integer
from late_exporter.config.types import (
    Bool,
    Bounds,
    CommaSeparated,
    HttpPath,
    KeyFile,
    ListenAddress,
    TcpAddress,
    TelemetryPath,
    WebhookPath,
)

Incident: TypeAlias = Literal[
    "platform-outage",
    "revoked-token",
    "rate-limit-storm",
    "slow-video",
    "scheduler-stuck",
    "account-cooldown",
    "suspended",
    "spend-cap",
    "webhook-disabled",
]


class WebSettings(NamedTuple):
    """Section ``web``."""

    listen_address: CommaSeparated[ListenAddress] = option(
        ":10077",
        "ADDRESS",
        "Address to serve on, or unix: and a path; may be repeated. Ignored if systemd passes sockets.",
        SERVER_COMMANDS,
        is_main=True,
        many=True,
    )
    systemd_socket: Bool = option("false", "", "Fail to start unless systemd passes sockets.")
    telemetry_path: TelemetryPath = option("/metrics", "PATH", "Path of the metrics.", (*EXPORTER_COMMANDS, "accounts"))
    config_file: str | None = option(
        None,
        "FILE",
        "YAML file with TLS, users, headers and limits, in the format of the exporter-toolkit. It is read again when "
        "it or a certificate changes.",
        SERVER_COMMANDS,
        reload="live",
        name="web.config.file",
        is_main=True,
    )
    unauthenticated_paths: CommaSeparated[HttpPath] = option(
        None,
        "PATH",
        "Path that needs no password, for example /-/healthy for probes; may be repeated.",
        SERVER_COMMANDS,
        many=True,
    )
    user_workspaces: UserWorkspaces = option(
        None,
        "USER=WORKSPACE",
        "User of basic_auth_users who may see one workspace only, or several, as in customer-a=brand-a,brand-b; may be "
        "repeated.",
        ("run", "check"),
        reload="live",
        many=True,
        is_mapping=True,
    )
    enable_lifecycle: Bool = option(
        "false", "", "Enable POST /-/reload and POST /-/quit. SIGHUP reloads in either case."
    )


class WebhookSettings(NamedTuple):
    """Section ``webhook``."""

    path: WebhookPath | None = option(
        None,
        "PATH",
        "Path that receives webhooks, for example /webhook. Use PATH/WORKSPACE for one workspace. Needs "
        "--webhook.secret-file.",
    )
    listen_address: CommaSeparated[ListenAddress] = option(
        None,
        "ADDRESS",
        "Address that receives the webhooks and serves nothing else, or unix: and a path; may be repeated. By default "
        "webhooks are received at --web.listen-address.",
        many=True,
    )
    secret_file: KeyFile | None = option(
        None,
        "FILE",
        "File that holds the secret that signs the webhooks. It is read again when it changes.",
        reload="live",
    )
    require_auth: Bool = option(
        "false",
        "",
        "Require user and password of the web configuration on the webhook path too; a webhook sends them as a custom "
        "header.",
    )


class MetricsSettings(NamedTuple):
    """Section ``metrics``."""

    duration_buckets: Bounds = option(
        "0.1,0.25,0.5,1,2.5,5,10,30,60,120,300,600",
        "LIST",
        "Upper bounds of the buckets of duration histograms, in seconds.",
        (*EXPORTER_COMMANDS, "backfill"),
        many=True,
    )
    buckets: FamilyBuckets = option(
        None,
        "FAMILY=LIST",
        "Upper bounds of the buckets of one histogram, as in late_publishing_attempts=1,2,3; may be repeated.",
        (*EXPORTER_COMMANDS, "backfill"),
        many=True,
        is_mapping=True,
    )
    disable: CommaSeparated[FamilyName] = option(
        None,
        "FAMILY",
        "Metric that is not exposed, for example late_account_logs_total; may be repeated. It is counted all the same.",
        (*EXPORTER_COMMANDS, "backfill"),
        many=True,
    )
    max_label_values: Annotated[int, integer(1)] = option(
        "50", "NUMBER", "Maximum number of unknown values per label; any further value is counted as other."
    )
    max_accounts: Annotated[int, integer(0)] = option(
        "500",
        "NUMBER",
        "Maximum number of accounts with their own metrics; any further account is counted as other. 0 disables them.",
        (*EXPORTER_COMMANDS, "backfill"),
    )
    zero_hold: Annotated[float, duration("0s", "1h")] = option(
        "75s",
        "DURATION",
        "How long a new counter or histogram shows 0 before its value, so that every Prometheus sees the first "
        "increase; at least twice the scrape interval.",
    )
    created_timestamps: Bool = option("false", "", "Add a _created series to counters and histograms in OpenMetrics.")


class EventSettings(NamedTuple):
    """Section ``events``."""

    output: EventOutput | None = option(
        None,
        "OUTPUT",
        "Where to write a JSON line about each new failed log: stdout or file:PATH. By default nowhere.",
    )
    include: Literal["failed", "all"] = option(
        "failed", "LOGS", "Logs to write events about: failed, or all in each status they are seen in."
    )
    captions: Bool = option("false", "", "Add the beginning of the post's text to events.")
    max_pending: Annotated[int, integer(1)] = option(
        "100000",
        "NUMBER",
        "Maximum number of undelivered events; beyond it, the oldest are dropped.",
    )


class LogSettings(NamedTuple):
    """Section ``log``."""

    level: Literal["debug", "info", "warn", "error"] = option(
        "info", "LEVEL", "Minimum level to log: debug, info, warn or error.", ALL_COMMANDS, reload="live", is_main=True
    )
    format: Literal["logfmt", "json"] = option(
        "logfmt", "FORMAT", "Format of the log: logfmt or json.", ALL_COMMANDS, reload="live"
    )


class SimulateSettings(NamedTuple):
    """Section ``simulate``."""

    listen_address: TcpAddress = option(
        "127.0.0.1:10078", "ADDRESS", "Address to serve the simulated API on.", SIMULATOR_COMMANDS, is_main=True
    )
    seed: Annotated[int, integer(0)] = option("1", "NUMBER", "The same seed gives the same logs.", SIMULATOR_COMMANDS)
    logs_per_day: Annotated[int, integer(1, 10_000_000)] = option(
        "5000",
        "NUMBER",
        "Publishing logs per day, at most 10000000.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "20000"},
    )
    history: Annotated[float, duration("0s", "90d")] = option(
        "7d",
        "DURATION",
        "Age of the oldest log at startup, at most 90d.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "50h"},  # more than two days, to include the incidents of the history
    )
    rate_limit: Annotated[int, integer(1)] = option(
        "600",
        "LIMIT",
        "Requests per minute allowed per key; the tiers of the API are 60, 600 and 1200.",
        SIMULATOR_COMMANDS,
        is_main=True,
        command_defaults={"demo": "6000"},
    )
    customer_rate: Annotated[int, integer(0, 100_000)] = option(
        "0",
        "NUMBER",
        "Calls per minute of the customer's own software, which share the quota of every key.",
        SIMULATOR_COMMANDS,
    )
    incident: CommaSeparated[Incident] = option(
        None,
        "NAME",
        f"Incident to start with; may be repeated: {', '.join(get_args(Incident))}.",
        SIMULATOR_COMMANDS,
        is_main=True,
        many=True,
    )
