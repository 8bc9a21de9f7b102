"""The help of every command, from the tables of commands and options."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from late_exporter.cli.manpage import EXIT_CODES
from late_exporter.config.commands import COMMANDS, Command
from late_exporter.config.flags import ASKED
from late_exporter.config.options import OPTIONS, Option

__all__ = ["WIDEST", "describe", "entry"]

WIDEST = 100
INDENT = " " * 6


def describe(name: str) -> Iterator[str]:
    """The help of a command, line by line; without a name, that of the program and of ``run``."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    command = COMMANDS[name or "run"]
    usage = " ".join(["late-exporter", name or "[COMMAND]", *command.arguments, *_flags(command)])
    yield from textwrap.wrap(f"Usage: {usage}", width, subsequent_indent=INDENT, break_on_hyphens=False)
    yield ""
    if name:
        yield from textwrap.wrap(command.help, width)
        for note in command.notes:
            yield ""
            yield from textwrap.wrap(note, width, break_on_hyphens=False)
        yield from _actions(command, width)
    else:
        yield from _overview(width)
    yield from _options(command.name, width)
    yield ""
    yield from entry("--help, --version", ["Print this, or the version."], width)
    yield from _examples(command, width)
    if not name:
        yield from ("", "Exit codes:")
        for code, meaning in EXIT_CODES:
            yield from textwrap.wrap(f"  {code}  {meaning}", width, subsequent_indent=" " * 5)


def _actions(command: Command, width: int) -> Iterator[str]:
    if command.actions:
        yield from ("", f"{command.arguments[0]} is one of:")
    for action in command.actions:
        yield from entry(" ".join((action.name, *action.arguments)), [action.help], width)


def _flags(command: Command) -> Iterator[str]:
    """What kinds of flags it has."""
    if any(command.name in option.commands for option in ASKED):
        yield "[--option VALUE ...]"
    if any(command.name in option.commands for option in OPTIONS):
        yield "[--section.option VALUE ...]"


def _overview(width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        "Prometheus exporter for the logs of Late. Flags win over the environment, and the "
        "environment over the file of --config.file.",
        width,
    )
    yield ""
    yield "Commands (COMMAND --help has the options of each):"
    column = max(map(len, COMMANDS)) + 4
    for name, command in COMMANDS.items():
        yield from textwrap.wrap(f"  {name:<{column - 2}}{command.help}", width, subsequent_indent=" " * column)
    yield ""
    yield "Options of run:"


def _options(name: str, width: int) -> Iterator[str]:
    heading = None
    for option in (*ASKED, *OPTIONS):
        if name not in option.commands:
            continue
        section = option.section if option.name.count(".") else ""
        if section != heading:
            heading = section
            yield from ("", f"{section}:") if section else ("",)
        yield from entry(_heading(option), [_meaning(option, name), *_origin(option, name, width)], width)


def _meaning(option: Option, name: str) -> str:
    formats = COMMANDS[name].formats
    return f"{option.help} One of {', '.join(formats)}." if option.name == "format" else option.help


def _heading(option: Option) -> str:
    return f"{option.flag} {option.metavar}".rstrip() if option.flag else option.variable


def _origin(option: Option, name: str, width: int) -> list[str]:
    """Default and variable, in one line where they fit."""
    default = COMMANDS[name].formats[0] if option.name == "format" else option.default_of(name)
    parts = [f"default {default}" if default is not None else "", option.variable if option.flag else ""]
    parts = [part for part in parts if part]
    line = ", ".join(parts)
    return [line] if len(line) <= width - len(INDENT) else parts


def _examples(command: Command, width: int) -> Iterator[str]:
    if command.examples:
        yield from ("", "Examples:")
    for arguments, meaning in command.examples:
        # Room is left for a backslash, so that it can be copied as it stands.
        lines = textwrap.wrap(f"late-exporter {arguments}", width - len(INDENT) - 2, break_on_hyphens=False)
        heading = f" \\\n{INDENT}".join(lines)
        yield from entry(heading, [meaning], width)


def entry(heading: str, paragraphs: Iterable[str], width: int) -> Iterator[str]:
    """A heading, and paragraphs set in below it."""
    yield f"  {heading}"
    for paragraph in paragraphs:
        lines = textwrap.wrap(paragraph, width - len(INDENT), break_on_hyphens=False, break_long_words=False)
        yield from (INDENT + line for line in lines)
