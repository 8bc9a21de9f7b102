"""Flags of single commands, which have neither an environment variable nor a key in the configuration file."""

# Annotations are evaluated: they are read as data.
from typing import Annotated, Literal, NamedTuple

from late_exporter.config.commands import CLIENT_COMMANDS, COMMANDS, QUERY_COMMANDS, SIMULATOR_COMMANDS, STATE_COMMANDS
from late_exporter.config.options import option, options_of
from late_exporter.config.parsers import duration, integer
from late_exporter.config.types import (
    Bool,
    CommaSeparated,
    FeedName,
    TargetLabel,
    Timestamp,
    WorkspaceName,
)

LOGS = ("logs",)
AUDIT = ("audit",)
BACKFILL = ("backfill",)
FORMATS = {name: command.formats for name, command in COMMANDS.items() if command.formats}
DEFAULT_FORMATS = {name: formats[0] for name, formats in FORMATS.items()}


class CommandFlags(NamedTuple):
    """Flags of the command that runs; those of other commands keep their defaults."""

    format: str = option(
        "",
        "FORMAT",
        "Output format.",
        tuple(FORMATS),
        command_defaults=DEFAULT_FORMATS,
        command_choices=FORMATS,
    )
    workspace: str | None = option(
        None,
        "NAME",
        "Workspace to read; required if there are several.",
        (*QUERY_COMMANDS, "state"),
        command_help={
            **dict.fromkeys(STATE_COMMANDS, "Workspace to read; by default all of them."),
            "state": "Workspace to copy; by default all of them.",
        },
    )
    new_name: WorkspaceName | None = option(
        None, "NAME", "Name of the workspace of --workspace in the target of a copy.", ("state",), name="as"
    )
    feed: FeedName = option(
        "publishing",
        "FEED",
        "Log feed to read: publishing, connections, or in generation zernio webhooks, messaging, workflow_event or "
        "api_request.",
        LOGS,
    )
    platform: str | None = option(None, "NAME", "Filter by platform, for example instagram.", (*LOGS, "accounts"))
    status: str | None = option(None, "STATUS", "Filter by status, for example failed.", LOGS)
    action: str | None = option(
        None, "ACTION", "Filter by action, for example publish, or by connection event, for example disconnect.", LOGS
    )
    account: str | None = option(
        None,
        "ACCOUNT",
        "Filter by account id or user name. Filtered locally, so all logs are fetched, except for ids in generation "
        "zernio.",
        LOGS,
    )
    since: Annotated[float, duration("1s", "90d")] | None = option(
        None,
        "DURATION",
        "How far back to read, at most as long as the API keeps logs: 90d, in generation late 7d; by default all.",
        (*LOGS, *AUDIT, *BACKFILL),
        command_help={"logs": "How far back to read, at most 90d, in generation late 7d; by default a day."},
    )
    limit: Annotated[int, integer(0)] = option(
        "100",
        "NUMBER",
        "Maximum number of logs to print, 0 for all; with --follow, of those printed at the start.",
        LOGS,
    )
    follow: Bool = option(
        "false", "", "Print new logs as they appear, polling every --poll.interval; also -f. Ctrl-C exits with 0.", LOGS
    )
    generation: Literal["zernio", "late", "both"] = option(
        "zernio",
        "NAME",
        "API to simulate: zernio with a single list and 90d of logs, late with one list per feed and 7d, or both.",
        SIMULATOR_COMMANDS,
    )
    once: Bool = option(
        "false",
        "",
        "Poll every feed until it is caught up, print the metrics and exit; exit 1 if a poll failed.",
        ("run",),
    )
    wait: Annotated[float, duration("0s", "1d")] = option(
        "2m",
        "DURATION",
        "How long a running exporter may take to count a log before it is reported as a difference.",
        AUDIT,
    )
    until: Timestamp | None = option(
        None,
        "TIME",
        "Time of the newest log to print, for example 2026-11-20T08:00:00Z.",
        LOGS,
    )
    label: CommaSeparated[TargetLabel] = option(
        None,
        "NAME=VALUE",
        "Label that Prometheus adds when it scrapes, for example job=late; may be repeated.",
        BACKFILL,
        many=True,
    )
    user: str | None = option(
        None,
        "NAME",
        "User name for the basic authentication of the exporter.",
        CLIENT_COMMANDS,
    )
    password_file: str | None = option(None, "FILE", "File that holds the password of --user.", CLIENT_COMMANDS)


COMMAND_FLAGS = tuple(options_of(CommandFlags))
