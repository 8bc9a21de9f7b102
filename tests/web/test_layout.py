"""The layout of the status page in a browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from late_exporter.health import Failure, PlatformHealth, RecentCounts
from tests.web.pages import NOW, feed, render, render_list, troubled_workspace

pytestmark = pytest.mark.e2e

WIDTHS = (320, 390, 700, 1000, 1100, 1280, 1440, 1920)

MEASURE = """
window.onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, edge = element => element.getBoundingClientRect().right;
    const excess = each => {
      const box = each.parentElement.closest(".feed, .card, .problems");
      return edge(each) - edge(box) + parseFloat(getComputedStyle(box).paddingRight);
    };
    const over = [...page.querySelectorAll(".card *, .problems *")].filter(each => excess(each) > 0.5);
    found[frame.width] = over.map(each => `${each.tagName}.${each.getAttribute("class")} +${excess(each)}`);
    if (page.documentElement.scrollWidth > frame.width) found[frame.width].push("page");
  }
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
};
"""


def wide_platform(name: str) -> PlatformHealth:
    """Return a platform with values as wide as they get, in trouble."""
    return PlatformHealth(
        name=name,
        counted_since=NOW - 9e6,
        failed=123_456,
        final=1_234_567,
        pending=1_234,
        last_log=NOW - 59 * 60,
        oldest_pending=NOW - 23 * 3600,
        recent=RecentCounts(1_234, 12_345, is_failing=True),
    )


def measure(chromium: str, page: str, folder: Path) -> dict[str, list[str]]:
    """Return what leaves its box on a page, by the width of the window."""
    frames = "".join(f'<iframe width="{width}" srcdoc="{html.escape(page)}"></iframe>' for width in WIDTHS)
    file = folder / "frames.html"
    file.write_text(f"<!doctype html><body>{frames}<script>{MEASURE}</script>", "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command = [chromium, *options, f"--user-data-dir={folder / 'browser'}", "--dump-dom", file.as_uri()]
    output = subprocess.run(command, capture_output=True, check=True, timeout=90, cwd=folder)
    result = re.search("<pre>(.*)</pre>", output.stdout.decode())
    assert result is not None
    found: dict[str, list[str]] = json.loads(html.unescape(result[1]))
    return found


@pytest.mark.parametrize("count", [1, 2, 14])
def test_nothing_leaves_its_card(count: int, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """At every width, from phones to large screens, tables and texts stay inside their card, and cards on the page."""
    platforms = tuple(map(wide_platform, ("googlebusiness", "instagram", "x")))
    feeds = (feed(), feed("connections", outcome="unavailable"))
    wide = replace(troubled_workspace(), platforms=platforms, feeds=feeds)
    workspaces = [replace(wide, name=f"{'brand-' * 9}{number}") for number in range(count)]
    found = measure(require_tool("chromium"), render(*workspaces), tmp_path)
    assert found == {str(width): [] for width in WIDTHS}


def test_failures_stay_inside_their_card(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The list of failures fits every width, too."""
    texts = {
        "username": "@tokyo_ramen_club" * 2,
        "post_id": "6b0d5fcb912265b1f50105d2",
        "error": "E" * 40 + ", HTTP 503: The platform could not process the video, whatever it was" * 3,
    }
    failure = Failure(key="k", time=NOW - 1738, platform="googlebusiness", account_id="a", **texts)
    page = render_list("platforms", failure)
    assert measure(require_tool("chromium"), page, tmp_path) == {str(width): [] for width in WIDTHS}
