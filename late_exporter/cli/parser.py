"""The command line as click commands, whose options are made of the fields of the settings.

click splits the command line, prints help and completes words. Values are checked by pydantic, for
flags, environment and file at once. The table of options, and with it pydantic, is imported only if
a command is on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from late_exporter import __revision__, __version__
from late_exporter.commands.catalogue import COMMANDS, EXIT_CODES, GROUPS, Command
from late_exporter.errors import ConfigError

if TYPE_CHECKING:
    from late_exporter.config.options import Option

PROGRAM = "late-exporter"
FLAGS_OF_PROGRAM = ("-h", "--help", "-V", "--version")
VERSION = f"{PROGRAM}, version {__version__} (revision: {__revision__})"
CONTEXT = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
HELP = """\
Prometheus exporter for the logs of Zernio (formerly Late). The default command is run; COMMAND
--help explains a command and its options.

Flags override environment variables, and these the file of --config.file. The flag
--poll.audit-interval is the variable LATE_EXPORTER_POLL__AUDIT_INTERVAL and the key audit_interval
below poll. The API key is in ZERNIO_API_KEY, or in the file that ZERNIO_API_KEY_FILE names."""


class Arguments(NamedTuple):
    """A command line: the values of flags by option name, and the action and other arguments."""

    command: str
    flags: Mapping[str, str | Sequence[str]]
    args: tuple[str, ...]


def parse(argv: Sequence[str]) -> Arguments | None:
    """Return the arguments of a command line, or None if help was printed; raise ConfigError."""
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0] not in FLAGS_OF_PROGRAM):
        words = ["run", *words]
    try:
        result = _Program().main(words, PROGRAM, standalone_mode=False)
    except click.ClickException as exc:
        raise ConfigError(exc.format_message()) from None
    return result if isinstance(result, Arguments) else None


class _Group(click.Group):
    """Commands; a mistyped name gets a suggestion, in every version of click."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        commands = self.list_commands(ctx)
        if name not in commands and not name.startswith("-") and not ctx.resilient_parsing:
            from late_exporter.config.messages import suggest  # noqa: PLC0415 - imports pydantic

            hint = suggest(name, commands)
            ctx.fail(f"No such command {name!r}{hint or '; --help lists the commands'}")
        return super().resolve_command(ctx, args)


class _Program(_Group):
    """The program, whose commands are created when they are needed."""

    def __init__(self) -> None:
        super().__init__(PROGRAM, help=HELP, context_settings=CONTEXT)
        click.version_option(__version__, "-V", "--version", message=VERSION)(self)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name in COMMANDS:
            return _ClickCommand(COMMANDS[cmd_name])
        if cmd_name not in GROUPS:
            return None
        group = _Group(cmd_name, help=GROUPS[cmd_name], no_args_is_help=False)
        for name, command in COMMANDS.items():
            if name.startswith(f"{cmd_name} "):
                group.add_command(_ClickCommand(command))
        return group

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)


class _ClickCommand(click.Command):
    """A command, which returns its arguments."""

    def __init__(self, command: Command) -> None:
        from late_exporter.config.settings import ALL_OPTIONS  # noqa: PLC0415 - imports pydantic

        self._command = command
        self._options = {
            f"{option.section}__{option.key}": option
            for option in ALL_OPTIONS
            if option.flag and command.name in option.commands
        }
        params: list[click.Parameter] = []
        for name in command.arguments:
            kind = click.Path(readable=False) if name == "FILE" else None
            word = name.strip("[]")
            params.append(click.Argument([word.lower()], type=kind, required=word == name))
        for key, option in self._options.items():
            params.append(_click_option(key, option, command.name))
        super().__init__(
            command.name.rpartition(" ")[2],
            callback=self._collect,
            params=params,
            help=f"{command.summary}\n\n{cleandoc(command.description)}",
            short_help=command.summary,
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Examples"):
            for arguments, meaning in self._command.examples:
                formatter.write(f"  {PROGRAM} {arguments}\n")
                formatter.write_text(f"    {meaning}")

    def _collect(self, **values: Any) -> Arguments:
        flags = {
            option.name: values[key]
            for key, option in self._options.items()
            if values[key] not in (None, False, ())
        }
        _, *args = self._command.name.split()
        for name in self._command.arguments:
            if (word := values[name.strip("[]").lower()]) is not None:
                args.append(word)
        return Arguments(self._command.name, flags, tuple(args))


def _click_option(key: str, option: Option, command: str) -> click.Option:
    if not option.metavar:
        return click.Option([key, option.flag], is_flag=True, help=option.help)
    kind: click.ParamType[Any] = click.STRING
    if option.choices and not option.many:  # which may be separated by commas
        kind = click.Choice(option.choices)
    elif option.metavar == "FILE":
        kind = click.Path(readable=False)
    default = option.default_for(command)
    return click.Option(
        [key, option.flag],
        metavar=option.metavar,
        type=kind,
        multiple=option.many,
        help=f"{option.help}  [default: {default}]" if default else option.help,
    )
