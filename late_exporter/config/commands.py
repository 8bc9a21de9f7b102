"""The commands: what each is for, what it takes, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COMMANDS", "Action", "Command"]


@dataclass(frozen=True, slots=True)
class Action:
    """One of the things that a command does, named by its first argument.

    Args:
        name: As it is written.
        help: What it does, in a sentence or two.
        arguments: The words that follow it; one in brackets may be left out.
    """

    name: str
    help: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the program.

    Args:
        name: As it is written.
        help: What it does, in a sentence.
        arguments: The words that follow it, as in ``POST_ID``; one in brackets may be left out.
        formats: How it can print, the usual way first; empty where there is no choice.
        examples: Arguments after the program's name, each with what they do.
        notes: What else there is to know, a paragraph each.
        choices: What the first argument may be, where that is one of a few words.
        actions: What the first argument may be, where further ones depend on it.
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
    def firsts(self) -> tuple[str, ...]:
        """The words of which the first argument has to be one; empty where it may be any."""
        return self.choices or tuple(action.name for action in self.actions)

    def arguments_after(self, words: Sequence[str]) -> tuple[str, ...]:
        """The arguments it takes where some are known: an action decides about those after it."""
        chosen = next((action for action in self.actions if words[:1] == [action.name]), None)
        return self.arguments if chosen is None else (*self.arguments[:1], *chosen.arguments)


_COMMANDS = (
    Command(
        "run",
        "Read the logs and serve them as metrics; the default.",
        examples=(
            ("run", "Serve the metrics of the key in LATE_API_KEY on port 10077."),
            ("run --api.key-file late.key --poll.interval 1m", "Take the key from a file, and ask less often."),
            ("run --config.file late.yml --log.format json", "Take all else from a file, and log for machines."),
            ("run --once", "Print the metrics after one poll."),
        ),
    ),
    Command(
        "demo",
        "Run a simulated Late API and the exporter in one process, with incidents to look at.",
        examples=(
            ("demo", "Look at http://localhost:10077/ without a key."),
            ("demo --simulate.incident slow-video --simulate.history 1d", "See how one incident looks in the metrics."),
        ),
    ),
    Command(
        "simulate",
        "Run the simulated Late API alone.",
        examples=(
            ("simulate", "Ask it with any key of sk_ and 64 hex digits, on port 10078."),
            ("simulate --simulate.rate-limit free --simulate.seed 7", "Try out what the smallest plan allows."),
            ("simulate --generation both", "Answer as Late did and as Zernio does, with the same logs."),
        ),
    ),
    Command(
        "check",
        "Check the configuration, the key, the API's generation, every endpoint, the quota, the clock, the state, the "
        "web configuration and the addresses; exit 0 where all is well.",
        formats=("text", "json"),
        examples=(
            ("check", "Look at everything before the first start."),
            ("check --config.file late.yml --format json", "The same for a program, with a configuration file."),
        ),
    ),
    Command(
        "healthcheck",
        "Ask the exporter that runs on this machine whether it lives; exit 0 where it does.",
        examples=(
            ("healthcheck", "Ask on the address that the configuration names."),
            ("healthcheck --web.listen-address unix:late.sock", "Ask on a socket in the file system."),
        ),
    ),
    Command(
        "post",
        "Print what became of a post: every attempt, oldest first, and how it ended on each platform.",
        arguments=("POST_ID",),
        formats=("text", "json"),
        examples=(
            ("post 65f1c0a9e2b5af0012ab34cd", "See why a post failed."),
            ("post 65f1c0a9e2b5af0012ab34cd --format json", "The same as one JSON object, with all that Late tells."),
        ),
        notes=(
            "Times are UTC. Exit 1 where the workspace has no logs of such a post.",
            "It needs no state and disturbs no running exporter; it costs two requests of the key's quota.",
            "In generation zernio the post is searched for, which costs one more for each further 98 logs.",
        ),
    ),
    Command(
        "logs",
        "Print the logs that match, newest first, or follow them as they come.",
        formats=("table", "json", "csv"),
        examples=(
            ("logs --status failed", "What has failed in the last day."),
            ("logs --platform instagram --account @acmecorp --since 7d", "What became of the posts of an account."),
            ("logs --status failed --since 1h --limit 0 --format csv", "All failures of an hour for a spreadsheet."),
            ("logs --feed connections --action disconnect", "Accounts that were lost."),
            ("logs --feed webhooks --status failed --since 30d", "Webhooks that failed, in generation zernio."),
            ("logs --follow --platform tiktok --format json", "Watch a platform as JSON lines."),
        ),
        notes=(
            "Times are UTC. JSON has the logs as Late sends them, one a line.",
            "In generation zernio --action takes what the metrics call it, or what the API does, as in post.published.",
            "In CSV a cell that begins with = + - or @ gets an apostrophe: no spreadsheet takes it for a formula then.",
            "It needs no state and disturbs no running exporter, but asks with the same key, once for 98 logs.",
            "--follow asks once or twice every --poll.interval, and shows a log again when its status changes.",
        ),
    ),
    Command(
        "textfile",
        "Poll once and write the metrics to a file, for the textfile collector of node_exporter and cron.",
        arguments=("FILE",),
        examples=(("textfile late.prom", "Write the file anew."),),
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
        notes=(
            "It reads the generation of the API that the state was counted from.",
            "Where the API speaks another one by now, start the exporter once.",
        ),
    ),
    Command(
        "backfill",
        "Write the history that the API still holds, for promtool tsdb create-blocks-from openmetrics.",
        examples=(
            (
                "backfill --output late.om --label job=late --label instance=localhost:10077",
                "All of it, up to where the metrics of the running exporter begin.",
            ),
            ("backfill --output day.om --since 1d --step 4m --workspace agency", "A day of one workspace."),
        ),
        notes=(
            "It needs the state of an exporter that is ready, and disturbs none that runs. No log is in both.",
            "It takes one request of the key's quota for 98 logs.",
            "In generation zernio it goes back up to 90d, as far as the exporter has counted (--poll.lookback).",
            "It ends an hour before the exporter first showed its metrics, and 3h ago at the latest.",
            "Two hours after the first start it has all there is; Late then drops its oldest logs day by day.",
            "Give every label that Prometheus adds when it scrapes: job and instance, and those of its configuration.",
            "Where Prometheus scraped only later, give --until; samples beyond the first scrape would be there twice.",
        ),
    ),
    Command(
        "state",
        "Look after the state: see what it holds, copy, check and move it, rename or drop a workspace.",
        arguments=("ACTION", "[ARGUMENT ...]"),
        formats=("text", "json"),
        examples=(
            ("state info", "See what is counted, since when, and whether an exporter works on it."),
            ("state backup late-backup.db", "Copy the state while the exporter goes on."),
            ("state check --state.url sqlite:///late-backup.db", "See whether the copy is good."),
            ("state export late-state.jsonl", "Write the state out, to read it in on another machine."),
            ("state rename default agency --yes", "Go on under another name; the exporter has to be stopped."),
        ),
        notes=(
            "It needs no API key.",
            "info, backup, check and export leave a running exporter alone; all others are refused while there is one.",
            "Times are UTC. Exit 1 where a check finds something wrong; exit 2 where --yes is missing.",
        ),
        actions=(
            Action("info", "Print what the state holds of every workspace and feed."),
            Action("backup", "Copy the state to a file that is not there yet.", ("FILE",)),
            Action("check", "Look whether the state is whole and agrees with itself; exit 1 where it does not."),
            Action("export", "Write the whole state as lines of JSON, to a file or to standard output.", ("[FILE]",)),
            Action("import", "Make a state of what export has written; - is standard input.", ("FILE",)),
            Action(
                "compact",
                "Give the space of logs that the exporter has forgotten back to the file system. It forgets nothing "
                "itself: the exporter does that, a day after Late has dropped a log.",
            ),
            Action("prune", "The same as compact."),
            Action(
                "rename",
                "Give a workspace another name, in the label of its metrics too. Rename it in the configuration as "
                "well. Needs --yes.",
                ("OLD", "NEW"),
            ),
            Action(
                "drop",
                "Forget a workspace and all that was counted for it. One that is still configured begins anew. "
                "Needs --yes.",
                ("NAME",),
            ),
        ),
    ),
    Command(
        "metrics",
        "Print the catalogue of metrics.",
        formats=("table", "markdown", "json"),
        examples=(
            ("metrics", "See what there is, with labels."),
            ("metrics --format json", "The same for a program, with buckets."),
        ),
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
