"""The history of one post: every attempt, and how it ended on each platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from late_exporter.commands.logview import LogView, chronological, is_post_id, mentions, moment, parse_page, post_path
from late_exporter.commands.pager import DAY, LogPager
from late_exporter.commands.terminal import Column, TableFormatter, Terminal, clean, duration, explanation, json_line
from late_exporter.errors import ConfigError, LateError
from late_exporter.model import PENDING, Feed
from late_exporter.protocols import Client

__all__ = ["PostOutcome", "post_outcomes", "print_history"]

LIMIT = 100
"""Logs of a post; the most the API gives."""

SEARCH_LIMIT = 1000
"""Logs that a search brings and that are looked at, where a post's logs have to be searched for."""

CAPTION = 72
ATTEMPTS = ("publish", "retry")
FAILED, SUCCESS, SKIPPED = "failed", "success", "skipped"
PAUSE = "rate_limit_pause"

COLUMNS = (
    Column("TIME", lambda log: log.time),
    Column("STATUS", lambda log: log.status, is_status=True),
    Column("PLATFORM", lambda log: log.platform),
    Column("ACCOUNT", lambda log: log.username or log.account_id),
    Column("ACTION", lambda log: log.action),
    Column("TRY", lambda log: "" if log.attempt is None else str(log.attempt), align_right=True),
    Column("HTTP", lambda log: log.status_code, align_right=True),
    Column("TOOK", duration, align_right=True),
    Column("LOG", lambda log: log.log_id),
    Column("DETAIL", explanation),
)


class PostOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a post ended on one account of a platform.

    Args:
        account: Name or id; empty where the post has only one of the platform.
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or the status of the
            newest log where that is none of these.
        attempts: How often it was tried.
        reason: Error code, HTTP status or error text of what failed last.
        since: When the newest log was created.
    """

    platform: str
    account: str
    state: str
    attempts: int
    reason: str
    url: str
    since: str
    summary: str


class PostHistory(NamedTuple):
    """The logs of a post, oldest first, and in words what of them is missing."""

    logs: Sequence[LogView]
    missing: str


class Destination(NamedTuple):
    """Where a post goes: one account of a platform."""

    platform: str
    account: str


async def print_history(
    client: Client,
    feed: Feed,
    post_id: str,
    *,
    workspace: str,
    form: str,
    screen: Terminal,
    write: Callable[[str], None],
    clock: Callable[[], float],
) -> None:
    """Write the timeline of a post and how it ended; raises LateError where there is no such post.

    Args:
        client: Of the workspace.
        feed: The publishing logs.
        post_id: As metrics' exemplars and Late have it.
        workspace: Whose post it is.
        form: ``text`` or ``json``.
        screen: Where text is shown.
        write: Takes a line.
        clock: Unix time, if the API does not tell its own.
    """
    if not is_post_id(post_id):
        raise ConfigError("POST_ID: can be no id of a post")
    story = await (
        _fetch_history(client, feed, post_id) if feed.post_path else _search_history(client, feed, post_id, clock)
    )
    days = feed.retention // DAY
    if story is None:
        raise LateError(
            f"the workspace {workspace} has no logs of a post {post_id}; Late keeps them for {days} days, or the post "
            "is another workspace's"
        )
    lines = _text(post_id, story, screen, days) if form == "text" else _json(post_id, workspace, story)
    for line in lines:
        write(line)


async def _fetch_history(client: Client, feed: Feed, post_id: str) -> PostHistory | None:
    """What the API has under the post's id."""
    answer = await client.get(post_path(feed, post_id) or "", {"limit": LIMIT}, path_template=feed.post_path or "")
    if answer is None:
        return None
    logs = chronological(parse_page(answer.body, feed).logs)
    full = f"Late tells the newest {LIMIT} logs of a post; what was before them is missing here."
    return PostHistory(logs, full if len(logs) >= LIMIT else "")


