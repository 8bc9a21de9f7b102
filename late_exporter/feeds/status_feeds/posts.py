"""Posts, ``GET /v1/posts``: how many there are, what is overdue, and what cannot be published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from late_exporter.errors import BadPayload, ResponseTooLarge
from late_exporter.feeds.status_feeds.refresh import (
    MAX_ID_LENGTH,
    MAX_TEXT_LENGTH,
    AccountList,
    Fields,
    Refresh,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
    account_name,
    parse_response,
    shorten,
)
from late_exporter.feeds.vocabulary import POST_STATUSES
from late_exporter.format import plural
from late_exporter.health import Condition
from late_exporter.model import FAILED, UNKNOWN
from late_exporter.thresholds import (
    APPROVAL_OVERDUE_SECONDS,
    DAY,
    POST_STUCK_SECONDS,
    POSTS_OVERDUE_SECONDS,
)

OVERDUE_SECONDS = MappingProxyType(
    {
        "scheduled": POSTS_OVERDUE_SECONDS,
        "publishing": POST_STUCK_SECONDS,
        "pending_approval": APPROVAL_OVERDUE_SECONDS,
    }
)
"""Statuses of unfinished posts, and the seconds after which such a post is overdue."""

FAILED_STATUSES = ("failed", "partial")
"""Statuses of posts that failed on all of their accounts, or on some."""

LARGE_PAGE = 500
SMALL_PAGE = 100
"""Posts per page, and what is requested if their response is too large."""

FIELDS = "status,title,content,scheduledFor,createdAt,updatedAt,platforms"
"""The fields of a post that are read, beside the id."""

DUE_FIRST = "scheduled-asc"
DUE_LAST = "scheduled-desc"
"""Orders of posts."""

ENDED = frozenset({"published", "failed", "cancelled"})
"""Statuses in which a post stays on an account. A retry never resets a cancelled one."""

FAILED_SECONDS = DAY
"""Time since a post was due for which its failure is reported."""

RISK_SECONDS = DAY
"""Time in which a post is due that is reported as at risk."""

RISKS = MappingProxyType(
    {
        "disconnected": "not connected any more",
        "reconnect": "must be connected again",
        "blocked": "cannot post",
    }
)
"""Reasons why a post cannot be published to its account, in words."""

MAX_TARGETS = 100
"""Accounts of a post that are read."""

MAX_NAMED_TARGETS = 5
"""Accounts of a post that are named."""


class PostTarget(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A post on one of its accounts; times are in Unix seconds.

    Args:
        username: Name of the account; empty if the post has only its id.
        scheduled_for: Its own time, or else that of the post.
        due_at: The same, or else the creation of the post.
        error_code: Category of the error.
        error_source: Who has to solve it: user, platform or system.
        platform_code: Code and subcode of the platform.
        was_published: Whether the platform gave it an address or an id, now or before.
    """

    platform: str = UNKNOWN
    account_id: str = UNKNOWN
    username: str = ""
    status: str = ""
    scheduled_for: float | None = None
    due_at: float | None = None
    error: str = ""
    error_code: str = ""
    error_source: str = ""
    platform_code: str = ""
    was_published: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether the post failed on this account for good.

        Zernio cancels a target with an error if its account is disconnected. A target that a person
        has unpublished is cancelled, too, and may keep the error of an earlier attempt.
        """
        if self.status == "cancelled":
            has_error = bool(self.error or self.error_code or self.platform_code)
            return has_error and not self.was_published
        return self.status == FAILED


class ListedPost(msgspec.Struct, frozen=True, kw_only=True):
    """A post; times are in Unix seconds.

    Args:
        caption: Title, or else the text; empty if it has neither.
        due_at: Time for which it is scheduled, or else its creation.
        updated_at: Time of its last change.
    """

    id: str
    status: str
    caption: str
    due_at: float | None
    updated_at: float | None
    targets: tuple[PostTarget, ...]

    @property
    def waiting_targets(self) -> list[PostTarget]:
        """The accounts on which it is still to be published; one without a name if it has none."""
        if not self.targets:
            return [PostTarget(due_at=self.due_at)]
        return [target for target in self.targets if target.status not in ENDED]

    @property
    def first_due(self) -> float | None:
        """When the post is due on the first account on which it waits; None if on none."""
        times = [each.due_at for each in self.waiting_targets if each.due_at is not None]
        return min(times, default=None)


class PostPage(msgspec.Struct, frozen=True):
    """The posts of a status that are due first or last, and how many there are in all."""

    posts: Sequence[ListedPost]
    total: float | None


ReadPosts: TypeAlias = Generator[StatusRequest, bytes, PostPage]


def refresh(context: RefreshContext) -> Refresh:
    reports: list[Report] = []
    failed_posts: list[ListedPost] = []
    for status in POST_STATUSES:
        if status in OVERDUE_SECONDS:
            page = yield from read_posts(status)
        elif status in FAILED_STATUSES:
            page = yield from read_posts(status, DUE_LAST)
            failed_posts += page.posts
        else:
            page = _parse_page((yield _posts_request(status, DUE_FIRST, limit=1)))
        if page.posts and page.posts[0].status not in (status, ""):
            raise BadPayload("the API does not filter posts by status")
        reports += context.gauges({"late_posts": page.total}, status)
        reports += _due_reports(context, status, page.posts)
        if status == "scheduled":
            reports += _risk_reports(context, page.posts)
    reports += _failure_reports(context, failed_posts)
    return reports


def read_posts(status: str, sort: str = DUE_FIRST) -> ReadPosts:
    """Return the first posts of a status, as in POST_STATUSES, in some order."""
    try:
        body = yield _posts_request(status, sort, limit=LARGE_PAGE, fields=FIELDS)
    except ResponseTooLarge:
        body = yield _posts_request(status, sort, limit=SMALL_PAGE, fields=FIELDS)
    return _parse_page(body)


def _posts_request(status: str, sort: str, **params: str | int) -> StatusRequest:
    return StatusRequest("/v1/posts", {"status": status, "sortBy": sort, **params})


def _parse_page(body: bytes) -> PostPage:
    response = parse_response(body)
    if "posts" not in response and "pagination" not in response:
        raise BadPayload("the response has neither posts nor their number")
    posts = [_parse_post(row) for row in islice(response.objects("posts"), LARGE_PAGE)]
    return PostPage(posts, response.object("pagination").amount("total"))


def _parse_post(row: Fields) -> ListedPost:
    scheduled_for = row.time("scheduledFor")
    created_at = row.time("createdAt")
    targets = islice(row.objects("platforms"), MAX_TARGETS)
    return ListedPost(
        id=row.text("_id") or UNKNOWN,
        status=row.text("status") or "",
        caption=row.long_text("title") or row.long_text("content"),
        due_at=created_at if scheduled_for is None else scheduled_for,
        updated_at=row.time("updatedAt"),
        targets=tuple(_parse_target(target, scheduled_for, created_at) for target in targets),
    )


def _parse_target(
    row: Fields, post_scheduled_for: float | None, created_at: float | None
) -> PostTarget:
    scheduled_for = row.time("scheduledFor")
    if scheduled_for is None:
        scheduled_for = post_scheduled_for
    # TikTok's address is empty for hours.
    published_as = row.text("platformPostUrl") or row.text("platformPostId")
    platform_error = row.object("platformError")
    codes = (platform_error.code("code"), platform_error.code("subcode"))
    return PostTarget(
        platform=row.text("platform") or UNKNOWN,
        account_id=row.id("accountId") or UNKNOWN,
        username=row.object("accountId").text("username") or "",
        status=row.text("status") or "",
        scheduled_for=scheduled_for,
        due_at=created_at if scheduled_for is None else scheduled_for,
        error=row.long_text("errorMessage") or platform_error.long_text("message"),
        error_code=row.text("errorCategory") or "",
        error_source=row.text("errorSource") or "",
        platform_code="/".join(code for code in codes if code),
        was_published=published_as is not None,
    )


def _due_reports(
    context: RefreshContext, status: str, posts: Sequence[ListedPost]
) -> Iterator[Report]:
    """Yield when the earliest post is due, and the post itself if it is overdue."""
    if status not in OVERDUE_SECONDS:
        return
    due_posts = [(post.first_due, post) for post in posts if post.first_due is not None]
    if not due_posts:
        return
    first_due, first = min(due_posts, key=itemgetter(0))
    yield context.gauge(f"late_posts_oldest_{status}_timestamp_seconds", first_due)

    latest = context.seconds - OVERDUE_SECONDS[status]
    count = sum(due < latest for due, _ in due_posts)
    if count:
        text = f"the first of {count:,}" if count > 1 else ""
        name = _post_name(context, first)
        yield Condition(status, name, first_due, first.id[:MAX_ID_LENGTH], text)


def _post_name(context: RefreshContext, post: ListedPost) -> str:
    name = _short_name(post)
    targets = [target for target in post.waiting_targets if target.account_id != UNKNOWN]
    targets = targets[:MAX_NAMED_TARGETS]
    if targets:
        name += f" for {', '.join(_target_name(context, target) for target in targets)}"
    return name


def _short_name(post: ListedPost) -> str:
    post_id = post.id[:MAX_ID_LENGTH]
    return f"{post_id} “{shorten(post.caption)}”" if post.caption else post_id


def _target_name(context: RefreshContext, target: PostTarget) -> str:
    state = context.accounts.states.get(target.account_id)
    if state is not None:
        return state.name
    # The API does not list an account that is gone.
    username = target.username or context.logged_username(target.platform, target.account_id)
    return account_name(target.platform, username or target.account_id)


def _risk_reports(context: RefreshContext, posts: Sequence[ListedPost]) -> Iterator[Report]:
    """Yield how many targets cannot be published now, and the lost accounts that they wait for."""
    counts = Counter[tuple[str, str]]()
    by_account: dict[tuple[str, str], list[tuple[float, ListedPost, PostTarget]]] = {}
    for post in posts:
        for target in post.waiting_targets:
            reason = find_risk(target, context.accounts, context.seconds)
            if reason and target.due_at is not None:
                counts[target.platform, reason] += 1
                waiting = by_account.setdefault((target.account_id, reason), [])
                waiting.append((target.due_at, post, target))

    for labels, count in counts.items():
        yield context.gauge("late_posts_at_risk", count, *labels)
    for (account_id, reason), waiting in by_account.items():
        if reason == "cooldown":
            continue  # The accounts feed reports it.
        due_at, post, target = min(waiting, key=itemgetter(0))
        text = f"{RISKS[reason]}, {plural(len(waiting), 'post')}, the first is {_short_name(post)}"
        name = _target_name(context, target)
        yield Condition("at_risk", name, due_at, account_id[:MAX_ID_LENGTH], text)


def find_risk(target: PostTarget, accounts: AccountList, now: float) -> str:
    """Return why a target that is due soon cannot be published, as in RISKS.

    It is empty if it can be, if it is due later, or if that is unknown. ``now`` is in Unix seconds.
    """
    due_at = target.due_at
    if due_at is None or due_at > now + RISK_SECONDS:
        return ""
    state = accounts.states.get(target.account_id)
    if state is None:
        is_gone = accounts.is_complete and target.account_id != UNKNOWN
        return "disconnected" if is_gone else ""
    if state.risk:
        return state.risk
    is_cooling_down = state.cooldown_until > now
    return "cooldown" if is_cooling_down and due_at < state.cooldown_until else ""


def _failure_reports(context: RefreshContext, posts: Sequence[ListedPost]) -> Iterator[Report]:
    """Yield how many posts failed on each account within a day, and the newest of them.

    Their due times do not change when somebody edits a post, so that an alert can tell by the
    newest one whether a further post failed.
    """
    since = context.seconds - FAILED_SECONDS
    by_account: dict[tuple[str, str], list[tuple[float, ListedPost, PostTarget]]] = {}
    for post in posts:
        for target in post.targets:
            due_at = target.due_at
            if due_at is None or not since < due_at <= context.seconds:
                continue
            if target.has_failed:
                failures = by_account.setdefault((target.platform, target.account_id), [])
                failures.append((due_at, post, target))

    for account, failures in islice(by_account.items(), context.max_accounts):
        due_at, post, target = max(failures, key=itemgetter(0))
        yield context.gauge("late_account_failed_posts", len(failures), *account)
        yield context.gauge("late_account_last_failed_post_timestamp_seconds", due_at, *account)
        text = f"{plural(len(failures), 'post')}, the last is {_short_name(post)}"
        error = target.error or target.error_code
        if error:
            text += f": {error}"
        name = _target_name(context, target)
        subject = target.account_id[:MAX_ID_LENGTH]
        yield Condition("failed_posts", name, due_at, subject, text[:MAX_TEXT_LENGTH])


FEED = StatusFeed(name="posts", refresh=refresh, max_requests=len(POST_STATUSES), has_profiles=True)
