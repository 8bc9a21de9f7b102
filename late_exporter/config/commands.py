"""The table of commands: purpose, arguments and examples of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

QUERY_COMMANDS = ("post", "logs", "audit", "backfill")  # commands that read from the API or the state once and exit
STATE_COMMANDS = ("audit", "backfill")  # query commands that read the state
API_COMMANDS = ("run", "check", "textfile", *QUERY_COMMANDS)  # commands that need an API key
EXPORTER_COMMANDS = ("run", "check", "demo", "textfile")
SHARDED_COMMANDS = ("run", "check", "textfile", *STATE_COMMANDS)  # commands that know the workspaces of one state
SIMULATOR_COMMANDS = ("demo", "simulate")
CLIENT_COMMANDS = ("status", "accounts")  # commands that read from the exporter on this machine
SERVER_COMMANDS = ("run", "check", "demo", "healthcheck", *CLIENT_COMMANDS)
ALL_COMMANDS = ("run", "check", "demo", "simulate", "textfile", "state", *QUERY_COMMANDS)  # commands that log

EXIT_CODES = (
    (0, "Success, also if a signal stops run, demo, simulate or logs --follow."),
    (1, "Failure at run time: no connection, an unusable state, a failed check, an interrupted command."),
    (2, "Wrong usage or configuration. All mistakes are listed, and nothing was done."),
)


class Action(NamedTuple):
    """An action of a command, selected by its first argument. Optional arguments are in brackets."""

    name: str
    help: str
    arguments: tuple[str, ...] = ()


class Command(NamedTuple):
    """One command of the program.

    Args:
        arguments: Arguments, as in ``POST_ID``; optional ones in brackets.
        formats: Output formats, the default first; empty if there is no choice.
        examples: Arguments after the program's name, each with an explanation.
        notes: Further paragraphs of the help.
        choices: Allowed first arguments, if they are a few words.
        actions: Allowed first arguments, if they determine the further ones.
    """

    name: str
    help: str
    arguments: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()

    @property
    def first_arguments(self) -> tuple[str, ...]:
        """Allowed first arguments; empty if any is allowed."""
        return self.choices or tuple(action.name for action in self.actions)

    def expected_arguments(self, args: Sequence[str]) -> tuple[str, ...]:
        """Return the arguments that belong to the action in ``args``."""
        action = next((action for action in self.actions if args[:1] == [action.name]), None)
        return self.arguments if action is None else (*self.arguments[:1], *action.arguments)


_COMMANDS = (
    Command(
        "run",
        "Read the logs and serve them as metrics; the default.",
        examples=(
            ("run", "Serve the metrics of the key in LATE_API_KEY on port 10077."),
            ("run --api.key-file late.key --poll.interval 1m", "Read the key from a file, and poll less often."),
            ("run --config.file late.yml --log.format json", "Read the options from a file, and log as JSON."),
            ("run --once", "Print the metrics after one poll."),
        ),
    ),
    Command(
        "demo",
        "Run a simulated Zernio API and the exporter in one process, with incidents to look at. Needs no API key.",
        examples=(
            ("demo", "Open http://localhost:10077/ without a key."),
            ("demo --simulate.incident slow-video --simulate.history 1d", "See how one incident looks in the metrics."),
        ),
    ),
    Command(
        "simulate",
        "Run the simulated Zernio API alone.",
        examples=(
            ("simulate", "Serve it on port 10078, for any key of sk_ or zrk_ and 64 hex digits."),
            (
                "simulate --simulate.rate-limit 60 --simulate.customer-rate 40",
                "Share the smallest quota with other software.",
            ),
            ("simulate --generation both", "Serve the log lists of both generations, with the same logs."),
        ),
    ),
    Command(
        "check",
        "Check the configuration, the key, every list of the API and its generation, the quota, the clock, the state, "
        "the web configuration and the metrics; exit 0 if all is well.",
        formats=("text", "json"),
        examples=(
            ("check", "Check everything before the first start."),
            ("check --config.file late.yml --format json", "Check a configuration file, for a program."),
        ),
        notes=("Key files and state are tried with the rights of this user: run it as the user of the exporter.",),
    ),
    Command(
        "healthcheck",
        "Check that the exporter on this machine responds; exit 0 if it does.",
        examples=(
            ("healthcheck", "Use the address of the configuration."),
            ("healthcheck --web.listen-address unix:late.sock", "Use a Unix socket."),
        ),
    ),
    Command(
        "status",
        "Print what the status page of the exporter on this machine shows.",
        formats=("text", "json"),
        examples=(
            ("status", "See whether publishing works, and whether polling is up to date."),
            ("status --web.listen-address unix:late.sock", "Read it over a Unix socket."),
        ),
        notes=(
            "It reads the page at the first address of the configuration, and needs no API key.",
            "If the page needs a password, give --user and --password-file.",
            "A certificate is not verified, because the exporter is on this machine.",
        ),
    ),
    Command(
        "accounts",
        "Print the state of every account that the exporter on this machine knows.",
        formats=("table", "json"),
        examples=(
            ("accounts", "List all accounts, those in trouble first."),
            ("accounts --platform instagram --format json", "List the accounts of a platform for a program."),
        ),
        notes=(
            "It reads the metrics of the exporter, so that it knows the accounts up to --metrics.max-accounts.",
            "If the metrics need a password, give --user and --password-file.",
        ),
    ),
    Command(
        "post",
        "Print the history of a post: every attempt, oldest first, and the outcome on each platform.",
        arguments=("POST_ID",),
        formats=("text", "json"),
        examples=(
            ("post 65f1c0a9e2b5af0012ab34cd", "See why a post failed."),
            ("post 65f1c0a9e2b5af0012ab34cd --format json", "Print one JSON object, with the rows of the API."),
        ),
        notes=(
            "Times are UTC. Exit 1 if the workspace has no logs of the post.",
            "It needs no state and does not affect a running exporter.",
            "It costs three requests of the key's quota, or one if --api.generation is set.",
            "In generation zernio it searches for the post, which costs one request per 98 logs.",
        ),
    ),
    Command(
        "logs",
        "Print matching logs, newest first, or follow new ones.",
        formats=("table", "json"),
        examples=(
            ("logs --status failed", "Failures of the last day."),
            ("logs --platform instagram --account @acmecorp --since 7d", "Posts of one account in a week."),
            ("logs --status failed --since 1h --limit 0 --format json", "All failures of an hour for a program."),
            ("logs --feed connections --action disconnect", "Accounts that were disconnected."),
            ("logs --feed webhooks --status failed --since 30d", "Webhooks that failed, in generation zernio."),
            ("logs --follow --platform tiktok --format json", "Watch a platform as JSON lines."),
        ),
        notes=(
            "Times are UTC. JSON has one log per line, with the same fields for all feeds, and the row of the API.",
            "In generation zernio --action accepts the action of the metrics or that of the API, as in post.published.",
            "It needs no state and does not affect a running exporter, but uses its quota: one request per 98 logs.",
            "--follow polls every --poll.interval, and prints a log again if its status changes within ten minutes.",
        ),
    ),
    Command(
        "textfile",
        "Poll once and write the metrics to a file, for the textfile collector of node_exporter and cron.",
        arguments=("FILE",),
        examples=(("textfile late.prom", "Replace the file."),),
    ),
    Command(
        "audit",
        "Compare the counted logs with the API, log by log, and the counters with the state; exit 1 on any difference.",
        formats=("text", "json"),
        examples=(
            ("audit", "Compare all logs that the API still has, with or without a running exporter."),
            ("audit --since 1d --workspace agency", "Compare the logs of a day of one workspace."),
            ("audit --format json", "Print every difference for a program."),
        ),
        notes=(
            "It reads the API generation that the state was counted from.",
            "After a generation switch, start the exporter once before auditing.",
        ),
    ),
    Command(
        "backfill",
        "Print the history that the API still has, for promtool tsdb create-blocks-from openmetrics.",
        examples=(
            (
                "backfill --label job=late --label instance=localhost:10077",
                "Write everything before the first metrics of the running exporter.",
            ),
            ("backfill --since 1d --workspace agency", "Write a day of one workspace."),
        ),
        notes=(
            (
                "It needs the state of an exporter that is ready, and does not affect a running one. No log is counted "
                "both in the history and in the live counters."
            ),
            (
                "It costs one request of the key's quota per 98 logs. In generation zernio it goes back up to 90d, as "
                "far as the exporter has counted (--poll.lookback)."
            ),
            (
                "It ends an hour before the exporter first exposed its metrics, and 3h ago at the latest. Run it about "
                "two hours after the first start: earlier it is incomplete, later old logs are deleted."
            ),
            "Give every label that Prometheus adds when it scrapes: job, instance, and those of its configuration.",
        ),
    ),
    Command(
        "state",
        "Manage the state: show its content, back it up, check it, and copy workspaces to another one.",
        arguments=("ACTION", "[ARGUMENT ...]"),
        formats=("text", "json"),
        examples=(
            ("state info", "See what is counted, since when, and whether an exporter is using it."),
            ("state backup late-backup.db", "Copy the state while the exporter runs."),
            ("state check --state.url sqlite:///late-backup.db", "Check the copy."),
            (
                "state copy sqlite:///late.db sqlite:///other.db --workspace agency",
                "Copy one workspace, to move it to another state.",
            ),
        ),
        notes=(
            "It needs no API key.",
            "info, backup and check work beside a running exporter; for copy it must be stopped.",
            "Times are UTC. Exit 1 if a check finds a problem.",
        ),
        actions=(
            Action("info", "Print the content of the state by workspace and feed."),
            Action("backup", "Copy the state to a file that does not exist yet.", ("FILE",)),
            Action("check", "Check the state for corruption and inconsistencies; exit 1 if any are found."),
            Action(
                "copy",
                "Copy all workspaces, or that of --workspace, to another state in SQLite or PostgreSQL, under the name "
                "of --as if given, and compare the copy row by row. The target may have other workspaces.",
                ("SOURCE", "TARGET"),
            ),
        ),
    ),
    Command(
        "metrics",
        "Print the catalogue of metrics.",
        formats=("table", "markdown", "json"),
        examples=(
            ("metrics", "List all metrics with their labels."),
            ("metrics --format json", "Print the list for a program, with buckets."),
        ),
    ),
    Command(
        "assets",
        "Write rules, dashboards, Alertmanager routes, systemd units and completion scripts to a folder.",
        arguments=("DIR",),
        examples=(("assets late-assets", "Write them, for example to copy the rules to Prometheus."),),
        notes=("Files of the same names are replaced, others are left alone.",),
    ),
    Command(
        "completion",
        "Print the completion script of bash, zsh or fish.",
        arguments=("SHELL",),
        choices=("bash", "zsh", "fish"),
        examples=(("completion bash", "Print the script for bash."),),
    ),
    Command(
        "help",
        "Print the help of the program or of a command.",
        arguments=("[COMMAND]",),
        examples=(("help", "List the commands."), ("help logs", "Print the help of logs.")),
    ),
    Command("version", "Print the version.", examples=(("version", "Print version, revision and platform."),)),
)

COMMANDS: Mapping[str, Command] = MappingProxyType({command.name: command for command in _COMMANDS})
