"""Check every endpoint of the API with a key, the quota of the key, and the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_page, fetch_post
from late_exporter.api.quota import left_by_others
from late_exporter.commands.check.finding import Finding, Level
from late_exporter.commands.check.status import check_status_feeds
from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    EndpointNotFound,
    Forbidden,
    RateLimited,
    Unauthorized,
)
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.format import plural
from late_exporter.ingest.status_poller import StatusConfig
from late_exporter.model import LATE, Deviation
from late_exporter.protocols import Client

# Tiers by requests per minute, as the vendor publishes them.
TIERS = {60: "up to 2", 600: "3 to 2,000", 1200: "more than 2,000"}
NO_STATUS_FEEDS = StatusConfig()
MAX_SKEW = 60.0  # seconds by which the clocks may differ without a warning

HINTS: dict[type[ApiError], str] = {
    Unauthorized: "make sure that the key is complete, belongs to this API, and may read logs",
    Forbidden: "grant the key the right to read logs, or use another key",
    RateLimited: "wait a minute; other programs use the same key",
    EndpointNotFound: "check --api.base-url",
    ApiUnavailable: "check the network, a proxy, DNS, and --api.base-url",
}

DEVIATION_KINDS = {
    "unknown": "is not documented",
    "missing": "is missing",
    "type": "has another type than documented",
    "value": "has a value that is not documented",
}
MAX_SAMPLES = 5  # undocumented values of a field that are shown


async def check_api(
    workspace: str,
    client: LateClient,
    feeds: Sequence[Feed],
    *,
    interval: float,
    quota_share: float,
    status: StatusConfig = NO_STATUS_FEEDS,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Request every endpoint that the feeds need once; ``interval`` is in seconds, between two polls of a feed."""
    findings: list[Finding] = []
    skews: list[float] = []
    responds = bool(feeds)
    for feed in feeds:
        result = await _check_list(client, feed)
        responds &= result.error is None or isinstance(result.error, Forbidden)
        findings += [result.finding, *(_schema_finding(feed.path, deviation) for deviation in result.deviations)]
        if isinstance(result.error, RateLimited):
            break  # a further request would wait for the next minute
        if result.date is not None:
            skews.append(result.date - clock())
        if feed.post_path is not None and result.post_id is not None:
            findings.append(await _check_post(client, feed, result.post_id))
    if responds:
        findings += await check_status_feeds(client, status)
    # A poll costs one request per feed, and one for pending logs.
    required_rate = (len(feeds) + 1) * 60 / interval + status.requests_per_minute
    findings += check_quota(client, required_rate, quota_share)
    findings += _check_clock(skews)
    return [msgspec.structs.replace(finding, workspace=workspace) for finding in findings]


class _ListResult(NamedTuple):
    """Result of the check of a log list; ``date`` is the clock of the API as a Unix time in seconds."""

    finding: Finding
    deviations: Sequence[Deviation] = ()
    post_id: str | None = None
    date: float | None = None
    error: ApiError | None = None


async def _check_list(client: LateClient, feed: Feed) -> _ListResult:
    subject = f"{feed.path}?{urlencode(feed.query)}" if feed.query else feed.path
    try:
        response = await fetch_page(client, feed)
    except ApiError as exc:
        finding = api_failure(subject, exc)
        if isinstance(exc, EndpointNotFound) and feed.name not in GENERATIONS[LATE]:
            hint = f"only API generation zernio has this list: remove {feed.name} from --poll.feeds, or {finding.hint}"
            finding = msgspec.structs.replace(finding, hint=hint)
        return _ListResult(finding, error=exc)
    page = response.page
    post_id = next((entry.post_id for entry in page.entries if entry.post_id), None)
    deviations = _distinct(deviation for entry in page.entries for deviation in entry.deviations)
    message = "an unknown number of logs" if page.total is None else plural(page.total, "log")
    finding = Finding(Level.OK, subject, message)
    return _ListResult(finding, deviations, post_id, response.date)


def _distinct(deviations: Iterable[Deviation]) -> Sequence[Deviation]:
    """Return each deviation once, but only the first MAX_SAMPLES values of a field."""
    by_field: dict[tuple[str, str], dict[Deviation, None]] = {}
    for deviation in deviations:
        samples = by_field.setdefault((deviation.path, deviation.kind), {})
        if len(samples) < MAX_SAMPLES:
            samples[deviation] = None
    return [deviation for samples in by_field.values() for deviation in samples]


def _schema_finding(path: str, deviation: Deviation) -> Finding:
    message = f"{deviation.path} {DEVIATION_KINDS[deviation.kind]}"
    if deviation.type:
        message += f": {deviation.type} {deviation.sample}".rstrip()
    hint = "the API has changed; look for a newer late-exporter"
    return Finding(Level.WARNING, path, message, hint=hint)


async def _check_post(client: LateClient, feed: Feed, post_id: str) -> Finding:
    subject = feed.post_path or ""
    try:
        response = await fetch_post(client, feed, post_id)
    except ApiError as exc:
        return api_failure(subject, exc)
    if response is None:
        message = "the newest post was deleted"
    else:
        message = f"{plural(len(response.page.entries), 'log')} of the newest post"
    return Finding(Level.OK, subject, message)


def api_failure(subject: str, exc: ApiError) -> Finding:
    # The message about a missing group says what to do.
    hint = "" if isinstance(exc, Forbidden) and exc.required_group else HINTS.get(type(exc), "")
    return Finding(Level.ERROR, subject, str(exc), hint=hint)


def check_quota(client: Client, required_rate: float, quota_share: float) -> Iterator[Finding]:
    """Compare the requests per minute that polling needs with those that the share and other users of the key allow."""
    quota = client.quota
    if quota is None:
        return
    tier = f", the limit for {TIERS[quota.limit]} connected accounts" if quota.limit in TIERS else ""
    allowed_rate = quota.limit * quota_share
    rest = math.floor(left_by_others(quota.limit, quota_share, quota.customer_requests))
    others = f"; others use about {quota.customer_requests:,} per minute" if quota.customer_requests else ""
    message = (
        f"{quota.remaining:,} of {quota.limit:,} requests left this minute{tier}{others}; polling takes about "
        f"{_rounded(required_rate)}"
    )
    if required_rate > allowed_rate:
        yield Finding(
            Level.WARNING,
            "quota",
            f"{message}, more than the {_rounded(allowed_rate)} allowed by --api.quota-share",
            hint="raise --poll.interval or --api.quota-share",
        )
    elif required_rate > rest:
        yield Finding(
            Level.WARNING,
            "quota",
            f"{message}, more than the {_rounded(rest)} that they leave",
            hint="raise --poll.interval, or give the exporter a key of its own",
        )
    else:
        yield Finding(Level.OK, "quota", message)


def _check_clock(skews: Iterable[float]) -> Iterator[Finding]:
    skew = max(skews, key=abs, default=None)
    if skew is None:
        return
    message = f"{abs(skew):,.0f} s {'behind' if skew > 0 else 'ahead of'} the API"
    if abs(skew) > MAX_SKEW:
        yield Finding(
            Level.WARNING, "clock", message, hint="synchronize it, otherwise alerts on age are off by as much"
        )
    else:
        yield Finding(Level.OK, "clock", message if abs(skew) >= 1 else "agrees with the API")


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 or not number else f"{number:.1g}"
