# ruff: noqa: INP001 - a script, not a module
"""Write the generated tables of docs/*.md; with --check, fail if one of them is out of date."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import yaml

from late_exporter.commands.catalogue import COMMANDS
from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS
from late_exporter.exposition.family import Family
from late_exporter.feeds.vocabulary import ACTIONS_BY_NAME, EVENTS_BY_NAME
from late_exporter.metrics.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROMETHEUS = ROOT / "deploy" / "prometheus"

LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
VARIABLE_MARKS = str.maketrans({".": "__", "-": "_"})
SAID_ONCE = re.compile(
    r", in (Unix )?seconds(?=[.,;])|, counted once in each status they were seen in"
)
METRIC_GROUPS = {
    "Publishing": ("publishing_",),
    "Connections and other logs": ("connection_", "activity_"),
    "Accounts": ("account_",),
    "Posts, webhooks and the plan": ("posts", "webhook_", "workspace_"),
    "Process and replicas": (
        "exporter_build_",
        "exporter_config_",
        "exporter_cluster_",
    ),
    "Completeness and state": (
        *(
            "exporter_api_schema_",
            "exporter_audit_",
            "exporter_coverage_",
            "exporter_entries_",
            "exporter_label_",
        ),
        *("exporter_log_lag_", "exporter_reconcile", "exporter_retention_", "exporter_state_"),
    ),
    "Polls and requests": ("",),
}
"""Beginnings of names after ``late_`` by heading in the list of metrics; the first applies."""


def _tables() -> dict[str, dict[str, str]]:
    """Return the tables of each page, by the name in their markers."""
    return {
        "alerts.md": {
            "essential alerts": _alerts_markdown("essential"),
            "further alerts": _alerts_markdown("further"),
        },
        "commands.md": {"commands": _commands_markdown()},
        "configuration.md": {
            "options": _options_markdown(),
            "reloadable options": _reloadable_markdown(),
        },
        "metrics.md": {"actions": _actions_markdown(), "metrics": _metrics_markdown()},
    }


def _alerts_markdown(group: str) -> str:
    """Return the alerts of a group with the first sentence of their runbooks."""
    rows = ["| alert | severity | when |", "|---|---|---|"]
    document = yaml.safe_load((PROMETHEUS / "late-exporter.alerts.yml").read_text("utf-8"))
    (rules,) = (each["rules"] for each in document["groups"] if each["name"] == group)
    severities: dict[str, list[str]] = {}
    for rule in rules:
        severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
    for name, found in severities.items():
        runbook = (PROMETHEUS / "runbooks" / f"{name}.md").read_text("utf-8")
        meaning = runbook.partition("## What it means\n\n")[2].partition("\n\n")[0]
        sentence = re.split(r"(?<=[.])\s", LINK.sub(r"\1", meaning), maxsplit=1)[0]
        link = f"[{name}](../deploy/prometheus/runbooks/{name}.md)"
        severity = " or ".join(dict.fromkeys(found))
        rows.append(f"| {link} | {severity} | {_escape(' '.join(sentence.split()))} |")
    return "\n".join(rows)


def _actions_markdown() -> str:
    """Return the actions of generation zernio that have another name in the metrics."""
    names: dict[str, list[str]] = {}
    for kind, actions_by_name in (("action", ACTIONS_BY_NAME), ("event", EVENTS_BY_NAME)):
        for name, action in actions_by_name.items():
            if name != action:
                names.setdefault(f"{kind} `{action}`", []).append(f"`{name}`")
    rows = [f"| {label} | {', '.join(actions)} |" for label, actions in names.items()]
    return "\n".join(["| in the metrics | actions of zernio |", "|---|---|", *rows])


def _options_markdown() -> str:
    """Return a table per section, with variables that do not follow from their flags.

    Those of the simulator are in the help of demo and simulate only.
    """
    lines: list[str] = []
    for section, options in groupby(OPTIONS, key=attrgetter("section")):
        if section == "simulate":
            continue
        lines += [
            "",
            f"### {section}",
            "",
            "| flag | default | meaning |",
            "|---|---|---|",
            *map(_option_row, options),
        ]
    return "\n".join(lines[1:])


def _option_row(option: Option) -> str:
    flag = option.flag or ""
    name = f"LATE_EXPORTER_{flag.removeprefix('--').upper().translate(VARIABLE_MARKS)}"
    names = [flag, *(() if option.variables == (name,) else option.variables)]
    overrides = ", ".join(
        f"`{command}`: `{value}`" for command, value in option.command_defaults.items()
    )
    default = _default(option) + (f" ({overrides})" if overrides else "")
    title = ", ".join(f"`{name}`" for name in names if name)
    return f"| {title} | {default} | {_escape(option.help)} |"


def _reloadable_markdown() -> str:
    names = (f"`{option.flag or option.name}`" for option in OPTIONS if option.live)
    return f"{', '.join(names)}."


def _metrics_markdown() -> str:
    """Return a table per group, without what the page says once, such as the label workspace."""
    groups: dict[str, list[str]] = {title: [] for title in METRIC_GROUPS}
    for family in CATALOGUE.values():
        name = family.name.removeprefix("late_")
        title = next(
            title for title, beginnings in METRIC_GROUPS.items() if name.startswith(beginnings)
        )
        groups[title].append(_metric_row(family))
    head = "| metric | meaning |\n|---|---|"
    return "\n\n".join(
        "\n".join([f"### {title}\n\n{head}", *rows]) for title, rows in groups.items()
    )


def _metric_row(family: Family) -> str:
    labels = ", ".join(name for name in family.labels if name != "workspace")
    name = f"{family.name}{{{labels}}}" if labels else family.name
    marks = [family.kind] if family.kind == "histogram" else []
    marks += ["off"] * family.is_optional + ["experimental"] * family.is_experimental
    kind = f" ({', '.join(marks)})" if marks else ""
    return f"| `{name}`{kind} | {_escape(SAID_ONCE.sub('', family.help))} |"


def _commands_markdown() -> str:
    rows = (
        f"| `{' '.join((command.name, *command.arguments))}` | {command.summary} |"
        for command in COMMANDS.values()
    )
    return "\n".join(["| command | |", "|---|---|", *rows])


def _default(option: Option) -> str:
    return f"`{option.default}`" if option.default else "-"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _replace(page: str, text: str, name: str, table: str) -> str:
    begin = f"<!-- begin {name} -->"
    end = f"<!-- end {name} -->"
    section = re.compile(f"{begin}.*{end}", re.DOTALL)
    if len(section.findall(text)) != 1:
        sys.exit(f"docs/{page}: there must be exactly one {begin} with its {end}")
    return section.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def main() -> None:
    """Update the tables, or fail if --check is given and one of them is out of date."""
    outdated = []
    for page, tables in _tables().items():
        path = DOCS / page
        before = after = path.read_text("utf-8")
        for name, table in tables.items():
            after = _replace(page, after, name, table)
        if after == before:
            continue
        outdated.append(f"docs/{page}")
        if "--check" not in sys.argv[1:]:
            path.write_text(after, "utf-8")
    if outdated and "--check" in sys.argv[1:]:
        sys.exit(f"{', '.join(outdated)}: out of date; run make generate")


if __name__ == "__main__":
    main()
