"""Every option of the program, by section, and the flags of single commands.

A section and a field make the flag ``--poll.interval``, the variable
``LATE_EXPORTER_POLL__INTERVAL`` and the key ``poll: {interval: 30s}`` of the configuration file.
Every value arrives as text, the default too, so that one type per option serves all of them.
Durations are in seconds. The string below an option is its help.
"""

# Annotations are evaluated by pydantic.
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from late_exporter.config import fields
from late_exporter.config.fields import CommaSeparated, duration
from late_exporter.config.options import (
    API_COMMANDS,
    CLIENT_COMMANDS,
    EXPORTER_COMMANDS,
    LOGGING_COMMANDS,
    QUERY_COMMANDS,
    SERVER_COMMANDS,
    SIMULATOR_COMMANDS,
    STATE_COMMANDS,
    Option,
    OptionModel,
    default,
)

STATEFUL_COMMANDS = (*EXPORTER_COMMANDS, "audit")
REQUESTING_COMMANDS = (*EXPORTER_COMMANDS, *QUERY_COMMANDS)
DATABASE_COMMANDS = ("run", "check", "audit", *STATE_COMMANDS)

STATUS_INTERVALS: Mapping[fields.StatusFeedName, int] = MappingProxyType(
    {"posts": 1, "accounts": 1, "webhooks": 2, "billing": 12}
)
"""Intervals of the status feeds, in those of --status.interval."""

FORMATS = {
    "check": ("text", "json"),
    "status": ("text", "json"),
    "accounts": ("table", "json"),
    "posts": ("table", "json", "csv"),
    "post": ("text", "json"),
    "logs": ("table", "json", "csv", "raw"),
    "audit": ("text", "json"),
    "metrics": ("table", "json"),
}
"""Output formats of the commands that have a choice, the default first."""

DEFAULT_FORMATS = {name: formats[0] for name, formats in FORMATS.items()}

Incident: TypeAlias = Literal[
    "platform-outage", "revoked-token", "rate-limit-storm", "slow-video", "late-publishing",
    "scheduler-stuck", "approval-overdue", "empty-schedule", "account-cooldown", "account-blocked",
    "account-off", "internal-numbers", "token-expiring", "suspended", "spend-cap", "empty-balance",
    "usage-near-limit", "usage-at-limit", "webhook-failing", "webhook-disabled", "api-errors",
]  # fmt: skip

LogField: TypeAlias = Literal[
    "workspace", "platform", "account", "action", "status", "error", "post"
]


class ConfigSettings(OptionModel):
    """Section ``config``."""

    file: Annotated[
        str | None,
        Option("FILE", (*LOGGING_COMMANDS, "healthcheck", *CLIENT_COMMANDS)),
    ] = None
    """YAML file with options and workspaces."""


class ApiSettings(OptionModel):
    """Section ``api``."""

    key: Annotated[
        fields.Key | None,
        Option(
            "KEY",
            API_COMMANDS,
            live=True,
            variable="ZERNIO_API_KEY",
            alias="LATE_API_KEY",
            secret=True,
        ),
    ] = None
    """API key of Zernio. It has no flag, because all users of a machine can read the arguments of
    processes."""
    key_file: Annotated[
        fields.KeyFile | None,
        Option(
            "FILE",
            API_COMMANDS,
            live=True,
            variable="ZERNIO_API_KEY_FILE",
            alias="LATE_API_KEY_FILE",
        ),
    ] = None
    """File that holds the API key, instead of ZERNIO_API_KEY. It is read again when it changes."""
    base_url: Annotated[fields.BaseUrl, Option("URL", API_COMMANDS, live=True)] = default(
        "https://zernio.com/api"
    )
    """Base URL of the Zernio API. Plain http is allowed for loopback addresses only."""
    generation: Annotated[Literal["auto", "late", "zernio"], Option("NAME", API_COMMANDS)] = "auto"
    """Generation of the API: late, zernio, or auto for that of the state, which the first sync has
    detected."""
    profile_id: Annotated[fields.ProfileId | None, Option("ID", API_COMMANDS, live=True)] = None
    """Profile whose logs are read; by default all that the key can read. API generation late has no
    profiles."""
    timeout: Annotated[
        float, duration("1ms"), Option("DURATION", REQUESTING_COMMANDS, live=True)
    ] = default("30s")
    """Timeout of a request."""
    quota_share: Annotated[fields.Share, Option("SHARE", REQUESTING_COMMANDS, live=True)] = default(
        "0.5"
    )
    """Largest share of the key's requests per minute to use, above 0 and at most 1; less if other
    users need more."""


