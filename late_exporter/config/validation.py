"""Validation of settings and flags by pydantic, with models that are built from the option table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from late_exporter.config.flags import CommandFlags
from late_exporter.config.options import Location
from late_exporter.config.parsers import distinct
from late_exporter.config.section import error_reason
from late_exporter.config.settings import SECTIONS, Settings, WorkspaceSettings
from late_exporter.errors import ConfigError
from late_exporter.masking import quote


def _require_names(rows: tuple[WorkspaceSettings, ...]) -> tuple[WorkspaceSettings, ...]:
    if not rows:
        raise ValueError("must list at least one workspace")
    distinct(tuple(f'the name "{row.name}"' for row in rows))
    _require_own_profiles(rows)
    return rows


def _require_own_profiles(rows: tuple[WorkspaceSettings, ...]) -> None:
    """Raise ValueError if two workspaces have the same key and profile, and would count the same logs."""
    names: dict[tuple[str | None, str, str], str] = {}
    for row in rows:
        if row.profile_id is None:
            continue
        source = (row.api_base_url, row.api_key_file.key.get_secret_value(), row.profile_id)
        first = names.setdefault(source, row.name)
        if first != row.name:
            raise ValueError(f'"{first}" and "{row.name}" have the same API key and profile_id; give each its own one')


class _SourcedSettings(BaseSettings):
    """Settings built from ``sources``, in the order of their precedence."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    workspaces: Annotated[tuple[WorkspaceSettings, ...], AfterValidator(_require_names)] | None = None

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Replace pydantic's own sources, which do not record where a value comes from."""
        return tuple(InitSettingsSource(settings_cls, source) for source in init_settings.init_kwargs["sources"])


_SECTIONS: dict[str, Any] = {name: (section, ...) for name, section in SECTIONS.items()}
_SETTINGS = create_model("SettingsModel", __base__=_SourcedSettings, **_SECTIONS)
_FLAGS = TypeAdapter(CommandFlags)


def validate_settings(sources: Sequence[Mapping[str, Any]], places: Mapping[Location, str]) -> Settings:
    """Return the settings of some sources, the first of which takes precedence.

    Args:
        sources: Values as text, by section and field.
        places: Flag, variable or line of each value.

    Raises:
        ConfigError: The mistakes, each with its place.
    """
    arguments: dict[str, Any] = {"sources": sources}
    try:
        model = _SETTINGS(**arguments)
    except ValidationError as exc:
        raise ConfigError(*(_describe(error, places) for error in exc.errors())) from None
    values: dict[str, Any] = {name: getattr(model, name) for name in SECTIONS}
    return Settings(**values, workspace_list=model.workspaces)


def validate_flags(values: Mapping[str, Any], places: Mapping[Location, str]) -> CommandFlags:
    """Return the flags of a command from their values as text; raise ConfigError with the mistakes."""
    try:
        return _FLAGS.validate_python(values)
    except ValidationError as exc:
        raise ConfigError(*(_describe(error, places) for error in exc.errors())) from None


def _describe(error: ErrorDetails, places: Mapping[Location, str]) -> str:
    """Return a validation error as one line that begins with the place of the value."""
    location = error["loc"]
    place = next(places[location[:size]] for size in range(len(location), 0, -1) if location[:size] in places)
    if error["type"] in ("missing", "missing_argument"):
        return f"{place}: {location[-1]} is missing"
    value = quote(error["input"], url=str(location[-1]).endswith("url"))
    return f"{place}{value}: {error_reason(error)}"
