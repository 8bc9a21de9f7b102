"""Draw the dashboards over the simulated day; ``python -m tests.dashboards.screenshots`` into grafana/screenshots/."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests.dashboards.dashboard_files import Json
from tests.dashboards.simulated_day import END, FindTool, write_day
from tests.e2e.program import run_command
from tests.e2e.prometheus import PrometheusApi, run_prometheus

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "grafana" / "screenshots"
PREVIEW = ROOT / "grafana" / "preview"
VITE = PREVIEW / "node_modules" / ".bin" / "vite"
PROGRAMS = ("prometheus", "promtool", "chromium", "node", str(VITE))
THEMES = ("dark", "light")
DASHBOARDS = ("late-overview", "late-platform", "late-accounts", "late-exporter")
VARIABLES = {"late-platform": {"platform": "instagram"}}
"""Variable values by dashboard; all others select everything."""

BROWSER_TIMEOUT = 480
"""Timeout of the browser in seconds; the browser ends with the program that drives it."""

UNLIMITED_RETENTION = "--storage.tsdb.retention.time=100y"
SHORT_LOOKBACK = "--query.lookback-delta=1m"
"""Scrape interval of the day. Blocks made from text have no staleness markers."""


@contextmanager
def simulated_day(find: FindTool, folder: Path) -> Iterator[PrometheusApi]:
    """Start a Prometheus with the simulated day in a folder."""
    for name in PROGRAMS:
        find(name)
    write_day(find, folder)
    with run_prometheus(find("prometheus"), folder, "global: {}\n", UNLIMITED_RETENTION, SHORT_LOOKBACK) as database:
        yield database


def draw_dashboards(
    find: FindTool, database: PrometheusApi, pictures: Path | None, *, rows: Literal["open", "as shipped"]
) -> Mapping[str, Json]:
    """Draw the dashboards at the end of the day, if there is a folder as one PNG per dashboard and theme.

    Returns:
        What the browser rendered, by ``uid-theme``.
    """
    request = {
        "browser": find("chromium"),
        "prometheus": database.url,
        "to": int(END * 1000),
        "pictures": str(pictures) if pictures else None,
        "themes": THEMES,
        "rows": rows,
        "dashboards": DASHBOARDS,
        "variables": VARIABLES,
    }
    run_command(find(str(VITE)), "build", "--logLevel=warn", cwd=PREVIEW)
    command = (find("node"), "capture.mjs", json.dumps(request))
    pages: Mapping[str, Json] = json.loads(run_command(*command, cwd=PREVIEW, timeout=BROWSER_TIMEOUT))
    return pages


def find_program(name: str) -> str:
    """Return the path of a program, or exit if it is missing."""
    return shutil.which(name) or sys.exit(f"{name} is not installed")


def main() -> None:
    """Draw every dashboard in both themes and remove outdated pictures."""
    with TemporaryDirectory() as folder, simulated_day(find_program, Path(folder)) as database:
        pages = draw_dashboards(find_program, database, PICTURES, rows="as shipped")
    for picture in PICTURES.glob("*.png"):
        if picture.stem not in pages:
            picture.unlink()
    errors = [f"{name}: {error}" for name, page in pages.items() for error in page["errors"]]
    if errors:
        sys.exit("\n".join(errors))


if __name__ == "__main__":
    main()
