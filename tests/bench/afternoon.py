"""Baseline of the bench: a minimal exporter that reads every page at every poll and keeps ids in memory.

It serves by prometheus_client. LATE_API_URL, LATE_API_KEY and INTERVAL configure it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
from prometheus_client import Counter, Gauge, Histogram, start_http_server

BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

LOGS = Counter("late_publishing_logs", "Publishing logs.", ["platform", "action", "status"])
DURATION = Histogram(
    "late_publishing_duration_seconds", "Duration in seconds.", ["platform", "action", "status"], buckets=BUCKETS
)
FAILURES = Counter("late_publishing_failures", "Failed logs.", ["platform", "action", "status_code"])
ACCOUNT_LOGS = Counter("late_account_logs", "Logs by account.", ["platform", "account_id", "status"])
LAST_POLL = Gauge("late_last_poll_timestamp_seconds", "Time of the last successful poll.")

log = logging.getLogger("script")
counted_keys: set[tuple[str, str]] = set()


def read_all(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """Yield every log of the API."""
    skip, has_more = 0, True
    while has_more:
        response = client.get("/v1/posts/logs", params={"days": 7, "limit": 100, "skip": skip})
        response.raise_for_status()
        page = json.loads(response.content)
        yield from page["logs"]
        skip += len(page["logs"])
        has_more = page["pagination"]["hasMore"]


def count_log(row: dict[str, Any]) -> None:
    """Count a log, once in each status."""
    platform, action, status = row["platform"], row["action"], row["status"]
    if (row["_id"], status) in counted_keys:
        return
    counted_keys.add((row["_id"], status))
    LOGS.labels(platform, action, status).inc()
    if row.get("durationMs") is not None:
        DURATION.labels(platform, action, status).observe(row["durationMs"] / 1000)
    if status == "failed":
        FAILURES.labels(platform, action, str(row.get("statusCode"))).inc()
    if action in ("publish", "retry"):
        ACCOUNT_LOGS.labels(platform, row.get("accountId", "unknown"), status).inc()


def main() -> None:
    """Serve and poll until killed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    server, _ = start_http_server(0, addr="127.0.0.1")
    log.info("listening, address=http://127.0.0.1:%d", server.server_port)
    headers = {"Authorization": f"Bearer {os.environ['LATE_API_KEY']}"}
    with httpx.Client(base_url=os.environ["LATE_API_URL"], headers=headers, timeout=30) as client:
        while True:
            try:
                for row in read_all(client):
                    count_log(row)
                LAST_POLL.set_to_current_time()
                log.info("polled, %d logs", len(counted_keys))
            except httpx.HTTPError as exc:
                log.warning("poll failed: %s", exc)
            time.sleep(float(os.environ.get("INTERVAL", "30")))


if __name__ == "__main__":
    main()
