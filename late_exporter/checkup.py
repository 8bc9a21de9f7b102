"""Whether the API answers to a key, endpoint by endpoint, in words."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import msgspec

from late_exporter.api import LateClient
from late_exporter.errors import ApiError
from late_exporter.model import Feed, Page

__all__ = ["Finding", "examine"]


class Finding(msgspec.Struct, frozen=True):
    """What was found at one endpoint of one workspace."""

    good: bool
    workspace: str
    endpoint: str
    words: str

    def __str__(self) -> str:
        """A line for a person."""
        return f"{'ok' if self.good else 'error':<6}{self.workspace}  {self.endpoint}  {self.words}"


async def examine(workspace: str, client: LateClient, feeds: Iterable[Feed]) -> list[Finding]:
    """Ask every endpoint that the feeds need once."""
    findings = []
    for feed in feeds:
        finding, post_id = await _list(workspace, client, feed)
        findings.append(finding)
        if feed.post_path is not None and post_id is not None:
            findings.append(await _post(workspace, client, feed, post_id))
    return findings


async def _list(workspace: str, client: LateClient, feed: Feed) -> tuple[Finding, str | None]:
    try:
        page = await _page(client, feed, feed.path, feed.path)
    except ApiError as exc:
        return Finding(good=False, workspace=workspace, endpoint=feed.path, words=str(exc)), None
    if page is None:
        return Finding(good=False, workspace=workspace, endpoint=feed.path, words="404: no such endpoint"), None
    words = f"{_count(page.total)}{_quota(client)}"
    post_id = next((entry.post_id for entry in page.entries if entry.post_id), None)
    return Finding(good=True, workspace=workspace, endpoint=feed.path, words=words), post_id


async def _post(workspace: str, client: LateClient, feed: Feed, post_id: str) -> Finding:
    endpoint = feed.post_path or ""
    try:
        page = await _page(client, feed, endpoint.replace("{postId}", quote(post_id, safe="")), endpoint)
    except ApiError as exc:
        return Finding(good=False, workspace=workspace, endpoint=endpoint, words=str(exc))
    words = "the newest post is gone" if page is None else f"{_count(len(page.entries))} of the newest post"
    return Finding(good=True, workspace=workspace, endpoint=endpoint, words=words)


async def _page(client: LateClient, feed: Feed, path: str, endpoint: str) -> Page | None:
    answer = await client.get(path, {"limit": 1}, endpoint=endpoint)
    return None if answer is None else feed.parse(answer.body)


def _count(logs: int | None) -> str:
    if logs is None:
        return "an unknown number of logs"
    return "1 log" if logs == 1 else f"{logs:,} logs"


def _quota(client: LateClient) -> str:
    quota = client.quota
    return "" if quota is None else f"; {quota.remaining:,} of {quota.limit:,} requests left this minute"
