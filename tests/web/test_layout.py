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

from late_exporter.health import PlatformHealth, RecentCounts
from tests.web.pages import NOW, feed, render, troubled_workspace

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


@pytest.mark.parametrize("count", [1, 2, 14])
def test_nothing_leaves_its_card(count: int, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """At every width, from phones to large screens, tables and texts stay inside their card, and cards on the page."""
    platforms = tuple(map(wide_platform, ("googlebusiness", "instagram", "x")))
    feeds = (feed(), feed("connections", outcome="unavailable"))
    wide = replace(troubled_workspace(), platforms=platforms, feeds=feeds)
    workspaces = [replace(wide, name=f"{'brand-' * 9}{number}") for number in range(count)]

    page = html.escape(render(*workspaces))
    frames = "".join(f'<iframe width="{width}" srcdoc="{page}"></iframe>' for width in WIDTHS)
    file = tmp_path / "frames.html"
    file.write_text(f"<!doctype html><body>{frames}<script>{MEASURE}</script>", "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    profile = f"--user-data-dir={tmp_path / 'browser'}"
    command = [require_tool("chromium"), *options, profile, "--dump-dom", file.as_uri()]
    output = subprocess.run(command, capture_output=True, check=True, timeout=90, cwd=tmp_path)
    result = re.search("<pre>(.*)</pre>", output.stdout.decode())
    assert result is not None
    assert json.loads(html.unescape(result[1])) == {str(width): [] for width in WIDTHS}
