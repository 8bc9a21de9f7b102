"""Render the dashboards over a Prometheus that holds the simulated day."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from late_exporter.exposition.exposition import OPENMETRICS
from tests.dashboards import rule_samples
from tests.dashboards.dashboard_files import Json
from tests.dashboards.simulated_day import DETAILED_BEGIN, END, DayOfScrapes
from tests.e2e.program import run_command, wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.support.clock import HOUR

ROOT = Path(__file__).parents[2]
PREVIEW = ROOT / "grafana" / "preview"
VITE = PREVIEW / "node_modules" / ".bin" / "vite"

PROGRAMS = ("prometheus", "promtool", "chromium", "node", str(VITE))
"""Required programs, checked before the slow part starts."""

THEMES = ("dark", "light")
DASHBOARDS = ("late-overview", "late-platform", "late-accounts", "late-exporter")
VARIABLES = {"late-platform": {"platform": "instagram"}}
"""Variable values by dashboard; all others select everything."""

BROWSER_TIMEOUT = 480
"""Timeout of the browser in seconds; the browser ends with the program that drives it."""

UNLIMITED_RETENTION = "--storage.tsdb.retention.time=100y"
SHORT_LOOKBACK = "--query.lookback-delta=1m"
"""Scrape interval of the day. Blocks made from text have no staleness markers."""

BLOCK_DURATION = "162h"
"""Maximum duration of a block; promtool reads the whole file for each block that it creates."""

SCRAPES_PER_BLOCK = 150
"""Scrapes per batch; the text of the whole day is 350 MB."""

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"], labels: {instance: "localhost:10077"}}]
"""

FindTool: TypeAlias = Callable[[str], str]
"""Returns the path of a program, or does not return if it is missing."""


def simulate_day(find: FindTool, folder: Path) -> None:
    """Write a database with the simulated day, and its last scrape."""
    for name in PROGRAMS:
        find(name)
    scrapes = DayOfScrapes(folder)
    remaining_scrapes = iter(scrapes)
    while part := [*islice(remaining_scrapes, SCRAPES_PER_BLOCK)]:
        _add_blocks(find, folder, chain.from_iterable(part))
    (folder / "last.om").write_bytes(scrapes.last_body)
    for after_alerts in (False, True):
        with run_prometheus(find("prometheus"), folder, "global: {}\n", UNLIMITED_RETENTION) as database:
            rule_lines = [
                *rule_samples.sample_lines(database, int(DETAILED_BEGIN), int(END), after_alerts=after_alerts)
            ]
        if rule_lines:
            _add_blocks(find, folder, rule_lines)


@contextmanager
def day_in_prometheus(find: FindTool, folder: Path) -> Iterator[PrometheusApi]:
    """Start a Prometheus over the day in a folder; exemplars are scraped, because blocks do not store them."""
    with (
        _serve_body((folder / "last.om").read_bytes()) as target,
        run_prometheus(
            find("prometheus"),
            folder,
            CONFIG % target,
            UNLIMITED_RETENTION,
            SHORT_LOOKBACK,
            "--enable-feature=exemplar-storage",
        ) as database,
    ):
        window = {"start": str(END - HOUR), "end": str(END)}
        wait_until(lambda: database.call_api("query_exemplars", query='{job="late"}', **window))
        yield database


def draw_dashboards(
    find: FindTool, database: PrometheusApi, pictures: Path, *, rows: Literal["open", "as shipped"]
) -> Mapping[str, Json]:
    """Draw the dashboards at the end of the day.

    Args:
        find: Lookup of required programs.
        database: PrometheusApi with the data.
        pictures: Folder for one PNG per dashboard and theme.
        rows: Whether to open the rows that are collapsed.

    Returns:
        What the browser rendered, by ``uid-theme``.
    """
    request = {
        "browser": find("chromium"),
        "prometheus": database.url,
        "to": int(END * 1000),
        "pictures": str(pictures),
        "themes": THEMES,
        "rows": rows,
        "dashboards": DASHBOARDS,
        "variables": VARIABLES,
    }
    run_command(find(str(VITE)), "build", "--logLevel=warn", cwd=PREVIEW)
    command = (find("node"), "capture.mjs", json.dumps(request))
    pages: Mapping[str, Json] = json.loads(run_command(*command, cwd=PREVIEW, timeout=BROWSER_TIMEOUT))
    return pages


def _add_blocks(find: FindTool, folder: Path, lines: Iterable[str]) -> None:
    """Add lines with timestamps to the database as blocks."""
    file = folder / "part.om"
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
        stream.write("# EOF\n")
    options = (f"--max-block-duration={BLOCK_DURATION}", "--quiet")
    run_command(find("promtool"), "tsdb", "create-blocks-from", *options, "openmetrics", file, folder / "tsdb")
    file.unlink()


@contextmanager
def _serve_body(body: bytes) -> Iterator[str]:
    """Serve a fixed body to a scraper; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", OPENMETRICS)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
