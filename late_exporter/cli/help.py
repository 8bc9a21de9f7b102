"""The commands as click commands, which provide help and shell completion."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import click
from click.shell_completion import get_completion_class, shell_complete

from late_exporter.config.commands import COMMANDS, EXIT_CODES, Command
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS

PROGRAM = "late-exporter"
COMPLETION_VARIABLE = "_LATE_EXPORTER_COMPLETE"
MIN_WIDTH = 40
MAX_WIDTH = 100
INDENT = " " * 6


class _Layout(click.Command):
    """A command whose help shows examples first, and options by section."""

    def __init__(self, command: Command, *, is_program: bool = False, with_all_options: bool = False) -> None:
        self._command = command
        self._with_all_options = with_all_options
        self._is_program = is_program
        super().__init__(None if is_program else command.name, params=list(_parameters(command)), help=command.help)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        text = (
            "Prometheus exporter for the logs of Zernio (formerly Late). Flags take precedence over environment "
            "variables, and these over the file of --config.file."
        )
        paragraphs = [text] if self._is_program else [self._command.help, *self._command.notes]
        for paragraph in paragraphs:
            formatter.write_paragraph()
            formatter.write("\n".join(_wrap(paragraph, formatter.width)) + "\n")
        if self._is_program:
            with formatter.section("Commands (COMMAND --help lists the options of each)"):
                formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])
        if self._command.actions:
            with formatter.section(f"{self._command.arguments[0]} is one of"):
                formatter.write_dl(
                    [(" ".join((action.name, *action.arguments)), action.help) for action in self._command.actions]
                )
        with formatter.section("Examples"):
            for arguments, meaning in self._command.examples:
                # Two columns are left for the backslash of a continued line.
                lines = _wrap(f"{PROGRAM} {arguments}", formatter.width - len(INDENT) - 2)
                _write(formatter, format_entry(f" \\\n{INDENT}".join(lines), [meaning], formatter.width))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        name = self._command.name
        options = [option for option in (*COMMAND_FLAGS, *OPTIONS) if name in option.commands]
        main = [option for option in options if self._with_all_options or option.is_main or not option.section]
        for section, members in groupby(main, key=lambda option: option.section if self._with_all_options else ""):
            formatter.write(f"\n{section or ('Options of run' if self._is_program else 'Options')}:\n")
            for option in members:
                heading = f"{option.flag} {option.metavar}".rstrip() if option.flag else option.variable
                paragraphs = [option.help_for(name), *_origin(option, name, formatter.width)]
                _write(formatter, format_entry(heading, paragraphs, formatter.width))
        if len(main) < len(options):
            formatter.write("\nFurther options, which --help-all explains:\n")
            for section, members in groupby([option for option in options if option not in main], key=_section):
                names = [option.flag or option.variable for option in members]
                _write(formatter, format_entry(section, [", ".join(names)], formatter.width))
        formatter.write_paragraph()
        paragraphs = ["Print this help, the help with all options, or the version."]
        _write(formatter, format_entry("--help, --help-all, --version", paragraphs, formatter.width))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        if self._is_program:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])


class _Program(_Layout, click.Group):
    """The program, whose options are those of ``run``."""

    def __init__(self, *, with_all_options: bool = False) -> None:
        super().__init__(COMMANDS["run"], is_program=True, with_all_options=with_all_options)
        self.subcommand_metavar = "[COMMAND] [ARGS]..."
        self.commands = {
            name: _Layout(command, with_all_options=with_all_options) for name, command in COMMANDS.items()
        }


def help_text(name: str, *, with_all_options: bool = False) -> str:
    """Return the help of a command, or of the program if the name is empty, with its main options or all of them."""
    program = _Program(with_all_options=with_all_options)
    width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, MAX_WIDTH))
    context = click.Context(program, info_name=PROGRAM, terminal_width=width)
    if not name:
        return program.get_help(context)
    command = program.commands[name]
    return command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=width))


def completion_script(shell: str) -> str:
    """Return the script that makes a shell (bash, zsh or fish) complete the arguments of the program."""
    completion = get_completion_class(shell)
    if completion is None:
        raise ValueError(f"click has no completion for {shell}")
    return completion(_Program(), {}, PROGRAM, COMPLETION_VARIABLE).source()


def complete() -> int:
    """Print the completions that a script of ``completion_script()`` asks for, and return the exit code."""
    return shell_complete(_Program(), {}, PROGRAM, COMPLETION_VARIABLE, os.environ[COMPLETION_VARIABLE])


def format_entry(heading: str, paragraphs: Iterable[str], width: int) -> Iterator[str]:
    """Yield the lines of a heading and of paragraphs indented below it."""
    yield f"  {heading}"
    for paragraph in paragraphs:
        yield from (INDENT + line for line in _wrap(paragraph, width - len(INDENT)))


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _write(formatter: click.HelpFormatter, lines: Iterable[str]) -> None:
    formatter.write("".join(f"{line}\n" for line in lines))


def _origin(option: Option, command: str, width: int) -> list[str]:
    """Return choices, default and variable, the latter two in one line if they fit."""
    choices = option.command_choices.get(command)
    default = option.default_for(command)
    parts = [f"default {default}"] if default and option.metavar else []
    parts += [option.variable] if option.flag and option.variable else []
    line = ", ".join(parts)
    lines = [line] if line and len(line) <= width - len(INDENT) else parts
    return [f"One of {', '.join(choices)}.", *lines] if choices else lines


def _section(option: Option) -> str:
    return option.section


def _parameters(command: Command) -> Iterator[click.Parameter]:
    for option in (*COMMAND_FLAGS, *OPTIONS):
        if option.flag and command.name in option.commands:
            yield _click_option(option, command.name)
    for index, argument in enumerate(command.arguments):
        choices = tuple(COMMANDS) if argument == "[COMMAND]" else command.first_arguments if not index else ()
        yield click.Argument(
            [f"argument{index}"],
            metavar=argument,
            required=not argument.startswith("["),
            type=_value_type(argument, choices),
            nargs=-1 if "..." in argument else 1,
        )


def _click_option(option: Option, command: str) -> click.Option:
    name, text = "_".join(option.path), option.help_for(command)
    if not option.metavar:
        return click.Option([name, f"{option.flag}/--no-{option.name}"], help=text)
    kind = _value_type(option.metavar, option.command_choices.get(command, option.choices))
    return click.Option([name, option.flag], type=kind, metavar=option.metavar, help=text, multiple=option.many)


def _value_type(metavar: str, choices: Sequence[str]) -> click.ParamType[str]:
    if choices:
        return click.Choice(choices)
    return click.Path() if "FILE" in metavar else click.STRING
