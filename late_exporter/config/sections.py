"""Every option of the program, by section, and the flags of single commands.

A section and a field make the flag ``--poll.interval``, the variable
``LATE_EXPORTER_POLL__INTERVAL`` and the key ``poll: {interval: 30s}`` of the configuration file.
Every value arrives as text, the default too, so that one type per option serves all of them.
Durations are in seconds.
"""

# Annotations are evaluated by pydantic.
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

from late_exporter.config import fields
from late_exporter.config.fields import CommaSeparated, duration
from late_exporter.config.options import (
    API_COMMANDS,
    CLIENT_COMMANDS,
    DATABASE_COMMANDS,
    EXPORTER_COMMANDS,
    LOGGING_COMMANDS,
    QUERY_COMMANDS,
    SERVER_COMMANDS,
    SIMULATOR_COMMANDS,
    OptionModel,
    option,
)

STATEFUL_COMMANDS = (*EXPORTER_COMMANDS, "audit")
REQUESTING_COMMANDS = (*EXPORTER_COMMANDS, *QUERY_COMMANDS)

STATUS_INTERVALS: Mapping[fields.StatusFeedName, int] = MappingProxyType(
    {"posts": 1, "accounts": 1, "webhooks": 2, "billing": 2}
)
"""Intervals of the status feeds, in those of --status.interval."""

Profile: TypeAlias = Literal["weekly", "bakery", "shop", "agency", "platform", "large"]
Incident: TypeAlias = Literal[
    "one-post-fails", "healed-retry", "account-dead", "platform-fails", "everything-fails",
    "platform-outage", "revoked-token", "rate-limit-storm", "slow-video", "late-publishing",
    "scheduler-stuck", "approval-overdue", "empty-schedule", "account-cooldown", "account-blocked",
    "token-expiring", "suspended", "spend-cap", "empty-balance", "usage-near-limit",
    "usage-at-limit", "webhook-failing", "webhook-disabled", "api-errors",
]  # fmt: skip

LogField: TypeAlias = Literal[
    "workspace", "platform", "account", "action", "status", "error", "post"
]


class ConfigSettings(OptionModel):
    """Section ``config``."""

    file: str | None = option(
        None,
        "FILE",
        "YAML file with options and workspaces.",
        (*LOGGING_COMMANDS, "healthcheck", *CLIENT_COMMANDS),
    )


class ApiSettings(OptionModel):
    """Section ``api``."""

    key: fields.Key | None = option(
        None,
        "KEY",
        "API key of Zernio. It has no flag, because others can read the arguments of processes.",
        API_COMMANDS,
        live=True,
        secret=True,
        variables=("ZERNIO_API_KEY", "LATE_API_KEY"),
    )
    key_file: fields.KeyFile | None = option(
        None,
        "FILE",
        "File that holds the API key, instead of ZERNIO_API_KEY. It is read again when it changes.",
        API_COMMANDS,
        live=True,
        variables=("ZERNIO_API_KEY_FILE", "LATE_API_KEY_FILE"),
    )
    base_url: fields.BaseUrl = option(
        "https://zernio.com/api",
        "URL",
        "Base URL of the Zernio API. Plain http is allowed for loopback addresses only.",
        API_COMMANDS,
        live=True,
    )
    generation: Literal["auto", "late", "zernio"] = option(
        "auto",
        "NAME",
        "Generation of the API: late, zernio, or auto for that of the state, which the first "
        "sync has detected.",
        API_COMMANDS,
    )
    profile_id: fields.ProfileId | None = option(
        None,
        "ID",
        "Profile whose logs are read; by default all that the key can read. API generation "
        "late cannot filter by it.",
        API_COMMANDS,
        live=True,
    )
    timeout: Annotated[float, duration("1ms")] = option(
        "30s", "DURATION", "Timeout of a request.", REQUESTING_COMMANDS, live=True
    )
    quota_share: fields.Share = option(
        "0.5",
        "SHARE",
        "Largest share of the key's requests per minute to use, above 0 and at most 1; less "
        "if other users need more.",
        REQUESTING_COMMANDS,
        live=True,
    )


