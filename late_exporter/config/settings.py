"""The settings of the program: nested, immutable tuples that declare every option once.

A section and a field make the flag ``--poll.interval``, the variable ``LATE_EXPORTER_POLL__INTERVAL`` and the key
``poll: {interval: 30s}`` of the configuration file. Every value arrives as text, so that one parser per option serves
all three. Durations are in seconds.
"""

# Annotations are evaluated: they are read as data.
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

from late_exporter.config.commands import (
    ALL_COMMANDS,
    API_COMMANDS,
    CLIENT_COMMANDS,
    EXPORTER_COMMANDS,
    QUERY_COMMANDS,
    SERVER_COMMANDS,
    SHARDED_COMMANDS,
    SIMULATOR_COMMANDS,
    STATE_COMMANDS,
)
from late_exporter.config.events import EventOutput, HeadersFile
from late_exporter.config.flags import CommandFlags
from late_exporter.config.named_lists import FamilyBuckets, FamilyName, UserWorkspaces
from late_exporter.config.options import Option, option, options_of
from late_exporter.config.parsers import duration, integer
from late_exporter.config.sharding import shard_of
from late_exporter.config.types import (
    BaseUrl,
    Bool,
    Bounds,
    CommaSeparated,
    FeedName,
    HttpPath,
    Key,
    KeyFile,
    ListenAddress,
    PasswordFile,
    ProfileId,
    RateLimit,
    Secret,
    Share,
    StateUrl,
    StatusFeedName,
    StatusFeedNames,
    TcpAddress,
    TelemetryPath,
    WebhookPath,
    WorkspaceLabels,
    WorkspaceName,
)

if TYPE_CHECKING:
    from pathlib import Path

    from late_exporter.config.web import WebConfig

_DEMO_INTERVAL: Mapping[str, Any] = MappingProxyType({"command_defaults": {"demo": "30s"}})
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


class ConfigSettings(NamedTuple):
    """Section ``config``."""

    file: str | None = option(
        None,
        "FILE",
        "YAML file with options and workspaces.",
        (*ALL_COMMANDS, "healthcheck", *CLIENT_COMMANDS),
        is_main=True,
    )


class ApiSettings(NamedTuple):
    """Section ``api``."""

    key: Key | None = option(
        None,
        "KEY",
        "API key of Zernio. It has no flag, because every user of a machine can read the arguments of its processes.",
        API_COMMANDS,
        reload="live",
        variable="LATE_API_KEY",
        alias="ZERNIO_API_KEY",
        secret=True,
    )
    key_file: KeyFile | None = option(
        None,
        "FILE",
        "File that holds the API key, instead of LATE_API_KEY. It is read again when it changes.",
        API_COMMANDS,
        is_main=True,
        reload="live",
        variable="LATE_API_KEY_FILE",
    )
    base_url: BaseUrl = option(
        "https://zernio.com/api",
        "URL",
        "Base URL of the Zernio API. Plain http is allowed for loopback addresses only.",
        API_COMMANDS,
        reload="live",
    )
    generation: Literal["auto", "late", "zernio"] = option(
        "auto", "NAME", "Generation of the API: late, zernio, or auto to detect it.", API_COMMANDS, reload="live"
    )
    switch: Literal["strict", "trust", "newer-only"] = option(
        "strict",
        "POLICY",
        "What to count after a switch of the API generation if the counted logs are not recognised: nothing (strict), "
        "logs that are newer than the last counted one (newer-only), or every unrecognised log as a new one (trust).",
        ("run", "check", "textfile"),
        reload="live",
    )
    profile_id: ProfileId | None = option(
        None,
        "ID",
        "Profile whose logs are read; by default all that the key can read. API generation late has no profiles.",
        API_COMMANDS,
        reload="live",
    )
    timeout: Annotated[float, duration("1ms")] = option(
        "30s", "DURATION", "Timeout of a request.", (*EXPORTER_COMMANDS, *QUERY_COMMANDS), reload="live"
    )
    quota_share: Share = option(
        "0.5",
        "SHARE",
        "Share of the key's requests per minute that the exporter may use at most, above 0 and at most 1. It uses less "
        "if other users of the key need more.",
        (*EXPORTER_COMMANDS, *QUERY_COMMANDS),
        reload="live",
    )


