"""The commands: the docstring of each is its help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

EXIT_CODES = (
    (0, "Success, also if a signal stops run, demo or simulate."),
    (
        1,
        "Failure at run time: no connection, an unusable state, a failed check, an interrupted command.",
    ),
    (2, "Wrong usage or configuration. All mistakes are listed, and nothing was done."),
)


class CommandHelp:
    """A command of the program; its docstring is a summary, notes, and lists headed "Actions:" and "Examples:".

    Attributes:
        arguments: Arguments, as in ``POST_ID``; optional ones in brackets.
        actions: Allowed first arguments and those that follow each, as in ``backup FILE``; empty if
            any are allowed.
        meanings: The actions, each with its meaning.
        examples: Arguments after the program's name, each with its meaning.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    actions: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.name = type(self).__name__.removesuffix("Help").lower()
        text, *lists = re.split(r"\n\n(\w+):\n", inspect.cleandoc(type(self).__doc__ or ""))
        self.help, *self.notes = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        by_heading = dict(zip(lists[::2], map(_entries, lists[1::2]), strict=True))
        self.meanings, self.examples = by_heading.get("Actions", []), by_heading.get("Examples", [])

    @property
    def first_arguments(self) -> tuple[str, ...]:
        """Allowed first arguments; empty if any is allowed."""
        return tuple(action.partition(" ")[0] for action in self.actions)

    def expected_arguments(self, args: Sequence[str]) -> tuple[str, ...]:
        """Return the arguments that belong to the action in ``args``."""
        further = next(
            (action.split()[1:] for action in self.actions if action.split()[:1] == [*args[:1]]),
            None,
        )
        return self.arguments if further is None else (*self.arguments[:1], *further)


def _entries(text: str) -> list[tuple[str, str]]:
    """Return the entries of a list in a docstring: a line, and its meaning in the indented lines below it."""
    pairs = re.findall(r"^    (\S.*)\n((?: {8}.*\n?)+)", text, re.MULTILINE)
    return [(line, " ".join(meaning.split())) for line, meaning in pairs]


class RunHelp(CommandHelp):
    """Read the logs and serve them as metrics; the default.

    Examples:
        run
            Serve the metrics of the key in LATE_API_KEY on port 10077.
        run --api.key-file late.key --poll.interval 1m
            Read the key from a file, and poll less often.
        run --config.file late.yml --log.format json
            Read the options from a file, and log as JSON.
        run --once
            Print the metrics after one poll.
    """


class DemoHelp(CommandHelp):
    """Run a simulated Zernio API and the exporter in one process, with incidents to look at. Needs no API key.

    Examples:
        demo
            Open http://localhost:10077/ without a key.
        demo --simulate.incident slow-video --simulate.history 1d
            See how one incident looks in the metrics.
    """


class SimulateHelp(CommandHelp):
    """Run the simulated Zernio API alone.

    Examples:
        simulate
            Serve it on port 10078, for any key of sk_ or zrk_ and 64 hex digits.
        simulate --simulate.rate-limit 60 --simulate.customer-rate 40
            Share the smallest quota with other software.
        simulate --generation both
            Serve the log lists of both generations, with the same logs.
    """


class CheckHelp(CommandHelp):
    """Check configuration, key, lists of the API, quota, clock, state, web file and metrics; exit 0 if all is well.

    Key files and state are tried with the rights of this user: run it as the user of the exporter.

    Examples:
        check
            Check everything before the first start.
        check --config.file late.yml --format json
            Check a configuration file, for a program.
    """


class HealthcheckHelp(CommandHelp):
    """Check that the exporter on this machine responds; exit 0 if it does.

    Examples:
        healthcheck
            Use the address of the configuration.
        healthcheck --web.listen-address unix:late.sock
            Use a Unix socket.
    """


class StatusHelp(CommandHelp):
    """Print what the status page of the exporter on this machine shows.

    It reads the page at the first address of the configuration, and needs no API key.

    If the page needs a password, give --user and --password-file.

    A certificate is not verified, because the exporter is on this machine.

    Examples:
        status
            See whether publishing works, and whether polling is up to date.
        status --problems --check
            List what is wrong, worst first, and exit 1 if anything is.
        status --web.listen-address unix:late.sock
            Read it over a Unix socket.
    """


class AccountsHelp(CommandHelp):
    """Print the state of every account that the exporter on this machine knows.

    It reads the metrics of the exporter, so that it knows the accounts up to
    --metrics.max-accounts.

    If the metrics need a password, give --user and --password-file.

    Examples:
        accounts
            List all accounts, those in trouble first.
        accounts --platform instagram --format json
            List the accounts of a platform for a program.
    """


class PostsHelp(CommandHelp):
    """Print the posts that have to be published again or are overdue, with a line per post and account.

    By default those of --failed and --overdue of all workspaces. TIME is that of the last attempt,
    or that at which the post is due, in UTC.

    It needs no state and does not affect a running exporter, but uses its quota: one request per 98
    logs for --failed.

    Examples:
        posts --failed --since 2h --platform instagram
            Posts whose last attempt failed, after an outage of a platform.
        posts --overdue
            Posts that should have been published or approved by now.
        posts --failed --since 1d --limit 0 --format csv
            The failed posts of a day for a spreadsheet.
    """


