"""Write the last section of each runbook, the settings of its alert; with --check, only verify them.

The thresholds of an alert are those in its expression if they are symbols, so this module replaces them before it
imports the rules.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.prometheus.symbols import replace_thresholds

RUNBOOKS = Path(__file__).parent / "runbooks"
HEADING = "## Settings\n"


def render() -> Mapping[str, str]:
    """Return the section of each runbook, by the name of the alert."""
    thresholds = replace_thresholds()
    variants: dict[str, list[Any]] = defaultdict(list)
    module = import_module("deploy.prometheus.rules")
    for group in module.ALERT_GROUPS:
        for rule in group.rules:
            if isinstance(rule, module.AlertingRule):
                variants[rule.name].append(rule)
    return {name: "\n".join([HEADING, *_lines(rules, thresholds), ""]) for name, rules in variants.items()}


def _lines(rules: list[Any], thresholds: Mapping[str, float]) -> Iterator[str]:
    for rule in rules:
        labels = "".join(f", `{name}: {value}`" for name, value in rule.labels.items() if "{" not in value)
        keeps = f", `keep_firing_for: {rule.keep_firing_for}`" if rule.keep_firing_for else ""
        yield f"- {rule.severity}{labels}: `for: {rule.for_}`{keeps}"
    names = dict.fromkeys(name for rule in rules for name in re.findall(r"c\.thresholds\.(\w+)", rule.expr))
    if names:
        yield f"- thresholds: {', '.join(f'`{name}: {thresholds[name]:g}`' for name in names)}"


def main() -> None:
    """Update the runbooks, or exit with an error if --check finds an outdated one."""
    for name, section in render().items():
        path = RUNBOOKS / f"{name}.md"
        text = path.read_text("utf-8")
        updated = f"{text.partition(HEADING)[0].rstrip()}\n\n{section}"
        if "--check" not in sys.argv[1:]:
            path.write_text(updated, "utf-8")
        elif text != updated:
            sys.exit(f"{path.name} is outdated; run python -m deploy.prometheus.settings")


if __name__ == "__main__":
    main()
