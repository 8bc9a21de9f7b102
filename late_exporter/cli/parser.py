"""A command line, taken apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import ASKED
from late_exporter.config.options import OPTIONS, Option, suggestion
from late_exporter.config.types import quote

__all__ = ["FLAGS", "Line", "parse", "quoted"]

LONG = 24

FLAGS = {option.flag: option for option in (*OPTIONS, *ASKED) if option.flag}
NEGATIONS = {f"--no-{flag[2:]}": option for flag, option in FLAGS.items() if not option.metavar}


@dataclass
class Line:
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
        if not token.startswith("-") or len(token) == 1:
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
            self.problems.append(f"unknown flag{quoted(flag)}{suggestion(flag, FLAGS)}")

    def check(self) -> None:
        """Note what the command does not know, and what it misses."""
        if self.command not in COMMANDS:
            known = f"; there are {', '.join(COMMANDS)}"
            hint = suggestion(self.command, COMMANDS) or known
            self.problems.append(f"unknown command{quoted(self.command)}{hint}")
            return
        command, given = COMMANDS[self.command], self.words[1:]
        if command.firsts and given and given[0] not in command.firsts:
            self.problems.append(
                f"{command.arguments[0]}{quoted(given[0])}: must be one of {', '.join(command.firsts)}"
            )
        else:
            arguments = command.arguments_after(given)
            needed = sum(not argument.startswith("[") for argument in arguments)
            self.problems.extend(f"unexpected argument{quoted(word)}" for word in given[len(arguments) :])
            self.problems.extend(f"{missing} is missing" for missing in arguments[len(given) : needed])
        for option in (FLAGS[f"--{name}"] for name in self.flags):
            if self.command not in option.commands:
                belongs = " and ".join(option.commands)
                self.problems.append(f"{option.flag}: not an option of {self.command}, but of {belongs}")

    def given(self, options: Sequence[Option]) -> dict[str, list[str]]:
        """The flags that are among some options, by name."""
        names = {option.name for option in options if self.command in option.commands}
        return {name: texts for name, texts in self.flags.items() if name in names}


def parse(argv: Sequence[str]) -> Line:
    """Take a command line apart."""
    line, tokens = Line(), deque(argv)
    while tokens:
        line.take(tokens)
    return line


def quoted(text: str) -> str:
    """An argument as messages quote it; a long one may be a key."""
    return quote(text) if len(text) <= LONG else f" of {len(text)} characters"
