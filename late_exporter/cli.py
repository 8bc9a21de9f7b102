"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import msgspec

from late_exporter import __version__, healthcheck, log, settings
from late_exporter.errors import ConfigError, LateError
from late_exporter.metrics import CATALOGUE, Family
from late_exporter.options import OPTIONS, Option, suggestion
from late_exporter.settings import Settings
from late_exporter.values import Address, shown

__all__ = ["Action", "main"]

Action: TypeAlias = Callable[[Settings, Callable[[], Settings]], int]
"""Does a command with its settings, and with what reads them anew."""

DONE, FAILED, MISUSED = 0, 1, 2
WIDEST = 100
LONG = 24
INDENT = " " * 6

COMMANDS = {
    "run": "Read the logs and serve them as metrics; the default.",
    "demo": "Run a simulated Late API and the exporter in one process, with incidents to look at.",
    "simulate": "Run the simulated Late API alone.",
    "check": "Check the configuration, the key and every endpoint; exit 0 where all is well.",
    "healthcheck": "Ask the exporter that runs on this machine whether it lives; exit 0 where it does.",
    "metrics": "Print the catalogue of metrics.",
}

FORMAT = Option(
    name="format",
    variable="",
    default="table",
    metavar="FORMAT",
    help="How to print: table, markdown or json.",
    commands=("metrics",),
)
FLAGS = {option.flag: option for option in (*OPTIONS, FORMAT) if option.flag}
NEGATIONS = {f"--no-{flag[2:]}": option for flag, option in FLAGS.items() if not option.metavar}


