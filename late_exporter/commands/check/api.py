"""Whether the API answers to a key, endpoint by endpoint, and what that tells of plan, quota and clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from late_exporter.api.client import LateClient
from late_exporter.commands.check.finding import Finding, Level, log_count
from late_exporter.errors import ApiError, ApiUnavailable, RateLimited, Unauthorized
from late_exporter.model import PAGE_SIZE, Deviation, Feed

__all__ = ["api_failure", "check_api"]

PLANS = {60: "Free", 120: "Build", 600: "Accelerate", 1200: "Unlimited"}
"""Requests a minute by plan, as the vendor publishes them."""

MAX_SKEW = 60.0
"""Seconds by which two clocks may differ before it is worth a word."""

HINTS: dict[type[ApiError], str] = {
    Unauthorized: "make sure that the key is whole, of this API, and may read logs",
    RateLimited: "wait a minute; other programs use the same key",
    ApiUnavailable: "look at the network, a proxy, DNS, and --api.base-url",
}

DRIFT_KINDS = {"unknown": "is not documented", "missing": "is missing", "type": "has another type than documented"}


async def check_api(
    workspace: str,
    client: LateClient,
    feeds: Sequence[Feed],
    *,
    interval: float,
    share: float,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Ask every endpoint that the feeds need once.

    Args:
        workspace: Whose key it is.
        client: Asks with it.
        feeds: What is to be polled.
        interval: Seconds between two polls of a feed.
        share: Of the key's limit that may be used.
        clock: Unix time.
    """
    findings: list[Finding] = []
    skews: list[float] = []
    for feed in feeds:
        listed = await _check_list(client, feed)
        findings += [listed.finding, *(_schema_drift(feed.path, deviation) for deviation in listed.drift)]
        if listed.limited:
            break  # whoever asks again waits until the minute is over
        if listed.date is not None:
            skews.append(listed.date - clock())
        if feed.post_path is not None and listed.post_id is not None:
            findings.append(await _check_post(client, feed.post_path, feed, listed.post_id))
    findings += _check_quota(client, len(feeds), interval, share)
    findings += _check_clock(skews)
    return [
        Finding(
            level=finding.level,
            subject=finding.subject,
            message=finding.message,
            hint=finding.hint,
            workspace=workspace,
        )
        for finding in findings
    ]


class _ListCheck(NamedTuple):
    """What a list of logs tells; ``date`` is the API's time, ``limited`` that it asks to wait."""

    finding: Finding
    drift: Sequence[Deviation] = ()
    post_id: str | None = None
    date: float | None = None
    limited: bool = False


async def _check_list(client: LateClient, feed: Feed) -> _ListCheck:
    try:
        answer = await client.get(feed.path, {**feed.query, "limit": PAGE_SIZE}, path_template=feed.path)
        if answer is None:
            raise ApiUnavailable("404: no such endpoint")
        page = feed.parse(answer.body)
    except ApiError as exc:
        return _ListCheck(api_failure(_subject(feed), exc), limited=isinstance(exc, RateLimited))
    post_id = next((entry.post_id for entry in page.entries if entry.post_id), None)
    drift = list(dict.fromkeys(deviation for entry in page.entries for deviation in entry.deviations))
    finding = Finding(level=Level.OK, subject=_subject(feed), message=log_count(page.total))
    return _ListCheck(finding, drift, post_id, answer.date)


def _schema_drift(endpoint: str, deviation: Deviation) -> Finding:
    words = f"{deviation.path} {DRIFT_KINDS[deviation.kind]}"
    if deviation.type:
        words += f": {deviation.type} {deviation.sample}".rstrip()
    advice = "the API has changed; look for a newer late-exporter"
    return Finding(level=Level.WARNING, subject=endpoint, message=words, hint=advice)


async def _check_post(client: LateClient, endpoint: str, feed: Feed, post_id: str) -> Finding:
    path = endpoint.replace("{postId}", quote(post_id, safe=""))
    try:
        answer = await client.get(path, {"limit": 1}, path_template=endpoint)
        words = (
            "the newest post is gone"
            if answer is None
            else f"{log_count(len(feed.parse(answer.body).entries))} of the newest post"
        )
    except ApiError as exc:
        return api_failure(endpoint, exc)
    return Finding(level=Level.OK, subject=endpoint, message=words)


def _subject(feed: Feed) -> str:
    return f"{feed.path}?{urlencode(feed.query)}" if feed.query else feed.path


def api_failure(endpoint: str, exc: ApiError) -> Finding:
    """That an endpoint does not answer, and what to do."""
    return Finding(level=Level.ERROR, subject=endpoint, message=str(exc), hint=HINTS.get(type(exc), ""))


def _check_quota(client: LateClient, feeds: int, interval: float, share: float) -> Iterator[Finding]:
    """Whether steady polls fit into the share of the limit: one request a feed, and one for pending logs."""
    quota = client.quota
    if quota is None:
        return
    plan = f", the limit of the plan {PLANS[quota.limit]}" if quota.limit in PLANS else ""
    needed, allowed = (feeds + 1) * 60 / interval, quota.limit * share
    words = (
        f"{quota.remaining:,} of {quota.limit:,} requests left this minute{plan}; polls take about {_rounded(needed)}"
    )
    if needed > allowed:
        yield Finding(
            level=Level.WARNING,
            subject="quota",
            message=f"{words}, more than the {_rounded(allowed)} they may",
            hint="raise --poll.interval or --api.quota-share",
        )
    else:
        yield Finding(level=Level.OK, subject="quota", message=words)


def _check_clock(skews: Iterable[float]) -> Iterator[Finding]:
    skew = max(skews, key=abs, default=None)
    if skew is None:
        return
    words = f"{abs(skew):,.0f} s {'behind' if skew > 0 else 'ahead of'} the API's"
    if abs(skew) > MAX_SKEW:
        yield Finding(
            level=Level.WARNING,
            subject="clock",
            message=words,
            hint="synchronise it, or alerts on age go off by as much",
        )
    else:
        yield Finding(level=Level.OK, subject="clock", message=words if abs(skew) >= 1 else "that of the API")


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else f"{number:.1g}"
