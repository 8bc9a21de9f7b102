"""The landing page: how every workspace and feed is doing, problems first, as HTML without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from html import escape
from importlib.resources import files
from itertools import pairwise
from urllib.parse import quote

from late_exporter.status import AccountHealth, FeedHealth, PlatformHealth, PollHealth, Quota, WorkspaceHealth

__all__ = ["STYLE", "FeedStatus", "feed_state", "problem_text", "render_page", "single_line", "summarize"]

REFRESH_SECONDS = 15
ERROR_LENGTH = 300
INDEX_FROM = 5
"""With this many workspaces the page begins with an index of them."""

PLATFORMS_SHOWN = 20
ACCOUNTS_SHOWN = 5
NAME_LENGTH = 40

STYLE = files("late_exporter.web").joinpath("landing.css").read_text("utf-8")

SYMBOLS = """<svg hidden>
<symbol id="ok" viewBox="0 0 16 16"><path d="m3 8.5 3.5 3.5L13 4.5"/></symbol>
<symbol id="busy" viewBox="0 0 16 16"><path d="M8 2.5A5.5 5.5 0 1 1 2.5 8"/></symbol>
<symbol id="bad" viewBox="0 0 16 16"><path d="M8 2.5v6.5M8 13v.2"/></symbol>
<symbol id="idle" viewBox="0 0 16 16"><path d="M3 8h.01M8 8h.01M13 8h.01"/></symbol>
</svg>"""

PURPOSE = f"""<footer><h2>What is this?</h2>
<p>late-exporter reads the publishing and connection logs of the Late API, counts every log exactly once and offers the
counts to Prometheus. A card is one API key; a feed is one list of logs that is polled for it. This page reads itself
again every {REFRESH_SECONDS} s; point at a time to see it in UTC.</p>
<p><b>Lag</b> is the time from a log&rsquo;s creation to its being counted. <b>Pending</b> logs have no final status
yet. <b>Published</b> and <b>failed</b> count publish and retry logs; the <b>share</b> is that of the failed among all
with a final status. <b>Gaps</b> are stretches still to be read, after an interruption say. From <b>coverage since</b>
on, every log is counted.</p></footer>"""

COLUMNS = """<th scope="col">Platform<th scope="col">Published<th scope="col">Failed<th scope="col">Share
<td class="bar"><th scope="col" class="waiting">Pending<th scope="col" class="last">Last log"""

POLL_COLUMNS = """<th scope="col">Poll<th scope="col">Outcome<th scope="col">Requests<th scope="col">New logs
<th scope="col">Took"""

FAVICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'>"
    "<circle cx='4' cy='4' r='3.5' fill='{}'/></svg>"
)
FAVICON_COLOURS = {"ok": "%2316a068", "busy": "%233b76f0", "bad": "%23dc3d32", "idle": "%238a94a3"}

SCARCE = 0.1
"""Below this share of the quota its meter turns red."""

LEAST_SHARE = 0.0005
"""A share below this would round to none."""

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

OUTCOMES = {
    "unauthorized": "The API refused the key.",
    "rate_limited": "The API asked to wait.",
    "unavailable": "The API gave no usable answer.",
    "bad_payload": "The API's answer was not a list of logs.",
    "store_error": "The state could not be read or written.",
}


class FeedStatus(Enum):
    """How a feed is doing, the worst first: the tone of its colour and icon, and its name."""

    FAILING = ("bad", "Failing")
    SYNCING = ("busy", "First sync")
    CATCHING_UP = ("busy", "Catching up")
    WAITING = ("idle", "Waiting for first poll")
    OK = ("ok", "OK")

    def __init__(self, tone: str, words: str) -> None:
        self.tone = tone
        self.label = words


RANK = {state: rank for rank, state in enumerate(FeedStatus)}

PREDICATES = {
    FeedStatus.FAILING: ("has a problem", "have a problem"),
    FeedStatus.CATCHING_UP: ("is catching up", "are catching up"),
    FeedStatus.WAITING: ("is waiting for the first poll", "are waiting for the first poll"),
    FeedStatus.OK: ("is polled and up to date", "are polled and up to date"),
}


def feed_state(feed: FeedHealth) -> FeedStatus:
    """What the health of a feed amounts to."""
    if feed.outcome not in {None, "success"}:
        return FeedStatus.FAILING
    if not feed.is_synced and (feed.outcome or feed.logs):
        return FeedStatus.SYNCING
    if feed.outcome is None:
        return FeedStatus.WAITING
    return FeedStatus.CATCHING_UP if feed.gaps else FeedStatus.OK


def problem_text(feed: FeedHealth) -> str:
    """What went wrong with the last poll in words, empty where nothing did."""
    if feed.error or feed.outcome in {None, "success"}:
        return single_line(feed.error)
    return OUTCOMES.get(str(feed.outcome), f"The last poll ended as {feed.outcome}.")


def summarize(states: Sequence[FeedStatus]) -> tuple[str, str]:
    """The tone and the one sentence at the top of the page."""
    if not states:
        return FeedStatus.WAITING.tone, "No feed is configured"
    worst = min(states, key=RANK.__getitem__)
    some, total = states.count(worst), len(states)
    if worst is FeedStatus.SYNCING:
        return worst.tone, "First sync under way" + (f" in {some:,} of {total:,} feeds" if some < total else "")
    subject = f"{some:,} of {total:,} feeds"
    if some == total:
        subject = {1: "The feed", 2: "Both feeds"}.get(total, f"All {total:,} feeds")
    return worst.tone, f"{subject} {PREDICATES[worst][some > 1]}"


def render_page(
    workspaces: Sequence[WorkspaceHealth], *, now: float, version: str, telemetry_path: str, documentation: str
) -> str:
    """The whole page; ``now`` is Unix seconds, ``documentation`` a URL or empty."""
    tone, sentence = summarize([feed_state(feed) for workspace in workspaces for feed in workspace.feeds])
    ordered = sorted(enumerate(workspaces), key=lambda numbered: RANK[_worst(numbered[1])])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{sentence} - late-exporter</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<link rel="icon" href="{FAVICON.format(FAVICON_COLOURS[tone])}"><style>{STYLE}</style></head>
<body>{SYMBOLS}
<div class="top"><h1>late-exporter<small>{escape(version)}</small></h1>{_links(telemetry_path, documentation)}</div>
<main><div class="verdict {tone}">{_icon(tone)}<div><p>{sentence}</p><p>{_census(workspaces, now)}</p></div></div>
{_index(ordered)}<div class="cards">
{"".join(_card(number, workspace, now) for number, workspace in ordered)}</div></main>
{PURPOSE}</body></html>
"""