@dataclass
class _Line:
    """A command line as it was understood."""

    words: list[str] = field(default_factory=list)
    flags: dict[str, list[str]] = field(default_factory=dict)
    wants: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command, which need not be one."""
        return self.words[0] if self.words else "run"

    def take(self, tokens: deque[str]) -> None:
        """Take one argument off the tokens, and its value with it."""
        token = tokens.popleft()
        flag, equals, value = token.partition("=")
        if not token.startswith("-"):
            self.words.append(token)
        elif token in ("-h", "--help", "--version"):
            self.wants.add(token.lstrip("-")[0])
        elif flag in NEGATIONS and not equals:
            self._give(NEGATIONS[flag], "false")
        elif flag not in FLAGS:
            self._refuse(flag, equals, tokens)
        elif equals:
            self._give(FLAGS[flag], value)
        else:
            self._give_next(FLAGS[flag], tokens)

    def _give_next(self, option: Option, tokens: deque[str]) -> None:
        if not option.metavar:
            self._give(option, tokens.popleft() if tokens and tokens[0] in ("true", "false") else "true")
        elif tokens and not tokens[0].startswith("--"):
            self._give(option, tokens.popleft())
        else:
            self.problems.append(f"{option.flag}: needs a value: {option.flag} {option.metavar}")

    def _give(self, option: Option, value: str) -> None:
        self.flags.setdefault(option.name, []).append(value)

    def _refuse(self, flag: str, equals: str, tokens: deque[str]) -> None:
        """What follows an unknown flag may be a key, so it is left out."""
        if not equals and tokens and not tokens[0].startswith("-") and tokens[0] not in COMMANDS:
            tokens.popleft()
        if flag == "--api.key":
            self.problems.append(
                f"{flag}: no such flag, because others could read it; set LATE_API_KEY or --api.key-file"
            )
        else:
            self.problems.append(f"unknown flag{_quoted(flag)}{suggestion(flag, FLAGS)}")

    def check(self) -> None:
        """Note what the command does not know."""
        if self.command not in COMMANDS:
            known = f"; there are {', '.join(COMMANDS)}"
            hint = suggestion(self.command, COMMANDS) or known
            self.problems.append(f"unknown command{_quoted(self.command)}{hint}")
            return
        self.problems.extend(f"unexpected argument{_quoted(word)}" for word in self.words[1:])
        for option in (FLAGS[f"--{name}"] for name in self.flags):
            if self.command not in option.commands:
                belongs = " and ".join(option.commands)
                self.problems.append(f"{option.flag}: not an option of {self.command}, but of {belongs}")


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Action] | None = None) -> int:
    """Run a command and give its exit code.

    Args:
        argv: Arguments without the program's name; None is those of the process.
        commands: What the commands but ``metrics`` do; None is what ``app`` and ``healthcheck`` have them do.
    """
    try:
        return _run(sys.argv[1:] if argv is None else argv, commands)
    except ConfigError as exc:
        return _complain(exc.problems, MISUSED)
    except LateError as exc:
        return _complain([str(exc)], FAILED)
    except KeyboardInterrupt:
        return FAILED


def _run(argv: Sequence[str], commands: Mapping[str, Action] | None) -> int:
    line = _parse(argv)
    if "v" in line.wants:
        return _print(f"late-exporter {__version__}")
    if "h" in line.wants and line.command in COMMANDS:
        return _print("\n".join(_help(line.command if line.words else "")))
    line.check()
    if line.command not in COMMANDS:
        raise ConfigError(*line.problems)
    if line.command == "metrics":
        return _metrics(line)
    return _start(line, _settings(line), commands)


def _parse(argv: Sequence[str]) -> _Line:
    line, tokens = _Line(), deque(argv)
    while tokens:
        line.take(tokens)
    return line


def _settings(line: _Line) -> Settings:
    """The settings, or all mistakes of the line and of all other sources together."""
    flags = {name: texts for name, texts in line.flags.items() if name != FORMAT.name}
    try:
        loaded = settings.load(line.command, flags)
    except ConfigError as exc:
        raise ConfigError(*line.problems, *exc.problems) from None
    if line.problems:
        raise ConfigError(*line.problems)
    return loaded


def _start(line: _Line, loaded: Settings, commands: Mapping[str, Action] | None) -> int:
    keys = (workspace.key for workspace in loaded.workspaces)
    log.configure(loaded.log_level, loaded.log_format, [key.get_secret_value() for key in keys if key is not None])
    action = commands[line.command] if commands is not None else _action(line.command)
    try:
        return action(loaded, partial(_settings, line))
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - a bug: its traceback has to pass the redaction
        return _report(exc, loaded.log_format)


def _report(bug: Exception, log_format: str) -> int:
    """Log a bug; its traceback is a field where machines read the log, and stands below where people do."""
    in_entry = log_format == "json"
    log.get_logger("late_exporter").error("this is a bug, please report it", exc_info=bug if in_entry else None)
    if not in_entry:
        sys.stderr.write(log.redacted_traceback(bug))
    return FAILED


def _action(command: str) -> Action:
    if command == "healthcheck":
        return _healthcheck
    from late_exporter import app  # noqa: PLC0415 - help, the catalogue and the healthcheck need no server

    actions = {"run": app.run, "demo": app.demo, "simulate": app.simulate, "check": app.check}
    return actions[command]


def _healthcheck(loaded: Settings, _: Callable[[], Settings]) -> int:
    """One address is enough: whatever serves on it serves on the others."""
    address = loaded.listen_addresses[0]
    if isinstance(address, Address) and not address.port:
        raise ConfigError(f"--web.listen-address: nobody can ask {address}, whose port is known once it listens")
    healthcheck.ask(address, secure=loaded.web_config_file is not None)
    return _print("late-exporter is healthy")


def _complain(problems: Iterable[str], code: int) -> int:
    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code


def _print(text: str) -> int:
    """Print; a reader that has seen enough, like head, is no failure."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _quoted(text: str) -> str:
    """An argument as messages quote it; a long one may be a key."""
    return shown(text) if len(text) <= LONG else f" of {len(text)} characters"