class PollSettings(OptionModel):
    """Section ``poll``."""

    interval: Annotated[float, duration("100ms")] = option(
        "30s",
        "DURATION",
        "Time between two polls, with jitter.",
        STATEFUL_COMMANDS,
        live=True,
        command_defaults={"demo": "5s"},
    )
    lookback: Annotated[float, duration("1m", "90d")] = option(
        "7d", "DURATION", "How far back the first sync reads, 1m to 90d.", live=True
    )
    reconcile_interval: Annotated[float, duration("100ms")] = option(
        "10m",
        "DURATION",
        "Time between two reconciliation scans, which find logs that polls missed.",
        live=True,
    )
    late_window: Annotated[float, duration("1m", "1d")] = option(
        "15m",
        "DURATION",
        "Age up to which logs that appear late are found within three polls, 1m to 1d; scans "
        "find older ones.",
        live=True,
    )
    # Daily by default: an audit costs fewer requests in a day than the reconciliation scan does in
    # ten minutes.
    audit_interval: Annotated[float, duration("0s")] = option(
        "1d",
        "DURATION",
        "Time between two audits, which compare every counted log with the API; 0s disables them.",
        live=True,
    )
    feeds: Annotated[CommaSeparated[fields.FeedName], Field(min_length=1)] = option(
        "publishing,connections",
        "LIST",
        "Log feeds to read: publishing, connections, or in generation zernio webhooks, "
        "messaging, workflow_event and api_request.",
        STATEFUL_COMMANDS,
    )


class StatusSettings(OptionModel):
    """Section ``status``."""

    feeds: CommaSeparated[fields.StatusFeedName] = option(
        "posts,accounts,webhooks,billing",
        "LIST",
        "Status feeds to read: posts, accounts, webhooks, billing, or none.",
        live=True,
    )
    interval: Annotated[float, duration("10s", "2h")] = option(
        "5m",
        "DURATION",
        "Time between refreshes of posts and accounts; twice that for webhooks and the plan.",
        live=True,
        command_defaults={"demo": "10s"},
    )

    @property
    def intervals(self) -> Mapping[fields.StatusFeedName, float]:
        """Seconds between two refreshes of each feed."""
        return {name: factor * self.interval for name, factor in STATUS_INTERVALS.items()}


class StateSettings(OptionModel):
    """Section ``state``."""

    url: fields.StateUrl = option(
        "sqlite:///data/late-exporter.db",
        "URL",
        "Database of the state: three slashes for a relative path, four for an absolute one, "
        "sqlite:// for memory, or postgresql://user@host/database. By default a file in "
        "$STATE_DIRECTORY, if that is set, as by systemd.",
        DATABASE_COMMANDS,
    )
    password_file: fields.PasswordFile | None = option(
        None,
        "FILE",
        "File with the password of the PostgreSQL user, read at each connection. PGPASSFILE "
        "works, too.",
        DATABASE_COMMANDS,
    )
    replicas: fields.Replicas = option(
        "false",
        "",
        "Share a state in PostgreSQL with other replicas: each polls and shows a part of the "
        "workspaces.",
        ("run", "check"),
    )
    lease_duration: Annotated[float, duration("2s", "10m")] = option(
        "30s",
        "DURATION",
        "Silence after which others end the session of a replica, 2s to 10m; the same for all "
        "replicas.",
        ("run", "check"),
    )

    @property
    def password_path(self) -> Path | None:
        return self.password_file.path if self.password_file is not None else None


