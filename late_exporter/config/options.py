"""The table of options: rows of plain data, declared by ``option()`` as fields of named tuples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

from late_exporter.config.commands import EXPORTER_COMMANDS

PREFIX = "LATE_EXPORTER_"
MIN_SIMILARITY = 0.65  # of a name and a suggestion, where 1 is equal
MIN_BEGINNING = 3  # characters of a name with which it suggests longer ones

# Path of a value within the settings, as in pydantic's errors: ("poll", "interval").
Location: TypeAlias = tuple[int | str, ...]


class Option(NamedTuple):
    """One option.

    Args:
        name: Section and option, as in ``poll.interval``.
        path: Attributes that lead to its value, as in ``("poll", "interval")``.
        variable: Environment variable; empty for the flags of a single command.
        alias: Second environment variable with the same meaning.
        default: Default value as a user would write it, or None.
        metavar: Placeholder of the value; empty for a boolean flag.
        reload: ``live`` if a reload applies a new value, ``restart`` if it takes a restart.
        command_help: Texts that differ from ``help``, by command.
        command_defaults: Defaults that differ from ``default``, by command.
        command_choices: Allowed values that depend on the command.
        choices: Allowed values, from the Literal type of the field.
        many: Whether it may be repeated, or hold a comma-separated list.
        is_mapping: Whether it may be a mapping of names to lists in the configuration file.
        secret: Whether it can be set by an environment variable only.
        is_main: Whether --help explains it; the others are named there, and explained by --help-all.
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
    command_help: Mapping[str, str] = MappingProxyType({})
    command_defaults: Mapping[str, str] = MappingProxyType({})
    command_choices: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    choices: tuple[str, ...] = ()
    many: bool = False
    is_mapping: bool = False
    secret: bool = False
    is_main: bool = False

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

    def help_for(self, command: str) -> str:
        return self.command_help.get(command, self.help)

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
    """Declare a field as an option; the arguments are those of Option, most of which follow from the field.

    The declaration takes the place of the field's default. Loading gives every field a value, so no instance holds it.
    """
    return Option(name, (), variable, default, metavar, help, commands, **metadata)


def options_of(fields: type[Any], section: str = "") -> Iterator[Option]:
    """Yield the options that a named tuple declares, for a section of the settings or for single commands."""
    for field_name, declaration in fields._field_defaults.items():
        path = (section, field_name) if section else (field_name,)
        variable = f"{PREFIX}{'__'.join(path)}".upper() if section else ""
        yield declaration._replace(
            name=declaration.name or ".".join(path).replace("_", "-"),
            path=path,
            variable=declaration.variable or variable,
            choices=tuple(_literals(fields.__annotations__[field_name])),
        )


def _literals(annotation: object) -> Iterator[str]:
    """Yield the values of a Literal, even if it is within a tuple or a union."""
    for argument in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield argument
        else:
            yield from _literals(argument)


def suggest(name: str, candidates: Iterable[str], prefix: str = "", limit: int = 1) -> str:
    """Return "; did you mean ...?" for the closest candidates, or else for those that begin with the name, or nothing.

    ``prefix`` is common to many of them and ignored, since it would make every candidate look close. ``limit`` is the
    maximum number of candidates to name.
    """
    import difflib  # noqa: PLC0415 - for messages only

    names = {candidate.removeprefix(prefix): candidate for candidate in candidates}
    rest = name.removeprefix(prefix)
    longer_names = [other for other in sorted(names) if len(rest) >= MIN_BEGINNING and other.startswith(rest)]
    matches = difflib.get_close_matches(rest, sorted(names), limit, MIN_SIMILARITY) or longer_names[:limit]
    return f"; did you mean {' or '.join(names[match] for match in matches)}?" if matches else ""
