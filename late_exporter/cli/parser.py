"""The command line as click commands, whose options are made of the fields of the settings.

click splits the command line, prints help and completes words. It checks no value: pydantic does,
for all sources at once. The table of options, and with it pydantic, is imported only if a command
is on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem, get_completion_class

from late_exporter.cli.command_help import COMMANDS, EXIT_CODES, CommandHelp
from late_exporter.cli.standard_output import print_text
from late_exporter.config.command_groups import FORMATS
from late_exporter.config.quoting import quote
from late_exporter.errors import ConfigError

if TYPE_CHECKING:
    from late_exporter.config.options import Option

PROGRAM = "late-exporter"
COMPLETION_VARIABLE = "_LATE_EXPORTER_COMPLETE"
MAX_QUOTED = 24
HINTS = {"-v": "--log.level debug", "top": "status", "doctor": "check", "init": "check"}
HELP_FLAGS = ("-h", "--help")
CONTEXT = {"max_content_width": 100, "help_option_names": [*HELP_FLAGS]}


class Arguments(NamedTuple):
    """A command line: the values of flags by option name, as texts, and the words after the command."""

    command: str
    flags: Mapping[str, Sequence[str]]
    words: tuple[str, ...]


class _Command(click.Command):
    """A command, which returns its arguments."""

    def __init__(self, command: CommandHelp) -> None:
        self._command = command
        self._options = {
            "__".join(option.path): option
            for option in _options()
            if command.name in option.commands
        }
        params = [
            param
            for name, option in self._options.items()
            if option.flag
            for param in _click_options(name, option, command)
        ]
        super().__init__(
            command.name,
            CONTEXT | {"allow_extra_args": True},
            self._collect,
            [*params],
            help=command.help,
        )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), *self._command.arguments]

    def get_help_option(self, ctx: click.Context) -> click.Option:  # noqa: ARG002 - click's signature
        return _help_option()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for note in self._command.notes:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(note)
        if self._command.meanings:
            with formatter.section(f"{self._command.arguments[0]} is one of"):
                formatter.write_dl(self._command.meanings)
        with formatter.section("Examples"):
            for arguments, meaning in self._command.examples:
                formatter.write(f"  {PROGRAM} {arguments}\n")
                formatter.write_text(f"    {meaning}")
        params_by_section = sorted(
            self.get_params(ctx), key=lambda param: self._section_of(param) != ""
        )
        for section, params in groupby(params_by_section, key=self._section_of):
            with formatter.section(section or "Options"):
                formatter.write_dl(
                    [record for param in params if (record := param.get_help_record(ctx))]
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            raise ConfigError(self._unknown_flag(exc.option_name.partition("=")[0])) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        names = self._command.expected_arguments(ctx.args)[len(ctx.args) :]
        if names and "FILE" in names[0]:
            return [CompletionItem(incomplete, type="file")]
        words = (
            COMMANDS
            if names == ("[COMMAND]",)
            else ()
            if ctx.args
            else self._command.first_arguments
        )
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    def _unknown_flag(self, flag: str) -> str:
        from late_exporter.config.options import suggest  # noqa: PLC0415 - imports pydantic

        if flag == "--api.key":
            return f"{flag}: no such flag, because other users could read it; set LATE_API_KEY or --api.key-file"
        if others := next((option.commands for option in _options() if option.flag == flag), None):
            return f"{flag}: not an option of {self.name}, but of {', '.join(others)}"
        flags, prefix = (
            [option.flag for option in self._options.values()],
            flag[: flag.find(".") + 1] or "--",
        )
        hint = f"; did you mean {HINTS[flag]}?" if flag in HINTS else suggest(flag, flags, prefix)
        return f"unknown flag{_quote(flag)}{hint}"

    def _section_of(self, param: click.Parameter) -> str:
        option = self._options.get(param.name or "")
        return option.section if option else ""

    def _collect(self, **values: Any) -> Arguments:
        context = click.get_current_context()
        flags = {
            self._options[name].name: [value] if isinstance(value, str) else value
            for name, value in values.items()
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        return Arguments(self._command.name, flags, tuple(context.args))


class _Program(click.Group):
    """The program: a group whose default command is ``run``, with flags before the command as well as after it."""

    def __init__(self) -> None:
        text = (
            "Prometheus exporter for the logs of Zernio (formerly Late). Flags take precedence over environment "
            "variables, and these over the file of --config.file. COMMAND --help explains the options of each command."
        )
        version = click.Option(["-V", "--version"], is_flag=True, help="Print the version.")
        super().__init__(
            PROGRAM,
            help=text,
            params=[version],
            context_settings=CONTEXT,
            subcommand_metavar="[COMMAND]",
        )

    def get_help_option(self, ctx: click.Context) -> click.Option:  # noqa: ARG002 - click's signature
        return _help_option()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = _command_at(args)
        if at is not None and args[at] in COMMANDS:
            args = [args[at], *args[:at], *args[at + 1 :]]
        elif at is not None and not ctx.resilient_parsing:
            raise ConfigError(f"unknown command{_quote(args[at])}{_command_hint(args[at])}")
        elif not ({*args} <= {*HELP_FLAGS} and (args or ctx.resilient_parsing)):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as above
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        return _Command(COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return _Command(COMMANDS["run"]).shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]


def parse(argv: Sequence[str]) -> Arguments | None:
    """Return the arguments of a command line, or None if help was printed; raise ConfigError."""
    wrong = [number for number, word in enumerate(argv, 1) if re.search("[\ud800-\udfff]", word)]
    if wrong:
        raise ConfigError(*(f"argument {number}: not UTF-8" for number in wrong))
    try:
        result = _Program().main(
            [_as_switch(word) for word in argv], PROGRAM, standalone_mode=False
        )
    except click.ClickException as exc:
        raise ConfigError(exc.format_message()) from None
    return result if isinstance(result, Arguments) else None


def check_words(args: Arguments) -> Iterator[str]:
    """Yield unexpected and missing arguments of a command."""
    command, words = COMMANDS[args.command], args.words
    choices = command.first_arguments
    if choices and words and words[0] not in choices:
        yield f"{command.arguments[0]}{_quote(words[0])}: must be one of {', '.join(choices)}"
        return
    names = command.expected_arguments(words)
    yield from (f"unexpected argument{_quote(word)}" for word in words[len(names) :])
    for index, missing in enumerate(names[len(words) :], len(words)):
        if not missing.startswith("["):
            hint = f"; must be one of {', '.join(choices)}" if choices and not index else ""
            yield f"{missing} is missing{hint}"


def completion_script(shell: str) -> str:
    """Return the script that makes a shell (bash, zsh or fish) complete the arguments of the program."""
    completion = get_completion_class(shell)
    if completion is None:
        raise ValueError(f"click has no completion for {shell}")
    return completion(_Program(), {}, PROGRAM, COMPLETION_VARIABLE).source()


@cache
def _options() -> tuple[Option, ...]:
    from late_exporter.config.settings import COMMAND_FLAGS, OPTIONS  # noqa: PLC0415 - imports pydantic

    return (*COMMAND_FLAGS, *OPTIONS)


@cache
def _switches() -> Mapping[str, str]:
    """Return the boolean flags and their negations, each with its opposite."""
    pairs = [(option.flag, f"--no-{option.name}") for option in _options() if not option.metavar]
    return dict(pairs) | {negation: flag for flag, negation in pairs}


def _as_switch(word: str) -> str:
    """Return ``--flag`` for ``--flag=true``, and ``--no-flag`` for ``--flag=false``."""
    flag, _, value = word.partition("=")
    if value not in ("true", "false") or flag not in _switches():
        return word
    return flag if value == "true" else _switches()[flag]


def _command_at(args: Sequence[str]) -> int | None:
    """Return the index of the command: the first word that is neither a flag nor the value of one."""
    index = 0
    while index < len(args) and args[index].startswith("-"):
        flag = args[index]
        has_value = (
            flag.startswith("--")
            and "=" not in flag
            and flag not in HELP_FLAGS
            and flag not in _switches()
        )
        index += 2 if has_value else 1
    return index if index < len(args) else None


def _help_option() -> click.Option:
    def print_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
        if value and not ctx.resilient_parsing:
            ctx.exit(print_text(ctx.get_help()))

    text = "Print this help."
    return click.Option(
        [*HELP_FLAGS],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_help,
        help=text,
    )


def _click_options(name: str, option: Option, command: CommandHelp) -> Iterator[click.Option]:
    choices = FORMATS[command.name] if option.name == "format" else option.choices
    default = option.default_for(command.name) or (choices[0] if option.name == "format" else "")
    details = [f"default: {default}"] if default and option.metavar else []
    details += [f"env: {option.variable}"] if option.variable else []
    text = f"{option.help} One of {', '.join(choices)}." if option.name == "format" else option.help
    text += f"  [{'; '.join(details)}]" if details else ""
    if not option.metavar:
        yield click.Option([name, option.flag], flag_value="true", help=text)
        yield click.Option([name, f"--no-{option.name}"], flag_value="false", hidden=True)
        return

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if option.metavar == "FILE":
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]

    yield click.Option(
        [name, option.flag],
        metavar=option.metavar,
        help=text,
        multiple=True,
        shell_complete=complete,
    )


def _command_hint(name: str) -> str:
    from late_exporter.config.options import suggest  # noqa: PLC0415 - as above

    hint = f"; did you mean {HINTS[name]}?" if name in HINTS else suggest(name, COMMANDS)
    return hint or f"; commands are {', '.join(COMMANDS)}"


def _quote(text: str) -> str:
    """Quote an argument; a long one may be a key."""
    return quote(text) if len(text) <= MAX_QUOTED else f" of {len(text)} characters"