class PostHelp(CommandHelp):
    """Print the history of a post: every attempt, oldest first, and the outcome on each account.

    Times are UTC. Exit 1 if no workspace has logs of the post.

    It needs no state and does not affect a running exporter.

    It costs three requests of the key's quota, or one if --api.generation is set, in each workspace
    until it is found.

    In generation zernio it searches for the post, which costs one request per 98 logs.

    Examples:
        post 65f1c0a9e2b5af0012ab34cd
            See why a post failed.
        post 65f1c0a9e2b5af0012ab34cd --format json
            Print one JSON object.
    """

    arguments = ("POST_ID",)


class LogsHelp(CommandHelp):
    """Print matching logs of all workspaces, newest first, or count them.

    Times are UTC. CSV and JSON have the same fields for all feeds; raw is the row of the API.

    In generation zernio --action accepts the action of the metrics or that of the API, as in
    post.published.

    It needs no state and does not affect a running exporter, but uses its quota: one request per 98
    logs.

    Examples:
        logs --status failed
            Failures of the last day.
        logs --status failed --since 2h --by account,error
            Which accounts fail, and why.
        logs --platform instagram --account @acmecorp --since 7d
            Posts of one account in a week.
        logs --status failed,pending --since 1h --limit 0 --format csv
            Everything of an hour that did not succeed, for a spreadsheet.
        logs --feed connections --action disconnect
            Accounts that were disconnected.
        logs --feed webhooks --status failed --since 30d
            Webhooks that failed, in generation zernio.
    """


class AuditHelp(CommandHelp):
    """Compare the counted logs with the API, log by log, and the counters with the state; exit 1 on any difference.

    It reads the API generation that the state was counted from.

    If --api.generation has changed, start the exporter once before auditing.

    Examples:
        audit
            Compare all logs that the API still has, with or without a running exporter.
        audit --since 1d --workspace agency
            Compare the logs of a day of one workspace.
        audit --format json
            Print every difference for a program.
    """


class StateHelp(CommandHelp):
    """Manage the state: show its content, back it up, check it, and copy workspaces to another one.

    It needs no API key.

    info, backup and check work beside a running exporter; for copy it must be stopped.

    Times are UTC. Exit 1 if a check finds a problem.

    Actions:
        info
            Print the content of the state by workspace and feed.
        backup FILE
            Copy the state to a file that does not exist yet.
        check
            Check the state for corruption and inconsistencies; exit 1 if any are found.
        copy SOURCE TARGET
            Copy all workspaces, or that of --workspace, to another state in SQLite or PostgreSQL,
            under the name of --as if given, and compare the copy row by row. The target may have
            other workspaces.

    Examples:
        state info
            See what is counted, since when, and whether an exporter is using it.
        state backup late-backup.db
            Copy the state while the exporter runs.
        state check --state.url sqlite:///late-backup.db
            Check the copy.
        state copy sqlite:///late.db sqlite:///other.db --workspace agency
            Copy one workspace, to move it to another state.
    """

    arguments = ("ACTION", "[ARGUMENT ...]")
    actions = ("info", "backup FILE", "check", "copy SOURCE TARGET")


class MetricsHelp(CommandHelp):
    """Print the catalogue of metrics.

    Examples:
        metrics
            List all metrics with their labels.
        metrics --format json
            Print the list for a program, with buckets.
    """


class ConfigHelp(CommandHelp):
    """Print the JSON schema of the configuration file, with which editors complete and check it.

    Actions:
        schema
            Print the schema.

    Examples:
        config schema
            Print it, to be named in the file: # yaml-language-server: $schema=late.schema.json
    """

    arguments = ("ACTION",)
    actions = ("schema",)


class AssetsHelp(CommandHelp):
    """Write rules, runbooks, dashboards, Alertmanager routes, systemd units and completion scripts to a folder.

    Files of the same names are replaced, others are left alone.

    Examples:
        assets late-assets
            Write them, for example to copy the rules to Prometheus.
    """

    arguments = ("DIR",)


class RunbookHelp(CommandHelp):
    """Print the runbook of an alert, or the names of all.

    Examples:
        runbook LatePollStale
            Read what LatePollStale means, and what to do.
    """

    arguments = ("[ALERT]",)


class CompletionHelp(CommandHelp):
    """Print the completion script of bash, zsh or fish.

    Actions:
        bash
            Print the script for bash.
        zsh
            Print the script for zsh.
        fish
            Print the script for fish.

    Examples:
        completion bash
            Print the script for bash.
    """

    arguments = ("SHELL",)
    actions = ("bash", "zsh", "fish")


class HelpHelp(CommandHelp):
    """Print the help of the program or of a command.

    Examples:
        help
            List the commands.
        help logs
            Print the help of logs.
    """

    arguments = ("[COMMAND]",)


class VersionHelp(CommandHelp):
    """Print the version.

    Examples:
        version
            Print version, revision and platform.
    """


COMMANDS: Mapping[str, CommandHelp] = MappingProxyType(
    {kind.__name__.removesuffix("Help").lower(): kind() for kind in CommandHelp.__subclasses__()}
)