async def _search_history(client: Client, feed: Feed, post_id: str, clock: Callable[[], float]) -> PostHistory | None:
    """What a search finds, which may find a post's id in the texts of others, too."""
    found: list[LogView] = []
    met, missing = 0, ""
    query: dict[str, str | int] = {"search": post_id, "days": feed.retention // DAY}
    async for logs in LogPager(client, feed, query, feed.retention / 1000, clock=clock).pages():
        met += len(logs)
        found += (log for log in logs if mentions(log, post_id))
        if met >= SEARCH_LIMIT:
            missing = f"Only the newest {met:,} logs that a search for the post finds were looked at."
            break
    return PostHistory(chronological(found), missing) if found else None


def _json(post_id: str, workspace: str, story: PostHistory) -> Iterator[str]:
    yield json_line(
        {
            "postId": post_id,
            "workspace": workspace,
            "complete": not story.missing,
            "outcomes": [msgspec.to_builtins(ending) for ending in post_outcomes(story.logs)],
            "logs": [log.row for log in story.logs],
        }
    )


def _text(post_id: str, story: PostHistory, screen: Terminal, days: int) -> Iterator[str]:
    logs = story.logs
    caption = clean(next((log.caption for log in logs if log.caption), ""))
    caption = caption if len(caption) <= CAPTION else f"{caption[: CAPTION - 3]}..."
    yield f"Post {clean(post_id)}" + (f': "{caption}"' if caption else "")
    yield ""
    if story.missing:
        yield story.missing
        yield ""
    if not logs:
        yield f"No logs; Late keeps them for {days} days."
        return
    yield from TableFormatter(COLUMNS, screen).lines(logs)
    yield ""
    for ending in post_outcomes(logs):
        who = f"{ending.platform} {ending.account}".rstrip()
        yield f"{clean(who)}: {screen.coloured(clean(ending.summary), ending.state)}"


def post_outcomes(logs: Sequence[LogView]) -> list[PostOutcome]:
    """How the post whose logs these are, oldest first, ended on each platform and account."""
    sides: dict[Destination, list[LogView]] = {}
    for log, side in zip(logs, _destinations(logs), strict=True):
        sides.setdefault(side, []).append(log)
    several = [side.platform for side in sides]
    return [
        _outcome(side.platform, side.account if several.count(side.platform) > 1 else "", sides[side])
        for side in sorted(sides)
    ]


def _destinations(logs: Sequence[LogView]) -> Iterator[Destination]:
    """Where each log belongs; some name an account by its id, some by its name, and some not at all."""
    names = {(log.platform, log.account_id): log.username for log in logs if log.username}
    known: dict[str, set[str]] = {}
    for log in logs:
        known.setdefault(log.platform, set()).add(_account(log, names))
    for log in logs:
        named = known[log.platform] - {""}
        only = next(iter(named)) if len(named) == 1 else ""
        yield Destination(log.platform, _account(log, names) or only)


def _account(log: LogView, names: dict[tuple[str, str], str]) -> str:
    return log.username or names.get((log.platform, log.account_id), log.account_id)


def _outcome(platform: str, account: str, logs: Sequence[LogView]) -> PostOutcome:
    """What the newest logs say; what was published stays so, whatever was tried afterwards."""
    newest = logs[-1]
    tried = [log for log in logs if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING)]
    attempts = max([len(tried), *(log.attempt or 0 for log in tried)])
    failed = [log for log in logs if log.status == FAILED]
    reason = _reason(failed[-1]) if failed else ""
    published = next((at for at in reversed(range(len(logs))) if _publishes(logs[at])), None)
    if published is not None:
        later = any(log.action in ATTEMPTS and log.status == FAILED for log in logs[published + 1 :])
        state, words = "published", " ".join(filter(None, ("published", logs[published].url)))
        words += f", then failed{_in_parentheses(reason)}" if later else ""
    else:
        state, words = _unpublished(newest, attempts, reason)
    return PostOutcome(
        platform=platform,
        account=account,
        state=state,
        attempts=attempts,
        reason=reason,
        url="" if published is None else logs[published].url,
        since="" if newest.created is None else moment(newest.created, precise=True),
        summary=words,
    )


def _unpublished(newest: LogView, attempts: int, reason: str) -> tuple[str, str]:
    """State and words of a post that has not come through."""
    since = f" since {newest.time}" if newest.time else ""
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    after = f" after {tries}" if attempts else ""
    if newest.action == PAUSE:
        return "paused", f"paused{since}{after}{_in_parentheses(reason)}"
    if newest.status == PENDING:
        return PENDING, f"pending{since}"
    if newest.action == "cancelled":
        return "cancelled", f"cancelled{since.replace(' since', ' at')}"
    if newest.status == FAILED and newest.action in ATTEMPTS:
        return FAILED, f"failed{after}{_in_parentheses(reason)}"
    if newest.status in (FAILED, SKIPPED):
        where = "" if newest.action in ATTEMPTS else f" at {newest.action}"
        return newest.status, f"{newest.status}{where}{_in_parentheses(_reason(newest))}"
    return newest.status, f"not published yet: {newest.action} {newest.status}"


def _publishes(log: LogView) -> bool:
    return log.action in ATTEMPTS and log.status == SUCCESS


def _reason(log: LogView) -> str:
    return log.error_code or (f"HTTP {log.status_code}" if log.status_code else "") or log.error


def _in_parentheses(reason: str) -> str:
    return f" ({reason})" if reason else ""
