"""The commands: what each is for, what it takes, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COMMANDS", "Command"]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the program.

    Args:
        name: As it is written.
        help: What it does, in a sentence.
        arguments: The words that follow it, as in ``POST_ID``; one in brackets may be left out.
        formats: How it can print, the usual way first; empty where there is no choice.
        examples: Arguments after the program's name, each with what they do.
        choices: What the first argument may be, where that is one of a few words.
    """

    name: str
    help: str
    arguments: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """How many arguments may not be left out."""
        return sum(not argument.startswith("[") for argument in self.arguments)


_COMMANDS = (
    Command(
        "run",
        "Read the logs and serve them as metrics; the default.",
        examples=(
            ("run --api.key-file /run/secrets/late", "Serve on port 10077."),
            ("run --once", "Print the metrics after one poll."),
        ),
    ),
    Command("demo", "Run a simulated Late API and the exporter in one process, with incidents to look at."),
    Command("simulate", "Run the simulated Late API alone."),
    Command(
        "check",
        "Check the configuration, the key, every endpoint, the quota, the clock, the state, the web configuration and "
        "the addresses; exit 0 where all is well.",
        formats=("text", "json"),
        examples=(("check", "Look at everything before the first start."),),
    ),
    Command("healthcheck", "Ask the exporter that runs on this machine whether it lives; exit 0 where it does."),
    Command(
        "textfile",
        "Poll once and write the metrics to a file, for the textfile collector of node_exporter and cron.",
        arguments=("FILE",),
        examples=(("textfile /var/lib/node_exporter/late.prom", "Write the file anew."),),
    ),
    Command(
        "audit",
        "Compare what was counted with what the API shows, log by log, and the counters with the books of the state; "
        "exit 1 on any difference.",
        formats=("text", "json"),
        examples=(
            ("audit", "Compare all that the API still shows, beside a running exporter or without one."),
            ("audit --since 1d --workspace agency", "Compare the logs of a day, of one workspace."),
            ("audit --format json", "Print every difference for a program."),
        ),
    ),
    Command(
        "metrics",
        "Print the catalogue of metrics.",
        formats=("table", "markdown", "json"),
        examples=(("metrics --format json", "Print it for a program."),),
    ),
    Command(
        "completion",
        "Print the completion script of a shell.",
        arguments=("SHELL",),
        choices=("bash", "zsh", "fish"),
        examples=(("completion bash", "Print what bash has to source."),),
    ),
    Command("manual", "Print the manual page.", examples=(("manual", "Print it, for man -l -."),)),
)

COMMANDS: Mapping[str, Command] = MappingProxyType({command.name: command for command in _COMMANDS})
