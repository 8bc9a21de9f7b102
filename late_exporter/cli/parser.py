"""Split a command line into command, arguments and flags, and collect all of its mistakes.

click stops at the first mistake, takes the flags of a command only after its name, and reads ``--limit -1`` as two
flags. So it provides help and completion, and this module reads the arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.options import Option, suggest
from late_exporter.config.settings import OPTIONS
from late_exporter.config.types import is_utf8
from late_exporter.errors import ConfigError
from late_exporter.masking import quote

MAX_QUOTED = 24
HELP_ALL = "--help-all"

FLAGS = {option.flag: option for option in (*OPTIONS, *COMMAND_FLAGS) if option.flag}
NEGATIONS = {f"--no-{flag[2:]}": option for flag, option in FLAGS.items() if not option.metavar}
FLAGS["-f"] = FLAGS["--follow"]
HINTS = {"-v": "--log.level debug", "top": "status", "doctor": "check", "init": "check", "config": "check"}


class ParsedArgs:
    """A parsed command line: words are command and arguments, flags are values by option name."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.flags: dict[str, list[str]] = {}
        self.wants_help = False
        self.wants_all_options = False
        self.problems: list[str] = []
        self._unknown_flags: list[str] = []

    @property
    def command(self) -> str:
        """Name of the command, which may be unknown."""
        return self.words[0] if self.words else "run"

    def values_of(self, options: Sequence[Option]) -> dict[str, list[str]]:
        """Return the values of those options that the command has, by option name."""
        names = {option.name for option in options if self.command in option.commands}
        return {name: texts for name, texts in self.flags.items() if name in names}

    def consume(self, tokens: deque[str]) -> None:
        """Read one argument, and its value with it."""
        token = tokens.popleft()
        flag, equals, value = token.partition("=")
        if not token.startswith("-") or len(token) == 1:
            self.words.append(token)
        elif token in ("-h", "--help"):
            self.wants_help = True
        elif token == HELP_ALL:
            self.wants_help = self.wants_all_options = True
        elif flag in NEGATIONS and not equals:
            self._set(NEGATIONS[flag], "false")
        elif flag not in FLAGS:
            self._reject(flag, equals, tokens)
        elif equals:
            self._set(FLAGS[flag], value)
        else:
            self._consume_value(FLAGS[flag], tokens)

    def check(self) -> None:
        """Record unknown flags and commands, wrong arguments, and flags of other commands."""
        candidates = [flag for flag, option in FLAGS.items() if self.command in option.commands]
        self.problems += [f"unknown flag{_quote(flag)}{_hint(flag, candidates)}" for flag in self._unknown_flags]
        if self.command not in COMMANDS:
            hint = _hint(self.command, COMMANDS) or f"; commands are {', '.join(COMMANDS)}"
            self.problems.append(f"unknown command{_quote(self.command)}{hint}")
            return
        self._check_arguments()
        self.problems += [
            f"{option.flag}: not an option of {self.command}{self._hint_for(option)}"
            for option in (FLAGS[f"--{name}"] for name in self.flags)
            if self.command not in option.commands
        ]

    def _check_arguments(self) -> None:
        command, args = COMMANDS[self.command], self.words[1:]
        choices = command.first_arguments
        if choices and args and args[0] not in choices:
            self.problems.append(f"{command.arguments[0]}{_quote(args[0])}: must be one of {', '.join(choices)}")
            return
        names = command.expected_arguments(args)
        required_count = sum(not argument.startswith("[") for argument in names)
        self.problems += [f"unexpected argument{_quote(word)}" for word in args[len(names) :]]
        for index, missing in enumerate(names[len(args) : required_count], len(args)):
            hint = f"; must be one of {', '.join(choices)}" if choices and not index else ""
            self.problems.append(f"{missing} is missing{hint}")

    def _hint_for(self, option: Option) -> str:
        """Return the option of this command that a user may have meant, or the commands that have the option."""
        for other in OPTIONS if option.section else ():
            if other.key == option.key and self.command in other.commands:
                return f"; did you mean {other.flag}?"
        return f", but of {', '.join(option.commands)}"

    def _consume_value(self, option: Option, tokens: deque[str]) -> None:
        if not option.metavar:
            self._set(option, tokens.popleft() if tokens and tokens[0] in ("true", "false") else "true")
        elif tokens and not tokens[0].startswith("--"):
            self._set(option, tokens.popleft())
        else:
            self.problems.append(f"{option.flag}: needs a value: {option.flag} {option.metavar}")

    def _set(self, option: Option, value: str) -> None:
        self.flags.setdefault(option.name, []).append(value)

    def _reject(self, flag: str, equals: str, tokens: deque[str]) -> None:
        """Record an unknown flag and drop its value, which may be a key."""
        if not equals and tokens and not tokens[0].startswith("-") and tokens[0] not in COMMANDS:
            tokens.popleft()
        if flag == "--api.key":
            self.problems.append(
                f"{flag}: no such flag, because other users could read it; set LATE_API_KEY or --api.key-file"
            )
        else:
            self._unknown_flags.append(flag)


def parse(argv: Sequence[str]) -> ParsedArgs:
    """Parse the arguments of the program; mistakes that depend on the command are left to ``check()``.

    Raises:
        ConfigError: Arguments are not UTF-8.
    """
    if problems := [*_encoding_problems(argv)]:
        raise ConfigError(*problems)
    args, tokens = ParsedArgs(), deque(argv)
    while tokens:
        args.consume(tokens)
    return args


def _encoding_problems(argv: Sequence[str]) -> Iterator[str]:
    """Yield an error for each argument with bytes that are not UTF-8, which Python passes on as surrogates."""
    for number, (previous, token) in enumerate(pairwise(["", *argv]), 1):
        if is_utf8(token):
            continue
        flags = [flag for flag in (token.partition("=")[0], previous) if flag in FLAGS and FLAGS[flag].metavar]
        yield f"{flags[0] if flags else f'argument {number}'}: not UTF-8"


def _hint(name: str, candidates: Iterable[str]) -> str:
    """Return a suggestion for a command or a flag that has more in common with it than its dashes or its section."""
    prefix = name[: name.find(".") + 1] or ("--" if name.startswith("--") else "")
    return f"; did you mean {HINTS[name]}?" if name in HINTS else suggest(name, candidates, prefix)


def _quote(text: str) -> str:
    """Quote an argument; a long one may be a key."""
    return quote(text) if len(text) <= MAX_QUOTED else f" of {len(text)} characters"