class PollSettings(NamedTuple):
    """Section ``poll``."""

    interval: Annotated[float, duration("100ms")] = option(
        "30s",
        "DURATION",
        "Time between two polls, with jitter.",
        (*EXPORTER_COMMANDS, "logs", "audit"),
        is_main=True,
        reload="live",
        command_defaults={"demo": "5s", "logs": "5s"},
    )
    lookback: Annotated[float, duration("1m", "90d")] = option(
        "7d", "DURATION", "How far back the first sync reads, 1m to 90d.", reload="live", is_main=True
    )
    reconcile_interval: Annotated[float, duration("100ms")] = option(
        "10m", "DURATION", "Time between two reconciliation scans, which find logs that polls missed.", reload="live"
    )
    late_window: Annotated[float, duration("1m", "1d")] = option(
        "15m",
        "DURATION",
        "Age up to which logs that appear late are found within three polls, 1m to 1d; older ones are found by the "
        "reconciliation scan.",
        reload="live",
    )
    # Daily by default: an audit costs fewer requests in a day than the reconciliation scan does in ten minutes.
    audit_interval: Annotated[float, duration("0s")] = option(
        "1d",
        "DURATION",
        "Time between two audits, which compare every counted log with the API; 0s disables them.",
        reload="live",
    )
    feeds: CommaSeparated[FeedName] = option(
        "publishing,connections",
        "LIST",
        "Log feeds to read; webhooks, messaging, workflow_event and api_request exist in generation zernio only.",
        (*EXPORTER_COMMANDS, *STATE_COMMANDS),
        many=True,
    )


class StatusSettings(NamedTuple):
    """Section ``status``."""

    feeds: StatusFeedNames = option(
        "posts,accounts,cooldowns,webhooks,billing",
        "LIST",
        "Status feeds to read, or none. They report what no log does: overdue posts, the health of accounts, "
        "cooldowns, webhooks that are switched off, and the plan.",
        reload="live",
        many=True,
    )
    posts_interval: Annotated[float, duration("30s", "1d")] = option(
        "5m", "DURATION", "Time between two refreshes of posts, six requests.", reload="live", **_DEMO_INTERVAL
    )
    accounts_interval: Annotated[float, duration("30s", "1d")] = option(
        "5m", "DURATION", "Time between two refreshes of the health of accounts.", reload="live", **_DEMO_INTERVAL
    )
    cooldowns_interval: Annotated[float, duration("30s", "1d")] = option(
        "5m",
        "DURATION",
        "Time between two refreshes of cooldowns, one request per 100 accounts; longer with more than 200 accounts.",
        reload="live",
        **_DEMO_INTERVAL,
    )
    webhooks_interval: Annotated[float, duration("30s", "1d")] = option(
        "10m", "DURATION", "Time between two refreshes of webhooks.", reload="live", **_DEMO_INTERVAL
    )
    billing_interval: Annotated[float, duration("30s", "1d")] = option(
        "1h", "DURATION", "Time between two refreshes of the plan.", reload="live", **_DEMO_INTERVAL
    )

    @property
    def intervals(self) -> Mapping[StatusFeedName, float]:
        """Seconds between two refreshes of each feed."""
        return {
            "posts": self.posts_interval,
            "accounts": self.accounts_interval,
            "cooldowns": self.cooldowns_interval,
            "webhooks": self.webhooks_interval,
            "billing": self.billing_interval,
        }


class StateSettings(NamedTuple):
    """Section ``state``."""

    url: StateUrl = option(
        "sqlite:///data/late-exporter.db",
        "URL",
        "Database with everything that was counted: three slashes for a relative path, four for an absolute one, "
        "sqlite:// for memory, or postgresql://user@host/database. If $STATE_DIRECTORY is set, as by systemd, the "
        "default is a file in it.",
        (*EXPORTER_COMMANDS, *STATE_COMMANDS, "state"),
        command_defaults={"demo": "sqlite://"},
        is_main=True,
    )
    password_file: PasswordFile | None = option(
        None,
        "FILE",
        "File with the password of the PostgreSQL user, read again at each connection. libpq's PGPASSFILE works, too.",
        (*EXPORTER_COMMANDS, *STATE_COMMANDS, "state"),
    )

    replicas: Bool = option(
        "false",
        "",
        "Share a state in PostgreSQL with other replicas: each polls and shows a part of the workspaces, and takes "
        "over those of one that dies.",
        ("run", "check"),
    )
    lease_duration: Annotated[float, duration("2s", "10m")] = option(
        "30s",
        "DURATION",
        "Time after which a replica is taken for dead if nothing is seen of it, 2s to 10m; the same for all replicas.",
        ("run", "check"),
    )

    @property
    def password_path(self) -> "Path | None":
        return self.password_file.path if self.password_file is not None else None


