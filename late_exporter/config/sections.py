"""The sections of options about the API, polls and the state; see ``late_exporter.config.settings``."""

# Annotations are evaluated: they are read as data.
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from late_exporter.config.commands import (
    ALL_COMMANDS,
    API_COMMANDS,
    CLIENT_COMMANDS,
    EXPORTER_COMMANDS,
    QUERY_COMMANDS,
    SHARDED_COMMANDS,
    STATE_COMMANDS,
)
from late_exporter.config.options import option
from late_exporter.config.parsers import duration, integer
from late_exporter.config.types import (
    BaseUrl,
    Bool,
    CommaSeparated,
    FeedName,
    Key,
    KeyFile,
    PasswordFile,
    ProfileId,
    Share,
    StateUrl,
    StatusFeedName,
    StatusFeedNames,
)

if TYPE_CHECKING:
    from pathlib import Path


_DEMO_INTERVAL: Mapping[str, Any] = MappingProxyType({"command_defaults": {"demo": "30s"}})


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
        "Status feeds to read, or none. They report what does not appear in logs: overdue posts, the health of "
        "accounts, cooldowns, webhooks that are switched off, and the plan.",
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
        "Share a state in PostgreSQL with other replicas: each polls and shows a part of the workspaces, and owns "
        "those of one that dies.",
        ("run", "check"),
    )
    lease_duration: Annotated[float, duration("2s", "10m")] = option(
        "30s",
        "DURATION",
        "Silence after which others end the session of a replica, 2s to 10m; the same for all replicas.",
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
        "Number of processes that share the workspaces, each with a state of its own. Each workspace is "
        "assigned to one of them by a hash of its name.",
        SHARDED_COMMANDS,
        name="total-shards",
    )
