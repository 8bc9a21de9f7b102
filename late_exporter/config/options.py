"""Metadata of options: attached to a model's fields by ``option()``, read back by ``options_of()``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails

from late_exporter.config.commands import EXPORTER_COMMANDS
from late_exporter.config.types import quote

PREFIX = "LATE_EXPORTER_"

# Path of a value within a model, as in pydantic's errors: ("poll", "interval").
Location: TypeAlias = tuple[int | str, ...]

REASONS = MappingProxyType(
    {
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "dict_type": "must be a mapping",
        "extra_forbidden": "unknown",
        "model_type": "must be a mapping",
        "string_type": "must be one value",
        "tuple_type": "must be a list",
    }
)
"""Messages for pydantic's error types."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        name: Section and option, as in ``poll.interval``.
        path: Attributes that lead to its value, as in ``("poll", "interval")``.
        variable: Environment variable; empty for the flags of a single command.
        alias: Second environment variable with the same meaning.
        default: Default value as a user would write it, or None.
        metavar: Placeholder of the value; empty for a boolean flag.
        reload: ``live`` if a reload applies a new value, ``restart`` if it takes a restart.
        command_defaults: Defaults that differ from ``default``, by command.
        command_choices: Allowed values that depend on the command.
        choices: Allowed values, from the Literal type of the field.
        many: Whether it may be repeated, or hold a comma-separated list.
        secret: Whether it can be set by an environment variable only.
    """

    name: str
    path: tuple[str, ...]
    variable: str
    default: str | None
    metavar: str
    help: str
    commands: tuple[str, ...]
    reload: Literal["live", "restart"] = "restart"
    alias: str = ""
    command_defaults: Mapping[str, str] = field(default_factory=dict)
    command_choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    many: bool = False
    secret: bool = False

    @property
    def section(self) -> str:
        """Section of the configuration file, as in ``poll``; empty for the flags of a single command."""
        return self.path[0] if len(self.path) > 1 else ""

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
    help: str,  # noqa: A002 - the term of every command line library
    commands: tuple[str, ...] = EXPORTER_COMMANDS,
    *,
    name: str = "",
    variable: str = "",
    **metadata: Any,
) -> Any:
    """Declare a model field as an option; the arguments are those of Option, most of which follow from the field."""
    declaration = Option(name, (), variable, default, metavar, help, commands, **metadata)
    value: Any = () if "many" in metadata and default is None else default
    return Field(value, validate_default=default is not None, json_schema_extra={"option": declaration})  # type: ignore[dict-item]


def options_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Option]:
    """Yield the options that a model and its sections declare."""
    for field_name, info in model.model_fields.items():
        here = (*path, field_name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from options_of(info.annotation, here)
        elif isinstance(info.json_schema_extra, dict):
            base: Any = info.json_schema_extra["option"]
            variable = f"{PREFIX}{'__'.join(here)}".upper() if path else ""
            yield replace(
                base,
                name=base.name or ".".join(here).replace("_", "-"),
                path=here,
                variable=base.variable or variable,
                choices=tuple(_literals(info.annotation)),
            )


def _literals(annotation: object) -> Iterator[str]:
    """Yield the values of a Literal, also of one within a tuple or a union."""
    for argument in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield argument
        else:
            yield from _literals(argument)


def describe_error(error: ErrorDetails, places: Mapping[Location, str]) -> str:
    """Return a validation error as one line that begins with the place of the value."""
    location = error["loc"]
    place = next(places[location[:size]] for size in range(len(location), 0, -1) if location[:size] in places)
    if error["type"] == "missing":
        return f"{place}: {location[-1]} is missing"
    value = quote(error["input"], url=str(location[-1]).endswith("url"))
    return f"{place}{value}: {error_reason(error)}"


def error_reason(error: ErrorDetails) -> str:
    match error["type"]:
        case "literal_error":
            words = re.findall("'([^']*)'", error["ctx"]["expected"])
            return f"must be one of {', '.join(filter(None, words))}"
        case "value_error":
            return str(error["ctx"]["error"])
        case kind:
            return REASONS.get(kind) or str(error["msg"]).removeprefix("Input ")


def suggest(name: str, candidates: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean ...?" for the closest candidate, or nothing.

    ``prefix`` is common to all of them and ignored, since it would make every candidate look close.
    """
    names = {candidate.removeprefix(prefix): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.removeprefix(prefix), sorted(names), n=1)
    return f"; did you mean {names[matches[0]]}?" if matches else ""