class PollSettings(OptionModel):
    """Section ``poll``."""

    interval: Annotated[
        float,
        duration("100ms"),
        Option("DURATION", STATEFUL_COMMANDS, live=True, command_defaults={"demo": "5s"}),
    ] = default("30s")
    """Time between two polls, with jitter."""
    lookback: Annotated[float, duration("1m", "90d"), Option("DURATION", live=True)] = default("7d")
    """How far back the first sync reads, 1m to 90d."""
    reconcile_interval: Annotated[float, duration("100ms"), Option("DURATION", live=True)] = (
        default("10m")
    )
    """Time between two reconciliation scans, which find logs that polls missed."""
    late_window: Annotated[float, duration("1m", "1d"), Option("DURATION", live=True)] = default(
        "15m"
    )
    """Age up to which logs that appear late are found within three polls, 1m to 1d; scans find
    older ones."""
    # Daily by default: an audit costs fewer requests in a day than the reconciliation scan does in
    # ten minutes.
    audit_interval: Annotated[float, duration("0s"), Option("DURATION", live=True)] = default("1d")
    """Time between two audits, which compare every counted log with the API; 0s disables them."""
    feeds: Annotated[CommaSeparated[fields.FeedName], Option("LIST", STATEFUL_COMMANDS)] = default(
        "publishing,connections"
    )
    """Log feeds to read; webhooks, messaging, workflow_event and api_request exist in generation
    zernio only."""


class StatusSettings(OptionModel):
    """Section ``status``."""

    feeds: Annotated[fields.StatusFeedNames, Option("LIST", live=True)] = default(
        "posts,accounts,webhooks,billing"
    )
    """Status feeds to read, or none. They report what does not appear in logs."""
    interval: Annotated[
        float,
        duration("10s", "2h"),
        Option("DURATION", live=True, command_defaults={"demo": "10s"}),
    ] = default("5m")
    """Time between refreshes of posts and accounts; twice that for webhooks, twelve times for the
    plan."""

    @property
    def intervals(self) -> Mapping[fields.StatusFeedName, float]:
        """Seconds between two refreshes of each feed."""
        return {name: factor * self.interval for name, factor in STATUS_INTERVALS.items()}


class StateSettings(OptionModel):
    """Section ``state``."""

    url: Annotated[
        fields.StateUrl,
        Option("URL", (*DATABASE_COMMANDS, "demo"), command_defaults={"demo": "sqlite://"}),
    ] = default("sqlite:///data/late-exporter.db")
    """Database of the state: three slashes for a relative path, four for an absolute one, sqlite://
    for memory, or postgresql://user@host/database. By default a file in $STATE_DIRECTORY, if that
    is set, as by systemd."""
    password_file: Annotated[fields.PasswordFile | None, Option("FILE", DATABASE_COMMANDS)] = None
    """File with the password of the PostgreSQL user, read at each connection. PGPASSFILE works,
    too."""
    replicas: Annotated[bool, Option("", ("run", "check"))] = default("false")
    """Share a state in PostgreSQL with other replicas: each polls and shows a part of the
    workspaces."""
    lease_duration: Annotated[
        float, duration("2s", "10m"), Option("DURATION", ("run", "check"))
    ] = default("30s")
    """Silence after which others end the session of a replica, 2s to 10m; the same for all
    replicas."""

    @property
    def password_path(self) -> Path | None:
        return self.password_file.path if self.password_file is not None else None