class ShardingSettings(NamedTuple):
    """Section ``sharding``. The flags are those of kube-state-metrics; loading gives ``shard`` its default."""

    shard: Annotated[int, integer(0)] | None = option(
        None,
        "NUMBER",
        "Which shard this process is, from 0; by default the number at the end of $POD_NAME, or else of the host name, "
        "as in a StatefulSet. Needs --total-shards.",
        SHARDED_COMMANDS,
        name="shard",
    )
    total_shards: Annotated[int, integer(1, 1000)] = option(
        "1",
        "NUMBER",
        "Number of processes that share the workspaces, each with a state of its own. A workspace belongs to one of "
        "them, by its name.",
        SHARDED_COMMANDS,
        name="total-shards",
    )


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
    replay_window: Annotated[float, duration("1s", "1d")] = option(
        "5m",
        "DURATION",
        "How long the event of a webhook is remembered, so that further deliveries of it trigger no poll.",
        reload="live",
    )
    require_auth: Bool = option(
        "false",
        "",
        "Require user and password of the web configuration on the webhook path too; a webhook sends them as a custom "
        "header.",
    )
    poll_interval: Annotated[float, duration("100ms")] | None = option(
        None,
        "DURATION",
        "Time between two polls while webhooks arrive; by default --poll.interval.",
        (*EXPORTER_COMMANDS, "audit"),
        reload="live",
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
    created_timestamps: Bool = option("false", "", "Add a _created series to counters and histograms in OpenMetrics.")


class EventSettings(NamedTuple):
    """Section ``events``."""

    output: EventOutput | None = option(
        None,
        "OUTPUT",
        "Where to write a JSON line about each new failed log: stdout, file:PATH, loki:URL or otlp:URL. By default "
        "nowhere.",
    )
    include: Literal["failed", "all"] = option(
        "failed", "LOGS", "Logs to write events about: failed, or all in each status they are seen in."
    )
    captions: Bool = option("false", "", "Add the beginning of the post's text to events.")
    headers_file: HeadersFile | None = option(
        None,
        "FILE",
        "File with HTTP headers for loki and otlp, one per line, for example Authorization: Bearer TOKEN or "
        "X-Scope-OrgID: acme. It is read again at each request.",
    )
    max_pending: Annotated[int, integer(1)] = option(
        "100000",
        "NUMBER",
        "Maximum number of events that wait while the output cannot be written; the oldest of more are dropped.",
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
    logs_per_day: Annotated[int, integer(1)] = option(
        "5000", "NUMBER", "Publishing logs per day.", SIMULATOR_COMMANDS, command_defaults={"demo": "20000"}
    )
    history: Annotated[float, duration("0s", "90d")] = option(
        "7d",
        "DURATION",
        "Age of the oldest log at startup, at most 90d.",
        SIMULATOR_COMMANDS,
        command_defaults={"demo": "50h"},  # more than two days, to include the incidents of the history
    )
    rate_limit: RateLimit = option(
        "600",
        "LIMIT",
        "Requests per minute allowed per key; the tiers of the API are 60, 600 and 1200.",
        SIMULATOR_COMMANDS,
        is_main=True,
        command_defaults={"demo": "6000"},
    )
    customer_rate: Annotated[int, integer(0)] = option(
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


class WorkspaceSettings(NamedTuple):
    """One item of ``workspaces`` in the configuration file."""

    name: WorkspaceName
    api_key_file: KeyFile
    api_base_url: BaseUrl | None = None
    profile_id: ProfileId | None = None
    labels: WorkspaceLabels | None = None


class Workspace(NamedTuple):
    """One API key, the API it belongs to, and the profile if it is limited to one.

    ``key_file`` is read again when the key changes. ``labels`` are those of ``late_workspace_info``.
    """

    name: str
    base_url: str
    key: Secret | None = None
    key_file: "Path | None" = None
    profile_id: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


class Settings(NamedTuple):
    """All settings, by section, with what the configuration files contain besides options."""

    config: ConfigSettings
    api: ApiSettings
    poll: PollSettings
    status: StatusSettings
    state: StateSettings
    sharding: ShardingSettings
    web: WebSettings
    webhook: WebhookSettings
    metrics: MetricsSettings
    events: EventSettings
    log: LogSettings
    simulate: SimulateSettings
    workspace_list: tuple[WorkspaceSettings, ...] | None = None
    loaded_web_config: "WebConfig | None" = None

    @property
    def workspaces(self) -> tuple[Workspace, ...]:
        """The workspaces of this shard, all of them by default."""
        shard, total = self.sharding
        if total == 1:
            return self.all_workspaces
        return tuple(workspace for workspace in self.all_workspaces if shard_of(workspace.name, total) == shard)

    @property
    def all_workspaces(self) -> tuple[Workspace, ...]:
        """The workspaces of the configuration file, or the one of the API key."""
        if self.workspace_list is not None:
            return tuple(
                Workspace(
                    row.name,
                    row.api_base_url or self.api.base_url,
                    row.api_key_file.key,
                    row.api_key_file.path,
                    row.profile_id,
                    row.labels or (),
                )
                for row in self.workspace_list
            )
        file = self.api.key_file
        if file is not None:
            return (Workspace("default", self.api.base_url, file.key, file.path, self.api.profile_id),)
        return (Workspace("default", self.api.base_url, self.api.key, profile_id=self.api.profile_id),)

    def count_key_shards(self) -> Counter[str]:
        """Return the number of shards that use each key, among which its quota is divided."""
        total = self.sharding.total_shards
        keys = {
            (workspace.key.get_secret_value(), shard_of(workspace.name, total))
            for workspace in self.all_workspaces
            if workspace.key is not None
        }
        return Counter(key for key, _ in keys)

    @property
    def workspaces_with_same_logs(self) -> Sequence[tuple[str, str]]:
        """Names of workspaces that have the same key and no profile, so that both count every log of the key."""
        names: dict[tuple[str, str], str] = {}
        pairs = []
        for workspace in self.workspaces:
            if workspace.profile_id is None and workspace.key is not None:
                first = names.setdefault((workspace.base_url, workspace.key.get_secret_value()), workspace.name)
                if first != workspace.name:
                    pairs.append((first, workspace.name))
        return pairs

    @property
    def web_config(self) -> "WebConfig":
        """Content of the file of ``--web.config.file``, or its defaults, with the workspaces of users."""
        from dataclasses import replace  # noqa: PLC0415 - not needed by the health check and by --help

        from late_exporter.config.web import WebConfig  # noqa: PLC0415 - as above

        config = self.loaded_web_config or WebConfig()
        bound = {user: frozenset(workspaces) for user, workspaces in self.web.user_workspaces}
        return replace(config, user_workspaces=bound) if bound else config

    @property
    def longest_poll_interval(self) -> float:
        """Time between two polls if webhooks arrive."""
        return max(self.poll.interval, self.webhook.poll_interval or 0.0)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All texts that must never be written."""
        keys = [workspace.key for workspace in self.workspaces]
        if self.webhook.path is not None and self.webhook.secret_file is not None:
            keys.append(self.webhook.secret_file.key)
        if self.state.password_file is not None:
            keys.append(self.state.password_file.key)
        return tuple(key.get_secret_value() for key in keys if key is not None)

    def with_api(self, base_url: str, key: str) -> "Settings":
        api = self.api._replace(base_url=base_url, key=Secret(key), key_file=None, profile_id=None)
        return self._replace(api=api, workspace_list=None)

    def value_of(self, option: Option) -> object:
        return reduce(getattr, option.path, self)


SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {name: kind for name, kind in Settings.__annotations__.items() if name not in Settings._field_defaults}
)
OPTIONS = tuple(option for name, section in SECTIONS.items() for option in options_of(section, name))


class CommandContext(NamedTuple):
    """Everything a command needs to run; ``reload_settings`` raises ConfigError."""

    settings: Settings
    reload_settings: Callable[[], Settings]
    flags: CommandFlags
    args: tuple[str, ...] = ()


def restart_only_changes(old: Settings, new: Settings) -> list[str]:
    """Return the names of the changed options that cannot be applied without a restart."""
    return [
        option.name for option in OPTIONS if option.reload == "restart" and old.value_of(option) != new.value_of(option)
    ]
