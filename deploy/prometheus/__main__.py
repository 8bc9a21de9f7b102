"""Write the rule files next to this module.

With --check, only verify that they are up to date; with --table, print the alerts as a Markdown table.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.prometheus.files import render
from deploy.prometheus.table import alerts_markdown

FOLDER = Path(__file__).parent


def main() -> None:
    """Update the files, or exit with an error if --check finds an outdated one."""
    if "--table" in sys.argv[1:]:
        sys.stdout.write(f"{alerts_markdown()}\n")
        return
    for name, text in render().items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            sys.exit(f"{name} is outdated; run python -m deploy.prometheus")


if __name__ == "__main__":
    main()