class WebSettings(OptionModel):
    """Section ``web``."""

    listen_address: Annotated[CommaSeparated[fields.ListenAddress], Field(min_length=1)] = option(
        ":10077", "ADDRESS", "Address to serve on; may be repeated.", SERVER_COMMANDS
    )
    telemetry_path: fields.TelemetryPath = option(
        "/metrics", "PATH", "Path of the metrics.", (*EXPORTER_COMMANDS, "accounts")
    )
    config_file: str | None = option(
        None,
        "FILE",
        "YAML file with TLS and users, in the format of the exporter-toolkit. It is read "
        "again when it or a certificate changes.",
        SERVER_COMMANDS,
        live=True,
        name="web.config.file",
    )
    unauthenticated_paths: CommaSeparated[fields.HttpPath] = option(
        None,
        "PATH",
        "Path that needs no password, for example /-/healthy for probes; may be repeated.",
        SERVER_COMMANDS,
    )
    enable_lifecycle: bool = option(
        "false", "", "Enable POST /-/reload and POST /-/quit. SIGHUP reloads in either case."
    )


class MetricsSettings(OptionModel):
    """Section ``metrics``."""

    buckets: fields.FamilyBuckets = option(
        None,
        "FAMILY=LIST",
        "Upper bounds of the buckets of one histogram, as in "
        "late_publishing_delay_seconds=60,300; may be repeated.",
    )
    disable: CommaSeparated[fields.FamilyName] = option(
        None,
        "FAMILY",
        "Metric that is not exposed, for example late_account_logs_total, or process_* or "
        "python_*; may be repeated. It is counted all the same.",
    )
    enable: CommaSeparated[fields.FamilyName] = option(
        None,
        "FAMILY",
        "Metric that is exposed only on request, for example "
        "late_publishing_last_log_timestamp_seconds; may be repeated.",
    )
    max_label_values: Annotated[int, Field(ge=1)] = option(
        "50",
        "NUMBER",
        "Maximum number of unknown values per label; further ones are counted as other.",
    )
    max_accounts: Annotated[int, Field(ge=0)] = option(
        "500",
        "NUMBER",
        "Maximum number of accounts with their own metrics; further ones are counted as "
        "other. 0 disables them.",
    )
    zero_hold: Annotated[float, duration("0s", "1h")] = option(
        "75s",
        "DURATION",
        "How long a new counter or histogram shows 0 before its value; at least twice the "
        "scrape interval.",
    )
    created_timestamps: bool = option(
        "false", "", "Add a _created series to counters and histograms in OpenMetrics."
    )


class LogSettings(OptionModel):
    """Section ``log``."""

    level: Literal["debug", "info", "warn", "error"] = option(
        "info",
        "LEVEL",
        "Minimum level to log: debug, info, warn or error.",
        LOGGING_COMMANDS,
        live=True,
    )
    format: Literal["logfmt", "json"] = option(
        "logfmt", "FORMAT", "Format of the log: logfmt or json.", LOGGING_COMMANDS, live=True
    )
    failures: CommaSeparated[fields.FeedName] = option(
        "publishing,connections",
        "LIST",
        "Log feeds whose failed logs have a line in the log each, or none.",
        command_defaults={"demo": "none"},
    )


class SimulateSettings(OptionModel):
    """Section ``simulate``."""

    listen_address: fields.ListenAddress = option(
        "127.0.0.1:10078", "ADDRESS", "Address to serve the simulated API on.", SIMULATOR_COMMANDS
    )
    seed: Annotated[int, Field(ge=0)] = option(
        "1", "NUMBER", "The same seed gives the same logs.", SIMULATOR_COMMANDS
    )
    profile: Profile | None = option(
        None,
        "NAME",
        f"Customers to simulate: {', '.join(get_args(Profile))}. By default, a lively mix.",
        SIMULATOR_COMMANDS,
    )
    logs_per_day: Annotated[int, Field(ge=1, le=10_000_000)] = option(
        "5000",
        "NUMBER",
        "Publishing logs per day without a profile, at most 10000000.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "20000"},
    )
    # By default the demo begins more than two days ago, to include the incidents of the history.
    history: Annotated[float, duration("0s", "90d")] = option(
        "7d",
        "DURATION",
        "Age of the oldest log at startup, at most 90d.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "50h"},
    )
    rate_limit: Annotated[int, Field(ge=1)] = option(
        "600",
        "LIMIT",
        "Requests per minute allowed per key; the tiers of the API are 60, 600 and 1200.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "6000"},
    )
    customer_rate: Annotated[int, Field(ge=0, le=100_000)] = option(
        "0",
        "NUMBER",
        "Calls per minute of the customer's own software, which share the quota of every key.",
        SIMULATOR_COMMANDS,
    )
    incident: CommaSeparated[Incident] = option(
        None,
        "NAME",
        f"Incident to start with; may be repeated. One of {', '.join(get_args(Incident))}.",
        SIMULATOR_COMMANDS,
    )


