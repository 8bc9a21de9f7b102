"""The settings of a process, and its workspaces."""

# Annotations are evaluated by pydantic.
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, InstanceOf, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from late_exporter.config import fields, sections
from late_exporter.config.options import FLAGS, Option, OptionModel, options_of
from late_exporter.config.types import format_duration
from late_exporter.config.web import WebConfig

NOT_SHOWN = {"config", "simulate", "flags", "web_config"}
"""Sections that ``/config`` does not show."""


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


class WorkspaceSettings(BaseModel):
    """One item of ``workspaces`` in the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: fields.WorkspaceName
    api_key_file: fields.KeyFile
    api_base_url: fields.BaseUrl | None = None
    profile_id: fields.ProfileId | None = None
    labels: fields.WorkspaceLabels = Field(default_factory=dict)


def _check_workspaces(rows: tuple[WorkspaceSettings, ...]) -> tuple[WorkspaceSettings, ...]:
    """Reject equal names, and workspaces of the same key and profile, which count the same logs."""
    names: dict[object, str] = {}
    for row in rows:
        for identity in (row.name, (row.api_base_url, row.api_key_file.key, row.profile_id)):
            if identity in names:
                raise ValueError(
                    f'"{names[identity]}" and "{row.name}" have the same name, or the same API key '
                    "and profile_id; give each its own"
                )
            names[identity] = row.name
    return rows


WorkspaceList: TypeAlias = Annotated[
    tuple[WorkspaceSettings, ...], AfterValidator(_check_workspaces), Field(min_length=1)
]


class Settings(BaseSettings):
    """All settings, by section, with what the configuration files contain besides options."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    config: sections.ConfigSettings
    api: sections.ApiSettings
    poll: sections.PollSettings
    status: sections.StatusSettings
    state: sections.StateSettings
    web: sections.WebSettings
    metrics: sections.MetricsSettings
    log: sections.LogSettings
    simulate: sections.SimulateSettings
    flags: sections.CommandFlags
    workspace_list: WorkspaceList | None = Field(None, alias="workspaces")
    web_config: InstanceOf[WebConfig]
    """Content of the file of ``--web.config.file``."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - signature of pydantic-settings
        init_settings: PydanticBaseSettingsSource,
        *_args: Any,
        **_others: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Flags, variables and file are merged in sources.py, which knows the place of each value.
        return (init_settings,)

    @property
    def workspaces(self) -> tuple[Workspace, ...]:
        """The workspaces of the configuration file, or the one of the API key."""
        api = self.api
        if self.workspace_list is None:
            file = api.key_file
            key = file.key if file else api.key
            path = file.path if file else None
            return (Workspace("default", api.base_url, key, path, api.profile_id),)
        users = Counter(row.api_key_file.key for row in self.workspace_list)
        return tuple(
            Workspace(
                row.name,
                row.api_base_url or api.base_url,
                row.api_key_file.key,
                row.api_key_file.path,
                row.profile_id,
                tuple(row.labels.items()),
                key_users=users[row.api_key_file.key],
            )
            for row in self.workspace_list
        )

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
    def secrets(self) -> tuple[str, ...]:
        """All texts that must never be written."""
        keys = [workspace.key for workspace in self.workspaces]
        keys += [file.key for file in (self.state.password_file, self.flags.password_file) if file]
        return tuple(key.get_secret_value() for key in keys if key)

    def value_of(self, option: Option) -> Any:
        return getattr(getattr(self, option.section), option.key)


ALL_OPTIONS = tuple(
    option
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, OptionModel)
    for option in options_of(name, field.annotation)
)
OPTIONS = tuple(option for option in ALL_OPTIONS if option.section != FLAGS)


class CommandContext(NamedTuple):
    """Everything a command needs to run.

    ``reload_settings`` takes other ``defaults``, as ``sources.load`` does; it raises ConfigError.
    """

    settings: Settings
    reload_settings: Callable[..., Settings]
    flags: sections.CommandFlags
    args: tuple[str, ...] = ()


def restart_only_changes(old: Settings, new: Settings) -> list[str]:
    """Return the names of the changed options that cannot be applied without a restart."""
    fixed = [option for option in OPTIONS if not option.live]
    return [option.name for option in fixed if old.value_of(option) != new.value_of(option)]


def format_settings(settings: Settings) -> str:
    """Return the settings of an exporter as YAML of a configuration file.

    pydantic masks the API key; other files are named but not shown.
    """
    content = settings.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=NOT_SHOWN)
    for option in OPTIONS:
        if option.metavar == "DURATION" and option.section in content:
            section = content[option.section]
            section[option.key] = format_duration(section[option.key])
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
