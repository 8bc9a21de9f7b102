"""The settings of the program: nested, immutable models that declare every option once.

A section and a field make the flag ``--poll.interval``, the variable
``LATE_EXPORTER_POLL__INTERVAL`` and the key ``poll: {interval: 30s}`` of the configuration file.
Every value arrives as text, so that one type per option serves all three. Durations are in seconds.
"""

# Annotations are evaluated by pydantic.
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from late_exporter.config import fields, sections
from late_exporter.config.options import PREFIX, Option, OptionModel, options_of
from late_exporter.config.web import WebConfig


class Workspace(NamedTuple):
    """One API key, the API it belongs to, and the profile if it is limited to one.

    ``key_file`` is read again when the key changes. ``labels`` are those of
    ``late_workspace_info``.

    Args:
        key_users: Number of workspaces with the same key.
    """

    name: str
    base_url: str
    key: SecretStr | None = None
    key_file: Path | None = None
    profile_id: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    key_users: int = 1

    @property
    def key_text(self) -> str:
        """The key; empty if there is none."""
        return self.key.get_secret_value() if self.key else ""


class WorkspaceSettings(OptionModel):
    """One item of ``workspaces`` in the configuration file."""

    name: fields.WorkspaceName
    api_key_file: fields.KeyFile
    api_base_url: fields.BaseUrl | None = None
    profile_id: fields.ProfileId | None = None
    labels: fields.WorkspaceLabels = Field(default_factory=dict)

    def workspace(self, base_url: str) -> Workspace:
        """Return the workspace, with the URL of all workspaces if it has none of its own."""
        path, key = self.api_key_file
        labels = tuple(self.labels.items())
        return Workspace(
            self.name, self.api_base_url or base_url, key, path, self.profile_id, labels
        )


def _check_workspaces(rows: tuple[WorkspaceSettings, ...]) -> tuple[WorkspaceSettings, ...]:
    """Reject equal names, and two workspaces of the same key and profile, which would count the same logs."""
    if not rows:
        raise ValueError("must list at least one workspace")
    fields.distinct(tuple(f'the name "{row.name}"' for row in rows))
    names: dict[tuple[str | None, str, str], str] = {}
    for row in rows:
        if row.profile_id is not None:
            key = row.api_key_file.key.get_secret_value()
            first = names.setdefault((row.api_base_url, key, row.profile_id), row.name)
            if first != row.name:
                raise ValueError(
                    f'"{first}" and "{row.name}" have the same API key and profile_id; give each its own one'
                )
    return rows


class Settings(BaseSettings):
    """All settings, by section, with what the configuration files contain besides options."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        enable_decoding=False,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
    )

    config: sections.ConfigSettings = sections.ConfigSettings()
    api: sections.ApiSettings = sections.ApiSettings()
    poll: sections.PollSettings = sections.PollSettings()
    status: sections.StatusSettings = sections.StatusSettings()
    state: sections.StateSettings = sections.StateSettings()
    web: sections.WebSettings = sections.WebSettings()
    metrics: sections.MetricsSettings = sections.MetricsSettings()
    log: sections.LogSettings = sections.LogSettings()
    simulate: sections.SimulateSettings = sections.SimulateSettings()
    flags: sections.CommandFlags = sections.CommandFlags()
    workspace_list: (
        Annotated[tuple[WorkspaceSettings, ...], AfterValidator(_check_workspaces)] | None
    ) = Field(None, alias="workspaces")
    _loaded_web_config: WebConfig = PrivateAttr(default_factory=WebConfig)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature of pydantic-settings
        init_settings: Any,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the sources of the command instead of all variables; see ``late_exporter.config.sources``."""
        return tuple(init_settings.init_kwargs.get("sources", ()))

    @property
    def workspaces(self) -> tuple[Workspace, ...]:
        """The workspaces of the configuration file, or the one of the API key."""
        api = self.api
        if self.workspace_list is None:
            path, key = api.key_file or (None, api.key)
            return (Workspace("default", api.base_url, key, path, api.profile_id),)
        rows = [row.workspace(api.base_url) for row in self.workspace_list]
        users = Counter(row.key_text for row in rows)
        return tuple(row._replace(key_users=users[row.key_text]) for row in rows)

    @property
    def workspaces_with_same_logs(self) -> Sequence[tuple[str, str]]:
        """Names of workspaces that have the same key and no profile, so that both count every log of the key."""
        names: dict[tuple[str, str], str] = {}
        pairs = []
        for workspace in self.workspaces:
            if workspace.profile_id is None and workspace.key is not None:
                first = names.setdefault((workspace.base_url, workspace.key_text), workspace.name)
                if first != workspace.name:
                    pairs.append((first, workspace.name))
        return pairs

    @property
    def sharing_groups(self) -> Mapping[str, str]:
        """Group of each workspace: those with the same key share its quota, in one process.

        A group has the name of its first workspace in alphabetical order, so that it does not
        depend on their order in the files of the replicas.
        """
        first_names: dict[str, str] = {}
        workspaces = sorted(self.workspaces, key=lambda each: each.name)
        return {each.name: first_names.setdefault(each.key_text, each.name) for each in workspaces}

    @property
    def web_config(self) -> WebConfig:
        """Content of the file of ``--web.config.file``, or its defaults."""
        return self._loaded_web_config

    @property
    def secrets(self) -> tuple[str, ...]:
        """All texts that must never be written."""
        keys = [workspace.key for workspace in self.workspaces]
        keys += [
            file.key
            for file in (self.state.password_file, self.flags.password_file)
            if file is not None
        ]
        return tuple(key.get_secret_value() for key in keys if key is not None)

    def with_web_config(self, web_config: WebConfig) -> "Settings":
        copy = self.model_copy()
        copy._loaded_web_config = web_config  # noqa: SLF001 - of this class
        return copy

    def with_api(self, base_url: str, key: str) -> "Settings":
        changes = {
            "base_url": base_url,
            "key": SecretStr(key),
            "key_file": None,
            "profile_id": None,
        }
        return self.model_copy(
            update={"api": self.api.model_copy(update=changes), "workspace_list": None}
        )

    def value_of(self, option: Option) -> Any:
        return reduce(getattr, option.path, self)


ALL_OPTIONS = tuple(
    option
    for name, section in Settings.model_fields.items()
    if isinstance(section.annotation, type)
    for option in options_of(section.annotation, name)
)
OPTIONS = tuple(option for option in ALL_OPTIONS if option.section)
COMMAND_FLAGS = tuple(option for option in ALL_OPTIONS if not option.section)
"""Options of single commands."""


class CommandContext(NamedTuple):
    """Everything a command needs to run; ``reload_settings`` raises ConfigError."""

    settings: Settings
    reload_settings: Callable[[], Settings]
    flags: sections.CommandFlags
    args: tuple[str, ...] = ()


def restart_only_changes(old: Settings, new: Settings) -> list[str]:
    """Return the names of the changed options that cannot be applied without a restart."""
    return [
        option.name
        for option in OPTIONS
        if not option.live
        and _without_content(old.value_of(option)) != _without_content(new.value_of(option))
    ]


def _without_content(value: object) -> object:
    """Return a value as it is configured; a file with a secret, which is read when it is needed, is only its path."""
    return value.path if isinstance(value, fields.SecretFile) else value
