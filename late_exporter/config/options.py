"""Options: fields of a settings model, with what their users need to know of them.

Also which commands have which options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict

PREFIX = "LATE_EXPORTER_"
FLAGS = "flags"
"""Section of the settings whose fields are flags of single commands."""

EXPORTER_COMMANDS = ("run", "check", "demo")
QUERY_COMMANDS = ("posts", "post", "logs", "audit")  # that read from the API and exit
API_COMMANDS = ("run", "check", *QUERY_COMMANDS)  # that need an API key
STATE_COMMANDS = ("state info", "state backup", "state check", "state copy")
DATABASE_COMMANDS = ("run", "check", "audit", *STATE_COMMANDS)  # that read or write the state
SIMULATOR_COMMANDS = ("demo", "simulate")
CLIENT_COMMANDS = ("status", "accounts")  # that read from the exporter on this machine
SERVER_COMMANDS = (*EXPORTER_COMMANDS, "healthcheck", *CLIENT_COMMANDS)
LOGGING_COMMANDS = (*EXPORTER_COMMANDS, "simulate", *QUERY_COMMANDS, *STATE_COMMANDS)

# Path of a value within the settings, as in pydantic's errors: ("poll", "interval").
Location: TypeAlias = tuple[int | str, ...]


class OptionModel(BaseModel):
    """A section of the settings; each field is declared by an option, which has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Option:
    """An option, as ``option()`` declares it and ``options_of`` completes it.

    Attributes:
        default: Default value as a user would write it, or None.
        metavar: Placeholder of the value; empty for a switch, which has none.
        help: Help text.
        commands: Commands that have the option.
        live: Whether a reload applies a new value; otherwise that takes a restart.
        command_defaults: Other defaults of some commands.
        name: Section and option, as in ``poll.interval``; by default that of the field.
        variables: Environment variables, by default that of section and field; a flag of single
            commands has none.
        secret: Whether it has no flag and no key in the file, only a variable.
        section: Section of the settings.
        key: Field of the section, and key in the configuration file, as in ``audit_interval``.
        choices: Allowed values, from the Literal type of the field.
        many: Whether it may be repeated, or hold a comma-separated list.
    """

    default: str | None
    metavar: str
    help: str
    commands: tuple[str, ...] = EXPORTER_COMMANDS
    live: bool = False
    command_defaults: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    variables: tuple[str, ...] = ()
    secret: bool = False
    # The field has the rest.
    section: str = ""
    key: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False

    @property
    def flag(self) -> str:
        """Flag, as in ``--poll.interval``; empty for a secret."""
        return "" if self.secret else f"--{self.name}"

    def default_for(self, command: str) -> str | None:
        return self.command_defaults.get(command, self.default)


option: Callable[..., Any] = Option
"""Declares a field as an option; of any type, because fields have the types of their values."""


def options_of(section: str, model: type[BaseModel]) -> Iterator[Option]:
    """Yield the options of a section of the settings."""
    for key, info in model.model_fields.items():
        declared: Option = info.default
        name = key
        variables: tuple[str, ...] = ()
        if section != FLAGS:
            name = f"{section}.{key}"
            variables = (f"{PREFIX}{section}__{key}".upper(),)
        yield replace(
            declared,
            name=declared.name or name.replace("_", "-"),
            variables=declared.variables or variables,
            section=section,
            key=key,
            choices=tuple(_literals(info.annotation)),
            many=get_origin(info.annotation) in (tuple, dict),
        )


def _literals(annotation: object) -> Iterator[str]:
    """Yield the values of a Literal, even if it is within a tuple or a union."""
    for argument in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield argument
        else:
            yield from _literals(argument)
