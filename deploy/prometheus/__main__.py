"""Writes the rule files beside it; with --check, only tells whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.prometheus.files import written

FOLDER = Path(__file__).parent


def main() -> None:
    """Bring the files up to date, or fail where they are not and that is all that was asked."""
    for name, after in written().items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(after, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != after:
            sys.exit(f"{name} is not up to date; run python -m deploy.prometheus")


if __name__ == "__main__":
    main()
