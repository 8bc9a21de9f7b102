"""Golden copies of ``/metrics``: a small fixed world, scraped from a real process, with varying values masked.

``python -m tests.e2e.golden`` writes them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from late_exporter.feeds import FEEDS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.metrics.catalogue import OPTIONAL_FAMILIES
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_until
from tests.support.world import World, iso_time

FOLDER = Path(__file__).resolve().parents[1] / "golden"
FORMATS = {"metrics.txt": "text/plain", "metrics.om": "application/openmetrics-text; version=1.0.0"}
"""File names and the Accept header of their format."""

CLIENT_LIBRARY_LINES = re.compile(r"(?:# \w+ )?(?:process_|python_)")
"""Lines of the collectors of prometheus_client."""

VARYING_VALUES = re.compile(
    r"^(late_\w*(?:_timestamp_seconds|_created|_request_duration_seconds_(?:bucket|sum)|_poll_duration_seconds|_state_bytes"
    r"|_clock_offset_seconds|_quota_remaining|_quota_customer_requests_per_minute|_log_lag_seconds_(?:bucket|sum)|_delay_seconds_sum)"
    r"(?:\{.*?\})?) [^ ]+(?= #|$)",
    re.MULTILINE,
)
BUILD_INFO_LABELS = re.compile(r"(late_exporter_build_info)\{[^}]*\}")
UNCOUNTED_REQUESTS = re.compile(r'path="/v1/(?:posts|accounts|accounts/health|webhooks/settings|billing|usage)"')
"""Requests of status feeds, which are counted with the next poll, an hour later."""

LAG_COUNT = "late_exporter_log_lag_seconds_count"

EXEMPLAR_TIMES = re.compile(r"( # \{.*\} [^ ]+) [0-9.e+]+$", re.MULTILINE)


def insert_history(late: LateServer) -> None:
    """Insert logs of every kind with fixed labels, durations and ids."""
    insert, world = partial(insert_log, late.world), late.world
    insert("log01", 3000, durationMs=90)
    insert("log02", 2900, durationMs=4200.5, accountId="acc2", accountUsername='Bäckerei "Müller" \\ Söhne')
    insert("log03", 2800, platform="tiktok", durationMs=700_000, action="media_upload")
    insert("log04", 2700, platform="tiktok", status="failed", statusCode=429, response={"errorCode": "RATE_LIMITED"})
    insert("log05", 2600, platform="tiktok", action="rate_limit_pause", status="skipped", durationMs=20_000)
    insert("log06", 2500, platform="tiktok", action="retry", attemptNumber=2)
    insert("log07", 2400, status="failed", statusCode=401, response={"errorCode": "TOKEN_EXPIRED"})
    insert("log08", 2300, status="pending", statusCode=None, durationMs=None)
    insert("log09", 2200, platform="a\nnew 🚀 platform", action=None, status="success")
    insert("log10", 2100, platform=None, status=None, durationMs="soon", attemptNumber=-1)
    world.archives.publishing.insert({"postId": "no id at all"})
    world.add_connection(
        "connect_success", _id="c1", success={"username": "@baeckerei", "tokenExpiresAt": "2027-01-01T00:00:00Z"}
    )
    world.add_connection("connect_failed", _id="c2", accountId=None, error={"code": "oauth_denied"}, durationMs=350)
    world.add_connection("disconnect", _id="c3", platform="tiktok", accountId="acc2", connectionMethod=None)


def insert_new_logs(late: LateServer) -> None:
    """Insert and change logs after the first sync."""
    insert, world = partial(insert_log, late.world), late.world
    world.change("log08", "success", durationMs=8000)
    insert("log11", 0, durationMs=1500, request={"scheduledFor": iso_time(time.time() - 400)})
    insert("log12", 0, platform="tiktok", status="failed", statusCode=500, response={"errorCode": None})
    insert("log13", 0, platform="bluesky", status="pending", statusCode=None, durationMs=None)
    insert("log14", 7200, platform="bluesky", durationMs=300)
    world.add_connection("reconnect_failed", _id="c4", platform="tiktok", accountId="acc2", error={"code": "a code"})


def insert_log(world: World, log_id: str, age_seconds: float, **fields: Any) -> None:
    """Insert a log with fixed ids."""
    world.insert(time.time() - age_seconds, _id=log_id, postId={"_id": f"post-of-{log_id}"}, **fields)


def mask_varying(text: str) -> str:
    """Return a scrape without the values that differ in every run."""
    exporter_lines = "".join(
        line
        for line in text.splitlines(keepends=True)
        if not CLIENT_LIBRARY_LINES.match(line) and not UNCOUNTED_REQUESTS.search(line)
    )
    exporter_lines = BUILD_INFO_LABELS.sub(
        r'\1{version="VERSION",revision="REVISION",python_version="PYTHON"}', exporter_lines
    )
    return EXEMPLAR_TIMES.sub(r"\1 TIME", VARYING_VALUES.sub(r"\1 VARIES", exporter_lines))


def render_golden_files(folder: Path) -> Mapping[str, str]:
    """Return the current contents of the golden files by name."""
    with LateServer() as late:
        insert_history(late)
        enabled = f"--metrics.enable={','.join(OPTIONAL_FAMILIES)}"
        with ExporterProcess.for_api(folder, late.url, enabled, interval="1h") as program:
            wait_unchanged(program)
            program.stop()
            insert_new_logs(late)
            program.start()
            # New series show 0 until the publication after a scrape has read that.
            wait_until(
                lambda: all(program.scrape().sum(LAG_COUNT, feed=feed) for feed in ("publishing", "connections"))
            )
            wait_unchanged(program)
            return {name: mask_varying(program.get("/metrics", Accept=accept).text) for name, accept in FORMATS.items()}


def wait_unchanged(program: ExporterProcess) -> None:
    """Wait until all feeds were read and two scrapes are the same."""
    wait_until(lambda: program.scrape().sum("late_up") == len(FEEDS))
    wait_until(lambda: program.scrape().sum("late_exporter_status_feed_up") == len(STATUS_FEEDS))
    texts = [""]

    def is_unchanged() -> bool:
        texts.append(mask_varying(program.get("/metrics").text))
        return texts[-1] == texts[-2]

    wait_until(is_unchanged)


def main() -> None:
    """Write the golden files."""
    with TemporaryDirectory() as folder:
        for name, text in render_golden_files(Path(folder)).items():
            (FOLDER / name).write_text(text, "utf-8")
            sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