def _metrics(line: _Line) -> int:
    texts = line.flags.get(FORMAT.name, [FORMAT.default or ""])
    render = {"table": _table, "markdown": _markdown, "json": _json}
    line.problems.extend(
        f"{FORMAT.flag}{shown(text)}: must be one of {', '.join(render)}" for text in texts if text not in render
    )
    if line.problems:
        raise ConfigError(*line.problems)
    return _print(render[texts[-1]]())


def _table() -> str:
    """One line a family, for grep and less; on a terminal too narrow for that, an entry a family."""
    rows = [("NAME", "TYPE", "LABELS", "MEANING"), *(_cells(family) for family in CATALOGUE.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(map(str.ljust, row, widths)), row[3]]) for row in rows]
    columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and columns < max(map(len, lines)):
        entries = (
            _entry(f"{name} ({kind})", [meaning, labels], min(columns, WIDEST))
            for name, kind, labels, meaning in rows[1:]
        )
        lines = [line.removeprefix("  ") for entry in entries for line in entry]
    return "\n".join(lines)


def _cells(family: Family) -> tuple[str, str, str, str]:
    return family.name, family.kind, ", ".join(family.labels) or "-", family.help


def _markdown() -> str:
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *map(_row, CATALOGUE.values())])


def _row(family: Family) -> str:
    name, kind, labels, meaning = (cell.replace("|", "\\|") for cell in _cells(family))
    return f"| `{name}` | {kind} | {labels} | {meaning} |"


def _json() -> str:
    return json.dumps([msgspec.to_builtins(family) for family in CATALOGUE.values()], indent=2)


def _help(command: str) -> Iterator[str]:
    """The help of a command; without one, that of the program and of ``run``."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    options = "--format FORMAT" if command == "metrics" else "--section.option VALUE ..."
    yield from textwrap.wrap(
        f"Usage: late-exporter {command or '[COMMAND]'} [{options}]", width, subsequent_indent=INDENT
    )
    yield ""
    if command:
        yield from textwrap.wrap(COMMANDS[command], width)
    else:
        yield from _overview(width)
    yield from _options_help(command or "run", width)
    yield ""
    yield from _entry("--help, --version", ["Print this, or the version."], width)


def _overview(width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        "Prometheus exporter for the logs of Late. Flags win over the environment, and the "
        "environment over the file of --config.file.",
        width,
    )
    yield ""
    yield "Commands (COMMAND --help has the options of each):"
    column = max(map(len, COMMANDS)) + 4
    for name, meaning in COMMANDS.items():
        yield from textwrap.wrap(f"  {name:<{column - 2}}{meaning}", width, subsequent_indent=" " * column)
    yield ""
    yield "Options of run:"


def _options_help(command: str, width: int) -> Iterator[str]:
    shown_section = None
    for option in (*OPTIONS, FORMAT):
        if command not in option.commands:
            continue
        section, dot, _ = option.name.partition(".")
        if section != shown_section:
            shown_section = section
            yield from ("", f"{section}:") if dot else ("",)
        yield from _entry(_heading(option), [option.help, *_origin(option, command, width)], width)


def _heading(option: Option) -> str:
    return f"{option.flag} {option.metavar}".rstrip() if option.flag else option.variable


def _origin(option: Option, command: str, width: int) -> list[str]:
    """Default and variable, in one line where they fit."""
    default = option.default_of(command)
    parts = [f"default {default}" if default is not None else "", option.variable if option.flag else ""]
    parts = [part for part in parts if part]
    line = ", ".join(parts)
    return [line] if len(line) <= width - len(INDENT) else parts


def _entry(heading: str, paragraphs: Iterable[str], width: int) -> Iterator[str]:
    yield f"  {heading}"
    for paragraph in paragraphs:
        lines = textwrap.wrap(paragraph, width - len(INDENT), break_on_hyphens=False, break_long_words=False)
        yield from (INDENT + line for line in lines)
