# ruff: noqa: INP001 - a script, not a module
"""Write the generated tables of docs/*.md; with --check, fail if one of them is out of date."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from late_exporter.config.markdown import commands_markdown, flags_markdown, options_markdown
from late_exporter.feeds.zernio import actions_markdown

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _output(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return done.stdout.strip()


def _tables() -> dict[str, dict[str, str]]:
    """Return the tables of each page, by the name in their markers."""
    alerts = _output("deploy.prometheus", "--table")
    return {
        "alerts.md": {"alerts": alerts.replace("](deploy/", "](../deploy/")},
        "api-generations.md": {"actions": actions_markdown()},
        "commands.md": {"commands": commands_markdown(), "flags": flags_markdown()},
        "configuration.md": {"options": options_markdown()},
        "metrics.md": {"metrics": _output("late_exporter", "metrics", "--format", "markdown")},
    }


def _replace(page: str, text: str, name: str, table: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
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