class WebSettings(OptionModel):
    """Section ``web``."""

    listen_address: Annotated[
        CommaSeparated[fields.ListenAddress], Option("ADDRESS", SERVER_COMMANDS)
    ] = default(":10077")
    """Address to serve on, or unix: and a path; may be repeated. Ignored if systemd passes
    sockets."""
    telemetry_path: Annotated[
        fields.TelemetryPath, Option("PATH", (*EXPORTER_COMMANDS, "accounts"))
    ] = default("/metrics")
    """Path of the metrics."""
    config_file: Annotated[
        str | None, Option("FILE", SERVER_COMMANDS, live=True, name="web.config.file")
    ] = None
    """YAML file with TLS and users, in the format of the exporter-toolkit. It is read again when it
    or a certificate changes."""
    unauthenticated_paths: Annotated[
        CommaSeparated[fields.HttpPath], Option("PATH", SERVER_COMMANDS)
    ] = default(None)
    """Path that needs no password, for example /-/healthy for probes; may be repeated."""
    enable_lifecycle: Annotated[bool, Option("")] = default("false")
    """Enable POST /-/reload and POST /-/quit. SIGHUP reloads in either case."""


class MetricsSettings(OptionModel):
    """Section ``metrics``."""

    buckets: Annotated[fields.FamilyBuckets, Option("FAMILY=LIST")] = default(None)
    """Upper bounds of the buckets of one histogram, as in late_publishing_delay_seconds=60,300; may
    be repeated."""
    disable: Annotated[CommaSeparated[fields.FamilyName], Option("FAMILY")] = default(None)
    """Metric that is not exposed, for example late_account_logs_total; may be repeated. It is
    counted all the same."""
    enable: Annotated[CommaSeparated[fields.FamilyName], Option("FAMILY")] = default(None)
    """Metric that is exposed only on request, for example
    late_publishing_last_log_timestamp_seconds; may be repeated."""
    max_label_values: Annotated[int, Field(ge=1), Option("NUMBER")] = default("50")
    """Maximum number of unknown values per label; further ones are counted as other."""
    max_accounts: Annotated[int, Field(ge=0), Option("NUMBER")] = default("500")
    """Maximum number of accounts with their own metrics; further ones are counted as other. 0
    disables them."""
    zero_hold: Annotated[float, duration("0s", "1h"), Option("DURATION")] = default("75s")
    """How long a new counter or histogram shows 0 before its value; at least twice the scrape
    interval."""
    created_timestamps: Annotated[bool, Option("")] = default("false")
    """Add a _created series to counters and histograms in OpenMetrics."""


class LogSettings(OptionModel):
    """Section ``log``."""

    level: Annotated[
        Literal["debug", "info", "warn", "error"],
        Option("LEVEL", LOGGING_COMMANDS, live=True),
    ] = "info"
    """Minimum level to log."""
    format: Annotated[Literal["logfmt", "json"], Option("FORMAT", LOGGING_COMMANDS, live=True)] = (
        "logfmt"
    )
    """Format of the log."""
    failures: Annotated[fields.FeedNames, Option("LIST", command_defaults={"demo": "none"})] = (
        default("publishing,connections")
    )
    """Log feeds whose failed logs have a line in the log each, or none."""


class SimulateSettings(OptionModel):
    """Section ``simulate``."""

    listen_address: Annotated[fields.TcpAddress, Option("ADDRESS", SIMULATOR_COMMANDS)] = default(
        "127.0.0.1:10078"
    )
    """Address to serve the simulated API on."""
    seed: Annotated[int, Field(ge=0), Option("NUMBER", SIMULATOR_COMMANDS)] = default("1")
    """The same seed gives the same logs."""
    logs_per_day: Annotated[
        int,
        Field(ge=1, le=10_000_000),
        Option("NUMBER", SIMULATOR_COMMANDS, command_defaults={"demo": "20000"}),
    ] = default("5000")
    """Publishing logs per day, at most 10000000."""
    # By default the demo begins more than two days ago, to include the incidents of the history.
    history: Annotated[
        float,
        duration("0s", "90d"),
        Option("DURATION", SIMULATOR_COMMANDS, command_defaults={"demo": "50h"}),
    ] = default("7d")
    """Age of the oldest log at startup, at most 90d."""
    rate_limit: Annotated[
        int,
        Field(ge=1),
        Option("LIMIT", SIMULATOR_COMMANDS, command_defaults={"demo": "6000"}),
    ] = default("600")
    """Requests per minute allowed per key; the tiers of the API are 60, 600 and 1200."""
    customer_rate: Annotated[int, Field(ge=0, le=100_000), Option("NUMBER", SIMULATOR_COMMANDS)] = (
        default("0")
    )
    """Calls per minute of the customer's own software, which share the quota of every key."""
    incident: Annotated[CommaSeparated[Incident], Option("NAME", SIMULATOR_COMMANDS)] = default(
        None
    )
    """Incident to start with; may be repeated."""


