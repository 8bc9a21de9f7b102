"""Draw the pictures in grafana/screenshots/: ``python -m tests.dashboards.screenshots``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.dashboards.rendering import ROOT, day_in_prometheus, draw_dashboards, simulate_day

PICTURES = ROOT / "grafana" / "screenshots"


def find_program(name: str) -> str:
    """Return the path of a program, or exit if it is missing."""
    return shutil.which(name) or sys.exit(f"{name} is not installed")


def main() -> None:
    """Draw every dashboard in both themes and remove outdated pictures."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        simulate_day(find_program, Path(folder))
        with day_in_prometheus(find_program, Path(folder)) as database:
            pages = draw_dashboards(find_program, database, PICTURES, rows="as shipped")
    for picture in PICTURES.glob("*.png"):
        if picture.stem not in pages:
            picture.unlink()
    errors = [f"{name}: {error}" for name, page in pages.items() for error in page["errors"]]
    if errors:
        sys.exit("\n".join(errors))


if __name__ == "__main__":
    main()
