"""Options: fields of the settings models, with what command line, environment and documents need to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from late_exporter.config.command_groups import EXPORTER_COMMANDS

PREFIX = "LATE_EXPORTER_"
MIN_SIMILARITY = 0.65  # of a name and a suggestion, where 1 is equal
MIN_BEGINNING = 3  # characters of a name with which it suggests longer ones

# Path of a value within the settings, as in pydantic's errors: ("poll", "interval").
Location: TypeAlias = tuple[int | str, ...]


class OptionModel(BaseModel):
    """A model whose fields are options: declared by ``option()``, explained by the string below each."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )


class Option(NamedTuple):
    """One option.

    Args:
        name: Section and option, as in ``poll.interval``.
        path: Attributes that lead to its value, as in ``("poll", "interval")``.
        default: Default value as a user would write it, or None.
        metavar: Placeholder of the value; empty for a boolean flag.
        variable: Environment variable; empty for a flag of single commands.
        alias: Second environment variable with the same meaning.
        live: Whether a reload applies a new value, instead of a restart.
        command_defaults: Defaults that differ from ``default``, by command.
        choices: Allowed values, from the Literal type of the field.
        many: Whether it may be repeated, or hold a comma-separated list.
        is_mapping: Whether it may be a mapping of names to lists in the configuration file.
        secret: Whether it can be set by an environment variable only.
    """

    name: str
    path: tuple[str, str]
    default: str | None
    metavar: str
    help: str
    commands: tuple[str, ...]
    variable: str = ""
    alias: str = ""
    live: bool = False
    command_defaults: Mapping[str, str] = MappingProxyType({})
    choices: tuple[str, ...] = ()
    many: bool = False
    is_mapping: bool = False
    secret: bool = False

    @property
    def section(self) -> str:
        """Section of the configuration file, as in ``poll``; empty for a flag of single commands."""
        return self.path[0] if self.variable else ""

    @property
    def key(self) -> str:
        """Key within the section of the configuration file, as in ``audit-interval``."""
        return self.path[-1].replace("_", "-")

    @property
    def flag(self) -> str:
        """Flag, as in ``--poll.interval``; empty for a secret."""
        return "" if self.secret else f"--{self.name}"

    def default_for(self, command: str) -> str | None:
        return self.command_defaults.get(command, self.default)


def option(
    default: str | None,
    metavar: str,
    commands: tuple[str, ...] = EXPORTER_COMMANDS,
    **attributes: Any,
) -> Any:
    """Declare a field as an option; the attributes are those of Option, most of which follow from the field."""
    return Field(
        default, json_schema_extra={"metavar": metavar, "commands": commands, **attributes}
    )


def options_of(model: type[BaseModel], section: str) -> Iterator[Option]:
    """Yield the options of a section of the settings."""
    for field_name, field in model.model_fields.items():
        path = (section, field_name)
        kind, choices = get_origin(field.annotation), tuple(_literals(field.annotation))
        text = " ".join((field.description or "").split())
        if not all(choice in text for choice in choices):
            text += f" One of {', '.join(choices)}."
        derived = {
            "name": f"{section}.{field_name}".replace("_", "-"),
            "variable": f"{PREFIX}{section}__{field_name}".upper(),
            "choices": choices,
            "many": kind in (tuple, dict),
            "is_mapping": kind is dict,
        }
        declared: Any = field.json_schema_extra
        if declared.get("variable") == "":
            derived["name"] = field_name.replace("_", "-")
        yield Option(path=path, default=field.default, help=text, **derived | declared)


def _literals(annotation: object) -> Iterator[str]:
    """Yield the values of a Literal, even if it is within a tuple or a union."""
    for argument in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield argument
        else:
            yield from _literals(argument)


def suggest(name: str, candidates: Iterable[str], prefix: str = "", limit: int = 1) -> str:
    """Return "; did you mean ...?" for the closest candidates, or else for those that begin with the name, or nothing.

    ``prefix`` is common to many of them and ignored, since it would make every candidate look
    close. ``limit`` is the maximum number of candidates to name.
    """
    import difflib  # noqa: PLC0415 - for messages only

    names = {candidate.removeprefix(prefix): candidate for candidate in candidates}
    rest = name.removeprefix(prefix)
    longer_names = [
        other for other in sorted(names) if len(rest) >= MIN_BEGINNING and other.startswith(rest)
    ]
    matches = (
        difflib.get_close_matches(rest, sorted(names), limit, MIN_SIMILARITY)
        or longer_names[:limit]
    )
    return f"; did you mean {' or '.join(names[match] for match in matches)}?" if matches else ""