def single_line(text: str, length: int = ERROR_LENGTH) -> str:
    """A stranger's text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _worst(workspace: WorkspaceHealth) -> FeedStatus:
    return min(map(feed_state, workspace.feeds), key=RANK.__getitem__, default=FeedStatus.WAITING)


def _links(telemetry_path: str, documentation: str) -> str:
    # Relative, so that they also hold behind a proxy that serves the page under a prefix.
    paths = (telemetry_path, "/-/healthy", "/-/ready")
    links = [f'<a href=".{escape(quote(path))}">{escape(path)}</a>' for path in paths]
    if documentation:
        links.append(f'<a href="{escape(documentation)}">Docs</a>')
    return f'<nav aria-label="Pages">{"".join(links)}</nav>'


def _census(workspaces: Sequence[WorkspaceHealth], now: float) -> str:
    feeds = [feed for workspace in workspaces for feed in workspace.feeds]
    counts = (
        _count(len(workspaces), "workspace"),
        _count(len(feeds), "feed"),
        _count(sum(feed.logs for feed in feeds), "log") + " held",
        f"{sum(feed.pending for feed in feeds):,} pending",
        f"as of {_utc(now)[11:]}",
    )
    return " · ".join(counts)


def _index(ordered: Sequence[tuple[int, WorkspaceHealth]]) -> str:
    if len(ordered) < INDEX_FROM:
        return ""
    entries = (
        f'<li><a class="{state.tone}" href="#w{number}" title="{state.label}">{_icon(state.tone)}'
        f"<bdi>{escape(single_line(workspace.name, NAME_LENGTH))}</bdi></a></li>"
        for number, workspace in ordered
        for state in [_worst(workspace)]
    )
    return f'<nav aria-label="Workspaces"><ul class="index">{"".join(entries)}</ul></nav>'


def _card(number: int, workspace: WorkspaceHealth, now: float) -> str:
    host = workspace.base_url.partition("://")[2].partition("/")[0].rpartition("@")[2] or workspace.base_url
    where = f"{host}, generation {workspace.generation}"
    return f"""<article class="card" id="w{number}" aria-labelledby="n{number}">
