# ruff: noqa: INP001 - a script, not a module
"""Writes the tables of README.md that the sources know best; with --check, only tells whether they are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from late_exporter.config.markdown import commands_markdown, flags_markdown, options_markdown
from late_exporter.feeds.zernio import actions_markdown

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def _said(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return said.stdout.strip()


def _with(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    found = re.compile(f"{begin}.*{end}", re.DOTALL)
    if len(found.findall(text)) != 1:
        sys.exit(f"README.md: there must be one {begin} with its {end}")
    return found.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def main() -> None:
    """Bring the tables up to date, or fail where they are not and that is all that was asked."""
    before = README.read_text("utf-8")
    tables = {
        "metrics": _said("late_exporter", "metrics", "--format", "markdown"),
        "options": options_markdown(),
        "commands": commands_markdown(),
        "flags": flags_markdown(),
        "actions": actions_markdown(),
        "alerts": _said("deploy.prometheus", "--table"),
    }
    after = before
    for name, table in tables.items():
        after = _with(after, name, table)
    if "--check" not in sys.argv[1:]:
        README.write_text(after, "utf-8")
    elif after != before:
        sys.exit("README.md is not up to date; run make generate")


if __name__ == "__main__":
    main()