class CommandFlags(OptionModel):
    """Flags of single commands, which have no variable and no key in the configuration file.

    Those of other commands than the one that runs keep their defaults.
    """

    format: Annotated[str, Option("FORMAT", tuple(FORMATS), command_defaults=DEFAULT_FORMATS)] = (
        default("")
    )
    """Output format."""
    workspace: Annotated[
        str | None, Option("NAME", (*QUERY_COMMANDS, "state copy", "accounts"))
    ] = None
    """Workspace to read or copy, by default all of them."""
    new_name: Annotated[fields.WorkspaceName | None, Option("NAME", ("state copy",), name="as")] = (
        None
    )
    """Name of the workspace of --workspace in the target of a copy."""
    feed: Annotated[fields.FeedName, Option("FEED", ("logs",))] = "publishing"
    """Log feed to read: publishing, connections, or in generation zernio webhooks, messaging,
    workflow_event or api_request."""
    platform: Annotated[fields.LowerCase | None, Option("NAME", ("logs", "posts", "accounts"))] = (
        None
    )
    """Filter by platform, for example instagram."""
    status: Annotated[CommaSeparated[fields.LowerCase], Option("STATUS", ("logs",))] = default(None)
    """Filter by status, for example failed; may be repeated."""
    action: Annotated[str | None, Option("ACTION", ("logs",))] = None
    """Filter by action, for example publish, or by connection event, for example disconnect."""
    account: Annotated[str | None, Option("ACCOUNT", ("logs",))] = None
    """Filter by account id or user name. Filtered locally, so all logs are fetched, except for ids
    in generation zernio."""
    since: Annotated[
        Annotated[float, duration("1s", "90d")] | None,
        Option("DURATION", ("logs", "posts", "audit")),
    ] = None
    """How far back to read, at most 90d, in generation late 7d; by default a day, for audit
    everything."""
    limit: Annotated[int, Field(ge=0), Option("NUMBER", ("logs", "posts"))] = default("100")
    """Maximum number of lines to print, 0 for all."""
    by: Annotated[CommaSeparated[LogField], Option("FIELD", ("logs",))] = default(None)
    """Count the logs by the values of some fields, as in account,error."""
    failed: Annotated[bool, Option("", ("posts",))] = default("false")
    """Posts whose last attempt failed within --since."""
    overdue: Annotated[bool, Option("", ("posts",))] = default("false")
    """Posts that should have been published or approved by now."""
    pending: Annotated[bool, Option("", ("posts",))] = default("false")
    """Posts that are scheduled, being published, or wait for approval."""
    generation: Annotated[Literal["zernio", "late", "both"], Option("NAME", SIMULATOR_COMMANDS)] = (
        "zernio"
    )
    """API to simulate: zernio with one list and 90d of logs, late with two and 7d, or both."""
    once: Annotated[bool, Option("", ("run",))] = default("false")
    """Poll every feed until it is caught up, print the metrics and exit; exit 1 if a poll
    failed."""
    problems: Annotated[bool, Option("", ("status",))] = default("false")
    """Print only the problems, worst first, one per line."""
    check: Annotated[bool, Option("", ("status",))] = default("false")
    """Exit 1 if there is a problem."""
    user: Annotated[str | None, Option("NAME", CLIENT_COMMANDS)] = None
    """User name for the basic authentication of the exporter."""
    password_file: Annotated[fields.PasswordFile | None, Option("FILE", CLIENT_COMMANDS)] = None
    """File that holds the password of --user."""
