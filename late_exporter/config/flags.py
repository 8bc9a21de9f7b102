"""The flags of single commands, which have neither a variable nor a place in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from late_exporter.config.commands import COMMANDS
from late_exporter.config.options import EVERY_FEED, ONCALL, SIMULATING, option, table
from late_exporter.config.types import Bool, CommaSeparated, TargetLabel, Timestamp, choice, duration, integer, quote
from late_exporter.errors import ConfigError

__all__ = ["ASKED", "CommandFlags", "asked_markdown", "commands_markdown", "parse_flags"]


LOGS = ("logs",)
AUDIT = ("audit",)
BACKFILL = ("backfill",)
GENERATIONS = ("late", "zernio", "both")


class CommandFlags(BaseModel):
    """What a command is to do; what it does not have is left at its default."""

    model_config = ConfigDict(frozen=True)

    format: str = option(
        "", "FORMAT", "How to print.", tuple(name for name, command in COMMANDS.items() if command.formats)
    )
    workspace: str | None = option(
        None, "NAME", "Which of several workspaces; audit and backfill take all if left out.", ONCALL
    )
    feed: Annotated[str, choice(*EVERY_FEED)] = option(
        "publishing",
        "FEED",
        "Which list: publishing, connections, or in generation zernio webhooks, messaging, workflow_event or "
        "api_request.",
        LOGS,
        choices=EVERY_FEED,
    )
    platform: str | None = option(None, "NAME", "Only this platform, as in instagram.", LOGS)
    status: str | None = option(None, "STATUS", "Only logs in this status, as in failed.", LOGS)
    action: str | None = option(
        None, "ACTION", "Only this action, as in publish, or this event among connections, as in disconnect.", LOGS
    )
    account: str | None = option(
        None,
        "ACCOUNT",
        "Only this account, by id or user name. The API cannot choose by it, but by an id in generation zernio, so all "
        "other logs are read too.",
        LOGS,
    )
    since: Annotated[float, duration("1s", "90d")] | None = option(
        None,
        "DURATION",
        "How far back, at most as long as Late keeps logs: 7d, in generation zernio 90d. If left out, a day for logs, "
        "all for audit and backfill.",
        (*LOGS, *AUDIT, *BACKFILL),
    )
    limit: Annotated[int, integer(0)] = option(
        "100", "NUMBER", "How many logs at most, or to begin with where --follow goes on; 0 for all.", LOGS
    )
    follow: Bool = option(
        "false", "", "Go on with every log that comes, asking every --poll.interval. Ctrl-C ends it with exit 0.", LOGS
    )
    generation: Annotated[str, choice(*GENERATIONS)] = option(
        "late",
        "NAME",
        "Which API is simulated: late with a list for each feed and 7d of logs, zernio with one list and 90d, or both.",
        SIMULATING,
        choices=GENERATIONS,
    )
    yes: Bool = option(
        "false", "", "Do what cannot be undone: state rename and state drop only tell without it.", ("state",)
    )
    once: Bool = option(
        "false",
        "",
        "Poll every feed until it is caught up, print the metrics, and end; exit 1 where a poll failed.",
        ("run",),
    )
    wait: Annotated[float, duration("0s", "1d")] = option(
        "2m",
        "DURATION",
        "How long a running exporter may take to count what is in doubt, before it is a difference.",
        AUDIT,
    )

    output: str | None = option(
        None, "FILE", "Where to write to; there must be no such file yet. - is standard output.", BACKFILL
    )
    # After five minutes without a sample Prometheus takes a series to be gone.
    step: Annotated[float, duration("1s", "4m")] = option(
        "1m", "DURATION", "Time between two samples of a series that moves, best a part of an hour; 1s to 4m.", BACKFILL
    )
    until: Timestamp | None = option(
        None,
        "TIME",
        "Where to end, at least 3h ago and well before Prometheus first scraped the exporter, as in "
        "2026-11-20T08:00:00Z. If left out, 1h before the exporter first showed the metrics.",
        BACKFILL,
    )
    label: CommaSeparated[TargetLabel] = option(
        None,
        "NAME=VALUE",
        "A label that Prometheus gives to what it scrapes, as in job=late; may be given several times.",
        BACKFILL,
        many=True,
    )


ASKED = tuple(table(CommandFlags, variables=False))


def parse_flags(command: str, flags: Mapping[str, Sequence[str]]) -> CommandFlags:
    """What the flags of a command say; raises ConfigError with every mistake there is."""
    rows = {row.name: row for row in ASKED}
    problems = [
        f"{rows[name].flag}: given {len(texts)} times"
        for name, texts in flags.items()
        if len(texts) > 1 and not rows[name].many
    ]
    values: dict[str, Any] = {
        name.replace("-", "_"): list(texts) if rows[name].many else texts[-1] for name, texts in flags.items()
    }
    problems += _unprintable(command, flags.get("format", ()))
    formats = COMMANDS[command].formats
    values.setdefault("format", formats[0] if formats else "")
    try:
        asked = CommandFlags(**values)
    except ValidationError as exc:
        problems += [
            f"--{str(error['loc'][0]).replace('_', '-')}{quote(error['input'])}: {error['ctx']['error']}"
            for error in exc.errors()
        ]
        raise ConfigError(*problems) from None
    if problems:
        raise ConfigError(*problems)
    return asked


def _unprintable(command: str, texts: Sequence[str]) -> Iterator[str]:
    formats = COMMANDS[command].formats
    yield from (f"--format{quote(text)}: must be one of {', '.join(formats)}" for text in texts if text not in formats)


def commands_markdown() -> str:
    """The table of commands for the README."""
    named = ((" ".join((command.name, *command.arguments)), command.help) for command in COMMANDS.values())
    return "\n".join(["| command | |", "|---|---|", *(f"| `{words}` | {meaning} |" for words, meaning in named)])


def asked_markdown() -> str:
    """The table of the commands' own flags for the README."""
    rows = ["| flag | default | commands | |", "|---|---|---|---|"]
    for row in ASKED:
        default = f"`{row.default}`" if row.default else "-"
        meaning, commands = row.help, ", ".join(row.commands)
        if row.name == "format":
            default = "the first"
            meaning += "".join(f" `{name}`: {', '.join(COMMANDS[name].formats)}." for name in row.commands)
        rows.append(f"| `{row.flag}` | {default} | {commands} | {meaning} |")
    return "\n".join(rows)