<header><div><h2 id="n{number}"><bdi>{escape(workspace.name)}</bdi></h2><p class="soft">{escape(where)}</p></div>
{_quota(workspace.quota, now)}</header>
{"".join(_feed(feed, now) for feed in workspace.feeds)}{_publishing(number, workspace, now)}</article>
"""


def _quota(quota: Quota | None, now: float) -> str:
    if quota is None:
        return '<p class="quota soft">Quota not known yet</p>'
    share = min(max(quota.remaining / max(quota.limit, 1), 0), 1)
    tone = "bad" if share < SCARCE else "busy"
    verb = "resets" if quota.reset > now else "reset"
    return (
        f'<div class="quota {tone}"><p><span><b>{quota.remaining:,}</b> of {quota.limit:,} requests left</span>'
        f'<span class="soft">{verb} {_when(quota.reset, now)}</span></p>'
        f'<svg aria-hidden="true"><rect width="{share:.1%}" height="6" rx="3"/></svg></div>'
    )


def _feed(feed: FeedHealth, now: float) -> str:
    state = feed_state(feed)
    error = problem_text(feed)
    alarm = f'<p class="error bad">{escape(error)}</p>' if error else ""
    return f"""<section class="feed"><div><h3><bdi>{escape(feed.name)}</bdi></h3>
<span class="pill {state.tone}">{_icon(state.tone)}{state.label}</span></div>{alarm}<dl>
{"".join(f"<div><dt>{term}</dt><dd>{fact}</dd></div>" for term, fact in _facts(feed, now))}</dl>
{_polls(feed, now)}</section>
"""


def _facts(feed: FeedHealth, now: float) -> Iterator[tuple[str, str]]:
    took = "" if feed.duration is None else f"<small>took {_duration(feed.duration)}</small>"
    yield "Last poll", _when(feed.last_poll, now) + took
    yield "Last success", _when(feed.last_success, now)
    yield "Next poll", _due(feed.next_poll, now)
    yield "Lag", "&ndash;" if feed.lag is None else _duration(feed.lag)
    yield "Logs held", f"{feed.logs:,}"
    yield "Pending", f"{feed.pending:,}"
    yield "Gaps to read", f"{feed.gaps:,}"
    yield "Coverage since", _since(feed.coverage_start, now)


def _polls(feed: FeedHealth, now: float) -> str:
    """The last polls, folded away while all is well, and the last errors but the one that stands above."""
    if not feed.recent_polls:
        return ""
    earlier = [poll for poll in feed.recent_failures if poll.started_at < feed.recent_polls[0].started_at]
    errors = "".join(f"<li>{_when(poll.started_at, now)}: {escape(_failure(poll))}</li>" for poll in earlier)
    before = f'<p class="soft">Last errors</p><ul class="soft">{errors}</ul>' if errors else ""
    return f"""<details{" open" if feed_state(feed) is FeedStatus.FAILING else ""}><summary>Recent polls</summary>
<table class="polls"><thead><tr>{POLL_COLUMNS}<tbody>{"".join(_poll(poll, now) for poll in feed.recent_polls)}</table>{before}
</details>"""


def _poll(poll: PollHealth, now: float) -> str:
    outcome = escape(poll.outcome)
    if poll.outcome != "success":
        outcome = f'<span class="bad" title="{escape(_failure(poll))}">{outcome}</span>'
    logs = f"{poll.logs:,}" if poll.logs else '<span class="nil">0</span>'
    return (
        f'<tr><th scope="row">{_when(poll.started_at, now)}<td>{outcome}<td>{poll.requests:,}<td>{logs}'
        f"<td>{_duration(poll.duration)}\n"
    )


def _failure(poll: PollHealth) -> str:
    return single_line(poll.error) or OUTCOMES.get(poll.outcome, poll.outcome)


def _publishing(number: int, workspace: WorkspaceHealth, now: float) -> str:
    if not workspace.platforms:
        return ""
    ordered = sorted(workspace.platforms, key=lambda platform: (-_share(platform), -platform.failed, platform.name))
    hidden = len(ordered) - PLATFORMS_SHOWN
    rest = f'<p class="soft">and {_count(hidden, "more platform")}</p>' if hidden > 0 else ""
    since = min(platform.counted_since for platform in ordered)
    return f"""<section class="feed"><div><h3 id="p{number}">Publishing by platform</h3>