class CommandFlags(OptionModel):
    """Flags of single commands, which have no variable and no key in the configuration file.

    Those of other commands than the one that runs keep their defaults.
    """

    format: Literal["text", "json"] = option(
        "text",
        "FORMAT",
        "Output format: text or json.",
        ("check", *CLIENT_COMMANDS, *QUERY_COMMANDS, "state info", "state check"),
    )
    workspace: str | None = option(
        None,
        "NAME",
        "Workspace to read or check, by default all of them.",
        (*QUERY_COMMANDS, "check", "accounts"),
    )
    feed: fields.FeedName = option(
        "publishing",
        "FEED",
        "Log feed to read: publishing, connections, or in generation zernio webhooks, "
        "messaging, workflow_event or api_request.",
        ("logs",),
    )
    platform: fields.LowerCase | None = option(
        None, "NAME", "Filter by platform, for example instagram.", ("logs", "posts", "accounts")
    )
    status: CommaSeparated[fields.LowerCase] = option(
        None, "STATUS", "Filter by status, for example failed; may be repeated.", ("logs",)
    )
    action: str | None = option(
        None,
        "ACTION",
        "Filter by action, for example publish, or by connection event, for example disconnect.",
        ("logs",),
    )
    account: str | None = option(
        None,
        "ACCOUNT",
        "Filter by account id or user name. Filtered locally, so all logs are fetched, except "
        "for ids in generation zernio.",
        ("logs",),
    )
    since: Annotated[float, duration("1s", "90d")] | None = option(
        None,
        "DURATION",
        "How far back to read, at most 90d, in generation late 7d; by default a day, for "
        "audit everything.",
        ("logs", "posts", "audit"),
    )
    limit: Annotated[int, Field(ge=0)] = option(
        "100", "NUMBER", "Maximum number of lines to print, 0 for all.", ("logs", "posts")
    )
    by: CommaSeparated[LogField] = option(
        None,
        "FIELD",
        "Count the logs by the values of some fields, as in account,error.",
        ("logs",),
    )
    failed: bool = option(
        "false", "", "Posts whose last attempt failed within --since.", ("posts",)
    )
    overdue: bool = option(
        "false", "", "Posts that should have been published or approved by now.", ("posts",)
    )
    pending: bool = option(
        "false", "", "Posts that are scheduled, being published, or wait for approval.", ("posts",)
    )
    at_risk: bool = option(
        "false",
        "",
        "Posts scheduled for the next 24 hours whose account cannot publish them now.",
        ("posts",),
    )
    generation: Literal["zernio", "late", "both"] = option(
        "zernio",
        "NAME",
        "API to simulate: zernio with one list and 90d of logs, late with two and 7d, or both.",
        SIMULATOR_COMMANDS,
    )
    once: bool = option(
        "false",
        "",
        "Poll every feed until it is caught up, print the metrics and exit; exit 1 if a poll "
        "failed.",
        ("run",),
    )
    problems: bool = option("false", "", "Print only the problems, worst first.", ("status",))
    check: bool = option("false", "", "Exit 1 if there is a problem.", ("status",))
    user: str | None = option(
        None, "NAME", "User name for the basic authentication of the exporter.", CLIENT_COMMANDS
    )
    password_file: fields.PasswordFile | None = option(
        None, "FILE", "File that holds the password of --user.", CLIENT_COMMANDS
    )
