"""Writes the rule files beside it.

With --check, only tells whether they are up to date; with --table, prints the alerts as a table in Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.prometheus.files import written
from deploy.prometheus.table import alerts_markdown

FOLDER = Path(__file__).parent


def main() -> None:
    """Bring the files up to date, or fail where they are not and that is all that was asked."""
    if "--table" in sys.argv[1:]:
        sys.stdout.write(f"{alerts_markdown()}\n")
        return
    for name, after in written().items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(after, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != after:
            sys.exit(f"{name} is not up to date; run python -m deploy.prometheus")


if __name__ == "__main__":
    main()