<span class="soft">counted since <span title="{_utc(since)}">{_utc(since)[:10]}</span></span></div>
<table aria-labelledby="p{number}"><thead><tr>{COLUMNS}<tbody>
{"".join(_platform(platform, now) for platform in ordered[:PLATFORMS_SHOWN])}</table>{rest}
{_failing(workspace.failing_accounts)}</section>
"""


def _platform(platform: PlatformHealth, now: float) -> str:
    failed, bar = '<td class="nil">0<td class="nil">0%', ""
    if platform.failed:
        share = _share(platform)
        failed = f"<td>{platform.failed:,}<td>{_percent(share)}"
        bar = f'<svg aria-hidden="true"><rect width="{share:.1%}" height="4" rx="2"/></svg>'
    return (
        f'<tr><th scope="row"><bdi>{escape(single_line(platform.name, NAME_LENGTH))}</bdi><td>{platform.published:,}{failed}'
        f'<td class="bar">{bar}<td class="waiting{"" if platform.pending else " nil"}">{platform.pending:,}'
        f'<td class="last">{_last(platform.last_log, now)}\n'
    )


def _last(at: float | None, now: float) -> str:
    return "&ndash;" if at is None else _when(at, now, rough=True)


def _share(platform: PlatformHealth) -> float:
    return platform.failed / max(platform.final, 1)


def _percent(share: float) -> str:
    return "&lt;0.1%" if share < LEAST_SHARE else f"{share:.1%}"


def _failing(accounts: Sequence[AccountHealth]) -> str:
    if not accounts:
        return ""
    names = [_account(account) for account in accounts[:ACCOUNTS_SHOWN]]
    if len(accounts) > ACCOUNTS_SHOWN:
        names.append(f"and {len(accounts) - ACCOUNTS_SHOWN:,} more")
    whose = "its" if len(accounts) == 1 else "their"
    return (
        f'<p class="failing bad">{_icon("bad")}<span><b>{_count(len(accounts), "account")} failed {whose} '
        f"last publish:</b> {', '.join(names)}</span></p>"
    )


def _account(account: AccountHealth) -> str:
    name = escape(single_line(account.username or account.account_id, NAME_LENGTH))
    times = f", {account.consecutive_failures:,}&nbsp;in&nbsp;a&nbsp;row" if account.consecutive_failures > 1 else ""
    return f"<bdi>{name}</bdi> (<bdi>{escape(single_line(account.platform, NAME_LENGTH))}</bdi>{times})"


def _due(at: float | None, now: float) -> str:
    if at is None:
        return "&ndash;"
    return _when(at, now) if at > now else f"due {_when(at, now)}"


def _since(at: float | None, now: float) -> str:
    if at is None:
        return "not yet"
    return f'<span title="{_utc(at)}">{_utc(at)[:10]}</span><small>{_relative(at - now)}</small>'


def _when(at: float | None, now: float, *, rough: bool = False) -> str:
    return "never" if at is None else f'<span title="{_utc(at)}">{_relative(at - now, rough=rough)}</span>'


def _relative(seconds: float, *, rough: bool = False) -> str:
    if abs(seconds) < 1:
        return "now"
    words = _duration(abs(seconds) // 1, rough=rough)
    return f"in {words}" if seconds > 0 else f"{words} ago"


def _duration(seconds: float, *, rough: bool = False) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for (size, unit), (part, rest) in pairwise(UNITS):
        if seconds >= size:
            more = 0 if rough else seconds % size // part
            return f"{seconds // size:,.0f} {unit}" + (f" {more:.0f} {rest}" if more else "")
    return f"{seconds:.2g} s"


def _utc(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OSError, OverflowError, ValueError):
        return "unknown"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _icon(tone: str) -> str:
    return f'<svg aria-hidden="true"><use href="#{tone}"/></svg>'
