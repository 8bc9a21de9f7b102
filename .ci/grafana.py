# ruff: noqa: INP001 - a script, not a module
"""Check that a running Grafana has the dashboards, can query for them, and can draw them.

Usage: grafana.py URL FOLDER, for a Grafana that anonymous users may read, and a folder for the
pictures.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parents[1] / "grafana/dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
MIN_PICTURE_BYTES = 20_000
"""A picture of a page with an error, or of an empty page, is smaller."""

TIMEOUT = 120  # seconds; the first picture starts a browser
ATTEMPTS = 60
PNG = b"\x89PNG"
VARIABLE = re.compile(r"\$(?!__)(?:\{(\w+)(?::\w+)?\}|(\w+))")


def main() -> None:
    """Check every dashboard, and exit with an error that lists what is wrong."""
    url = sys.argv[1].rstrip("/")
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    problems = [
        problem
        for path in sorted(DASHBOARDS.glob("*.json"))
        for problem in check_dashboard(url, json.loads(path.read_text("utf-8")), folder)
    ]
    if problems:
        sys.exit("\n".join(problems))


def check_dashboard(url: str, dashboard: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield what is wrong with a dashboard; write its pictures into a folder."""
    uid = dashboard["uid"]
    stored = json.loads(wait_for(f"{url}/api/dashboards/uid/{uid}"))["dashboard"]
    if count(stored) != count(dashboard):
        yield f"{uid}: Grafana has {count(stored)} panels instead of {count(dashboard)}"
    for title, expr in queries(dashboard):
        body = {
            "from": "now-1h",
            "to": "now",
            "queries": [
                {
                    "refId": "A",
                    "datasource": DATASOURCE,
                    "expr": expr,
                    "range": True,
                    "maxDataPoints": 100,
                }
            ],
        }
        try:
            result = json.loads(request(f"{url}/api/ds/query", body))["results"]["A"]
        except urllib.error.HTTPError as exc:
            result = {"error": f"{exc.code} {exc.read().decode('utf-8', 'replace')[:300]}"}
        if "error" in result:
            yield f"{uid}: {title}: {result['error']}: {expr}"
    for theme in ("light", "dark"):
        picture = request(
            f"{url}/render/d/{uid}?width=1600&height=3000&kiosk=true&theme={theme}&timeout={TIMEOUT}"
        )
        (folder / f"{uid}-{theme}.png").write_bytes(picture)
        if not picture.startswith(PNG) or len(picture) < MIN_PICTURE_BYTES:
            yield f"{uid}: the {theme} picture has {len(picture)} bytes"


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard, also those in collapsed rows."""
    for panel in dashboard.get("panels", ()):
        yield panel
        yield from panels(panel)


def count(dashboard: dict[str, Any]) -> int:
    """Return the number of panels."""
    return sum(1 for _ in panels(dashboard))


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and expression of all queries, with all values of every variable."""
    for annotation in dashboard.get("annotations", {}).get("list", ()):
        if "expr" in annotation:
            yield annotation["name"], fill_in(annotation["expr"])
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            if "expr" in target and panel.get("type") != "logs":
                yield panel.get("title", ""), fill_in(target["expr"])


def fill_in(expr: str) -> str:
    """Replace the variables of a dashboard, but not Grafana's own, which it replaces itself."""
    return VARIABLE.sub(".*", expr)


def wait_for(url: str) -> bytes:
    """Return the response once there is one: Grafana reads its dashboards after its start."""
    for _ in range(ATTEMPTS):
        try:
            return request(url)
        except OSError as exc:
            error = exc
        time.sleep(1)
    raise error


def request(url: str, body: object = None) -> bytes:
    """Return the response to a GET request, or to a POST request with a body in JSON."""
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - as given
    with urllib.request.urlopen(message, timeout=TIMEOUT + 10) as response:  # noqa: S310 - as above
        content: bytes = response.read()
    return content


if __name__ == "__main__":
    main()
