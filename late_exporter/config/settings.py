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
from typing import TYPE_CHECKING, Any, NamedTuple

from late_exporter.config.flags import CommandFlags
from late_exporter.config.options import Option, options_of
from late_exporter.config.sections import (
    ApiSettings,
    ConfigSettings,
    PollSettings,
    ShardingSettings,
    StateSettings,
    StatusSettings,
)
from late_exporter.config.serving import (
    EventSettings,
    LogSettings,
    MetricsSettings,
    SimulateSettings,
    WebhookSettings,
    WebSettings,
)
from late_exporter.config.sharding import shard_of
from late_exporter.config.types import (
    BaseUrl,
    KeyFile,
    ProfileId,
    Secret,
    SecretFile,
    WorkspaceLabels,
    WorkspaceName,
)

if TYPE_CHECKING:
    from pathlib import Path

    from late_exporter.config.web import WebConfig


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

    @property
    def key_text(self) -> str:
        """The key; empty if there is none."""
        return self.key.get_secret_value() if self.key else ""


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
        option.name
        for option in OPTIONS
        if option.reload == "restart"
        and _without_content(old.value_of(option)) != _without_content(new.value_of(option))
    ]


def _without_content(value: object) -> object:
    """Return a value as it is configured; a file with a secret, which is read when it is needed, is only its path."""
    return value.path if isinstance(value, SecretFile) else value
