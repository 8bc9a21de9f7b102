"""Workspaces for tests of the status page, and what a page contains."""

from __future__ import annotations

import re
from collections.abc import Collection
from html.parser import HTMLParser
from typing import Any

from late_exporter.health import (
    AccountHealth,
    Condition,
    Failure,
    FeedHealth,
    PlatformHealth,
    Quota,
    RecentCounts,
    StatusFeedHealth,
    WorkspaceHealth,
    WorkspaceStatus,
)
from late_exporter.web.findings import StatusDocument
from late_exporter.web.status_page import render_failures, render_page

NOW = 1_763_993_002.0  # 2025-11-24 14:03:22 UTC
HOSTILE = "<script>alert('1')</script> & \"🔥\" \u202e\ud800"
REFUSED = "no connection to 127.0.0.1:10679"


def feed(
    name: str = "publishing", *, is_synced: bool = True, outcome: str | None = "success", **values: Any
) -> FeedHealth:
    """Return a healthy feed with some values changed."""
    return FeedHealth(name=name, is_synced=is_synced, outcome=outcome, **values)


def workspace(name: str = "acme", *feeds: FeedHealth, **more: Any) -> WorkspaceHealth:
    """Return a workspace with the given feeds, by default one healthy feed."""
    return WorkspaceHealth(name=name, base_url="https://getlate.dev/api", feeds=feeds or (feed(),), **more)


def reporting(*conditions: Condition, name: str = "acme") -> WorkspaceHealth:
    """Return a workspace whose status feeds report something."""
    return workspace(name, status=WorkspaceStatus(conditions=conditions))


def unreachable_workspace() -> WorkspaceHealth:
    """Return a workspace whose API has been dead for 17 minutes."""
    failed: dict[str, Any] = {"outcome": "unavailable", "error": REFUSED, "last_success": NOW - 1020}
    feeds = feed(**failed), feed("connections", **failed)
    status = WorkspaceStatus(feeds=(StatusFeedHealth(name="posts", is_up=False, error=REFUSED),))
    return workspace("agency", *feeds, quota=Quota(600, 529, NOW - 900, 11), status=status)


def platform(name: str = "tiktok", published: int = 0, failed: int = 0, **more: Any) -> PlatformHealth:
    """Return a platform whose final attempts were published or failed."""
    defaults = {"counted_since": NOW - 86_400, "final": published + failed, **more}
    return PlatformHealth(name=name, failed=failed, **defaults)


def outage(name: str = "instagram") -> PlatformHealth:
    """Return a platform on which most attempts fail."""
    return platform(name, 5, recent=RecentCounts(19, 22, is_failing=True))


def account(username: str = "@acme", failures: int = 1, *, on: str = "instagram") -> AccountHealth:
    """Return an account that fails."""
    return AccountHealth(platform=on, account_id="a1", username=username, consecutive_failures=failures)


def troubled_workspace(text: str = "trouble") -> WorkspaceHealth:
    """Return a workspace with a problem of most kinds, and with one text in every place that the API can fill."""
    failed = feed(text, outcome=text, error=text)
    status = WorkspaceStatus(
        feeds=(StatusFeedHealth(name="posts", error=f"{text} 500"),),
        conditions=(Condition("scheduled", text, NOW - 7200), *(Condition("blocked", text, text=text),) * 6),
    )
    return WorkspaceHealth(
        name=text,
        base_url=text,
        feeds=(failed, feed("connections")),
        quota=Quota(600, 60, NOW),
        platforms=(outage(text),),
        failing_accounts=(account(text, 2, on=f"{text} 2"), account("", 9, on=f"{text} 2")),
        status=status,
    )


def document(*workspaces: WorkspaceHealth, **values: Any) -> StatusDocument:
    """Return the status of some workspaces at NOW."""
    return StatusDocument.of(workspaces, version="1.2.3", now=NOW, **values)


def render(*workspaces: WorkspaceHealth, subjects: Collection[str] = ()) -> str:
    """Render the page at NOW; the subjects have failures."""
    return render_page(document(*workspaces), frozenset(subjects), ["/metrics"])


def render_list(kind: str, *failures: Failure) -> str:
    """Render a page of failures of a workspace at NOW."""
    shown = [("brand", each) for each in failures]
    return render_failures(kind, shown, now=NOW, version="1.2.3", paths=["/metrics"])


def rows(html: str) -> list[list[str]]:
    """Return the text of the first table's cells, row by row."""
    body = html.partition("<tbody>")[2].partition("</table>")[0]
    cells = [re.split("<t[hd][^>]*>", row)[1:] for row in body.split("<tr>")[1:]]
    return [[re.sub("<[^>]+>", "", cell).strip() for cell in row] for row in cells]


class PageParser(HTMLParser):
    """Parser that collects the elements of a page and its text without tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data if data.strip() else " "

    def links(self) -> list[str | None]:
        """Return the targets of the links."""
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]

    def titles(self) -> list[str | None]:
        """Return the tooltips."""
        return [attributes["title"] for _, attributes in self.elements if "title" in attributes]


def text_of(html: str) -> str:
    """Return the text of some HTML on one line."""
    return " ".join(PageParser(html).text.split())
