"""The commands: the help of each, and the function that runs it.

To add a command, add its row here, and a module with a function of its name beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

EXIT_CODES = (
    ("0", "Success, also if a signal stops run, demo or simulate."),
    (
        "1",
        "Failure at run time: no connection, a wrong state, a failed check, an interruption.",
    ),
    ("2", "Wrong usage or configuration. All mistakes are listed, and nothing was done."),
)

GROUPS = MappingProxyType(
    {"state": "Manage the state: show its content, back it up, check it, and copy workspaces."}
)
"""Help of the commands that have actions."""


@dataclass(frozen=True)
class Command:
    """A command and its help.

    Attributes:
        name: Name, of two words for an action of a command, as in ``state backup``.
        summary: What it does, in one sentence.
        examples: Arguments after the program's name, each with its meaning.
        arguments: Names of its arguments; optional ones in brackets.
        description: Further paragraphs.
        module: Module that has its function, by default the first word of its name.
    """

    name: str
    summary: str
    examples: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...] = ()
    description: str = ""
    module: str = ""

    def load(self) -> Callable[[CommandContext], int]:
        """Import and return the function of the command, which returns the exit code."""
        from importlib import import_module  # noqa: PLC0415 - not needed by quick commands

        word = self.name.partition(" ")[0]
        module = import_module(f"late_exporter.commands.{self.module or word}")
        function: Callable[[CommandContext], int] = getattr(module, word)
        return function


_COMMANDS = (
    Command(
        "run",
        "Read the logs and serve them as metrics; the default.",
        examples=(
            ("run", "Serve the metrics of the key in ZERNIO_API_KEY on port 10077."),
            (
                "run --api.key-file late.key --poll.interval 1m",
                "Read the key from a file, and poll less often.",
            ),
            (
                "run --config.file late.yml --log.format json",
                "Read the options from a file, and log as JSON.",
            ),
            ("run --once", "Print the metrics after one poll."),
        ),
    ),
    Command(
        "demo",
        "Run a simulated Zernio API and the exporter in one process, with incidents to look at. "
        "Needs no API key.",
        module="simulate",
        examples=(
            ("demo", "Open http://localhost:10077/ without a key."),
            (
                "demo --simulate.incident slow-video --simulate.history 1d",
                "See how one incident looks in the metrics.",
            ),
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
            (
                "simulate --generation both",
                "Serve the log lists of both generations, with the same logs.",
            ),
        ),
    ),
    Command(
        "check",
        "Check configuration, key, lists of the API, quota, clock, state and web file; "
        "exit 0 if all is well.",
        description="""
            Key files and state are tried with the rights of this user: run it as the user of the
            exporter.
        """,
        examples=(
            ("check", "Check everything before the first start."),
            (
                "check --config.file late.yml --format json",
                "Check a configuration file, for a program.",
            ),
        ),
    ),
    Command(
        "healthcheck",
        "Check that the exporter on this machine responds; exit 0 if it does.",
        examples=(("healthcheck", "Use the address of the configuration."),),
    ),
    Command(
        "status",
        "Print what the status page of the exporter on this machine shows.",
        description="""
            It reads the page at the first address of the configuration, and needs no API key.

            If the page needs a password, give --user and --password-file.

            A certificate is not verified, because the exporter is on this machine.
        """,
        examples=(
            ("status", "See whether publishing works, and whether polling is up to date."),
            (
                "status --problems --check",
                "List what is wrong, worst first, and exit 1 if anything is.",
            ),
        ),
    ),
    Command(
        "accounts",
        "Print the state of every account that the exporter on this machine knows.",
        description="""
            It reads the metrics of the exporter, so that it knows the accounts up to
            --metrics.max-accounts.

            If the metrics need a password, give --user and --password-file.
        """,
        examples=(
            ("accounts", "List all accounts, those in trouble first."),
            (
                "accounts --platform instagram --format json",
                "List the accounts of a platform for a program.",
            ),
        ),
    ),
    Command(
        "posts",
        "Print the posts that have to be published again or are overdue, with a line per post and "
        "account.",
        description="""
            By default those of --failed and --overdue of all workspaces. TIME is that of the last
            attempt, or that at which the post is due, in UTC.

            A post at risk comes with the reason: its account must be connected again (reconnect),
            is gone (disconnected, not known with a profile_id), cannot post (blocked), or is in a
            cooldown.

            It needs no state and does not affect a running exporter, but uses its quota: one
            request per 98 logs for --failed.
        """,
        examples=(
            (
                "posts --failed --since 2h --platform instagram",
                "Posts whose last attempt failed, after an outage of a platform.",
            ),
            ("posts --overdue", "Posts that should have been published or approved by now."),
            ("posts --at-risk", "Posts that will fail within a day unless somebody acts."),
            (
                "posts --failed --since 1d --limit 0 --format json",
                "The failed posts of a day for a program.",
            ),
        ),
    ),
    Command(
        "post",
        "Print the history of a post: every attempt, oldest first, and the outcome on each "
        "account.",
        arguments=("POST_ID",),
        description="""
            Times are UTC. Exit 1 if no workspace has logs of the post.

            It needs no state and does not affect a running exporter.

            It costs three requests of the key's quota, or one if --api.generation is set, in each
            workspace until it is found.

            In generation zernio it searches for the post, which costs one request per 98 logs.
        """,
        examples=(
            ("post 65f1c0a9e2b5af0012ab34cd", "See why a post failed."),
            ("post 65f1c0a9e2b5af0012ab34cd --format json", "Print one JSON object."),
        ),
    ),
    Command(
        "logs",
        "Print matching logs of all workspaces, newest first, or count them.",
        description="""
            Times are UTC. JSON has the same fields for all feeds.

            In generation zernio --action accepts the action of the metrics or that of the API, as
            in post.published.

            It needs no state and does not affect a running exporter, but uses its quota: one
            request per 98 logs.
        """,
        examples=(
            ("logs --status failed", "Failures of the last day."),
            (
                "logs --status failed --since 2h --by account,error",
                "Which accounts fail, and why.",
            ),
            (
                "logs --platform instagram --account @acmecorp --since 7d",
                "Posts of one account in a week.",
            ),
            (
                "logs --status failed,pending --since 1h --limit 0 --format json",
                "Everything of an hour that did not succeed, for a program.",
            ),
            ("logs --feed connections --action disconnect", "Accounts that were disconnected."),
            (
                "logs --feed webhooks --status failed --since 30d",
                "Webhooks that failed, in generation zernio.",
            ),
        ),
    ),
    Command(
        "audit",
        "Compare the counted logs with the API, log by log; exit 1 on any difference.",
        description="""
            It reads the API generation that the state was counted from.

            If --api.generation has changed, start the exporter once before auditing.
        """,
        examples=(
            (
                "audit",
                "Compare all logs that the API still has, with or without a running exporter.",
            ),
            (
                "audit --since 1d --workspace agency",
                "Compare the logs of a day of one workspace.",
            ),
            ("audit --format json", "Print every difference for a program."),
        ),
    ),
    Command(
        "state info",
        "Print the content of the state by workspace and feed.",
        description="It needs no API key, and works beside a running exporter. Times are UTC.",
        examples=(
            (
                "state info",
                "See what is counted, since when, and whether an exporter is using it.",
            ),
            ("state info --format json", "Print one JSON object."),
        ),
    ),
    Command(
        "state backup",
        "Copy the state to a file that does not exist yet.",
        arguments=("FILE",),
        description="It needs no API key, and works beside a running exporter.",
        examples=(("state backup late-backup.db", "Copy the state while the exporter runs."),),
    ),
    Command(
        "state check",
        "Check the state for corruption and inconsistencies; exit 1 if any are found.",
        description="It needs no API key, and works beside a running exporter.",
        examples=(
            ("state check --state.url sqlite:///late-backup.db", "Check a copy."),
            ("state check --format json", "Print every problem for a program."),
        ),
    ),
    Command(
        "state copy",
        "Copy all workspaces to another state in SQLite or PostgreSQL.",
        arguments=("SOURCE", "TARGET"),
        description="""
            It needs no API key. The exporter must be stopped. The target may have other
            workspaces.
        """,
        examples=(
            ("state copy sqlite:///late.db sqlite:///other.db", "Add the workspaces to a state."),
        ),
    ),
    Command(
        "metrics",
        "Print the catalogue of metrics.",
        examples=(("metrics", "List all metrics with their labels."),),
    ),
    Command(
        "assets",
        "Write rules, runbooks, dashboards, Alertmanager routes and systemd units to a folder.",
        arguments=("DIR",),
        description="Files of the same names are replaced, others are left alone.",
        examples=(
            ("assets late-assets", "Write them, for example to copy the rules to Prometheus."),
        ),
    ),
    Command(
        "runbook",
        "Print the runbook of an alert, or the names of all.",
        arguments=("[ALERT]",),
        module="assets",
        examples=(("runbook LatePollStale", "Read what LatePollStale means, and what to do."),),
    ),
)

COMMANDS: Mapping[str, Command] = MappingProxyType({each.name: each for each in _COMMANDS})
"""The commands by name, in the order of the help."""
