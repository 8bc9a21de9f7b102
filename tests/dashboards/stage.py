"""A real Prometheus that holds the simulated week, and the preview that draws dashboards over it."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from late_exporter.exposition.negotiation import OPENMETRICS
from tests.dashboards import alerts
from tests.dashboards.boards import Json
from tests.dashboards.week import END, Scrapes
from tests.e2e.program import wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.support.clock import HOUR

__all__ = ["DASHBOARDS", "PREVIEW", "ROOT", "Find", "draw", "staged"]

ROOT = Path(__file__).parents[2]
PREVIEW = ROOT / "grafana" / "preview"
VITE = PREVIEW / "node_modules" / ".bin" / "vite"
CACHE = ROOT / ".cache" / "week"

PROGRAMS = ("prometheus", "promtool", "chromium", "node", str(VITE))
"""All that is needed: it takes a while until the last of them is."""

DASHBOARDS = ("late-overview", "late-platform", "late-accounts", "late-exporter")
VARIABLES = {"late-platform": {"platform": "instagram"}}
"""What is chosen on a dashboard, where that is not everything."""

LONGEST = 300
"""Seconds for the browser, which ends with the program that drives it."""

FOREVER = "--storage.tsdb.retention.time=100y"
SHORT = "--query.lookback-delta=1m"
"""As often as the week's end was scraped: blocks made from text do not mark where a series ends."""

WIDEST = "162h"
"""Of a block: promtool reads a whole file for each block that it makes."""

PART = 150
"""Scrapes that are turned into blocks at once: the text of a week is 700 MB."""

RULED = 12 * HOUR
"""Before the end; as long as rules are evaluated, so that what is pending for hours fires in the time shown."""

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"], labels: {instance: "localhost:10077"}}]
"""

Find: TypeAlias = Callable[[str], str]
"""Where a program is; does not return where there is none."""


@contextmanager
def staged(find: Find, folder: Path) -> Iterator[PrometheusApi]:
    """A Prometheus over a copy of the week; blocks hold no exemplars, so it scrapes the last ones."""
    for name in PROGRAMS:
        find(name)
    week = _week(find)
    shutil.copytree(week / "tsdb", folder / "tsdb")
    with (
        _serving((week / "last.om").read_bytes()) as target,
        run_prometheus(
            find("prometheus"), folder, CONFIG % target, FOREVER, SHORT, "--enable-feature=exemplar-storage"
        ) as database,
    ):
        window = {"start": str(END - HOUR), "end": str(END)}
        wait_until(lambda: database.call_api("query_exemplars", query='{job="late"}', **window))
        yield database


def draw(find: Find, database: PrometheusApi, pictures: Path, themes: Sequence[str]) -> Mapping[str, Json]:
    """Draw the dashboards as of the end of the week.

    Args:
        find: Where a program is.
        database: What they show.
        pictures: A folder that gets a PNG for each of them and each theme.
        themes: ``dark`` and ``light``.

    Returns:
        What the browser saw, by ``uid-theme``.
    """
    wanted = {
        "browser": find("chromium"),
        "prometheus": database.url,
        "to": int(END * 1000),
        "pictures": str(pictures),
        "themes": list(themes),
        "dashboards": DASHBOARDS,
        "variables": VARIABLES,
    }
    subprocess.run([find(str(VITE)), "build", "--logLevel=warn"], cwd=PREVIEW, check=True)
    command = [find("node"), "look.mjs", json.dumps(wanted)]
    looked = subprocess.run(command, cwd=PREVIEW, stdout=subprocess.PIPE, text=True, check=True, timeout=LONGEST)
    seen: Mapping[str, Json] = json.loads(looked.stdout)
    return seen


def _week(find: Find) -> Path:
    """A folder with the week; it is made anew when what it is made of has changed."""
    folder = CACHE / _digest()
    if not folder.is_dir():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        with TemporaryDirectory(dir=CACHE) as making:
            finished = Path(making) / "finished"
            finished.mkdir()
            _make(find, finished)
            finished.rename(folder)
    return folder


def _digest() -> str:
    sources = [*(ROOT / "late_exporter").rglob("*.py"), *(ROOT / "deploy" / "prometheus").glob("*.yml")]
    sources += [
        ROOT / "tests" / "support" / "worlds.py",
        *(Path(__file__).with_name(name) for name in ("week.py", "alerts.py")),
    ]
    return sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()[:16]


def _make(find: Find, folder: Path) -> None:
    scrapes = Scrapes(folder)
    coming = iter(scrapes)
    while part := [*islice(coming, PART)]:
        _add(find, folder, chain.from_iterable(part))
    (folder / "last.om").write_bytes(scrapes.last)
    with run_prometheus(find("prometheus"), folder, "global: {}\n", FOREVER) as database:
        ruled = [*alerts.lines(database, int(END - RULED), int(END))]
    _add(find, folder, ruled)


def _add(find: Find, folder: Path, lines: Iterable[str]) -> None:
    """Make blocks of lines with timestamps."""
    file = folder / "part.om"
    with file.open("w", encoding="utf-8") as writing:
        writing.writelines(lines)
        writing.write("# EOF\n")
    command = [find("promtool"), "tsdb", "create-blocks-from", f"--max-block-duration={WIDEST}", "--quiet"]
    subprocess.run([*command, "openmetrics", file, folder / "tsdb"], check=True)
    file.unlink()


@contextmanager
def _serving(body: bytes) -> Iterator[str]:
    """The address of a server that tells a scraper always the same."""

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
