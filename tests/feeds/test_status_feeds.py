from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.errors import (
    ApiError,
    BadPayload,
    BadRequest,
    EndpointNotFound,
    Forbidden,
    ResponseTooLarge,
)
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.feeds.status_feeds.posts import FIELDS, OVERDUE_SECONDS
from late_exporter.feeds.status_feeds.refresh import (
    MAX_TEXT_LENGTH,
    AccountList,
    AccountState,
    RefreshContext,
    Report,
    StatusRequest,
)
from late_exporter.feeds.status_feeds.webhooks import MAX_WEBHOOKS
from late_exporter.feeds.vocabulary import POST_STATUSES
from late_exporter.format import iso_time
from late_exporter.health import Condition
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import LatestValue, SetLatest
from tests.support.status_api import (
    ACCOUNT,
    BILLING,
    HEALTH,
    SECONDS,
    SECRETS,
    TIME,
    USAGE,
    WEBHOOK,
    Document,
    encode,
    post_list,
)

NOW = 1_795_608_000_000
Values: TypeAlias = dict[tuple[str, ...], float | str]
Respond: TypeAlias = Callable[[StatusRequest], Document | bytes | ApiError]


def context(**values: Any) -> RefreshContext:
    return RefreshContext(**{"workspace": "acme", "now": NOW, "max_accounts": 500, **values})


def run(name: str, respond: Respond, circumstances: RefreshContext) -> tuple[Sequence[Report], list[StatusRequest]]:
    """Run a refresh; return what it reports and the requests it sent."""
    refresh = STATUS_FEEDS[name].refresh(circumstances)
    request = next(refresh)
    requests = [request]
    try:
        while True:
            response = respond(request)
            if isinstance(response, ApiError):
                request = refresh.throw(response)
            else:
                request = refresh.send(response if isinstance(response, bytes) else encode(response))
            requests.append(request)
    except StopIteration as done:
        return done.value, requests


def conditions_of(reports: Sequence[Report]) -> list[Condition]:
    return [each for each in reports if isinstance(each, Condition)]


def values_of(reports: Sequence[Report], at: int = NOW) -> Values:
    """Return the values by family and labels without the workspace; every series occurs once and fits its family."""
    values: Values = {}
    for gauge in reports:
        if not isinstance(gauge, SetLatest):
            continue
        family = CATALOGUE[gauge.family]
        labels = gauge.labels if isinstance(gauge.value, float | int) else (*gauge.labels, *gauge.value)
        assert len(family.labels) == len(labels), gauge
        assert family.kind == "gauge"
        assert (gauge.at, labels[0]) == (at, "acme")
        name = gauge.family.removeprefix("late_").removesuffix("_timestamp_seconds")
        assert (name, *labels[1:]) not in values
        values[name, *labels[1:]] = gauge.value if isinstance(gauge.value, float | int) else 1
    return values


def report(
    name: str, answer: Respond | Document | bytes, at: int = NOW, **circumstances: Any
) -> tuple[Values, list[Condition]]:
    """Return the values and conditions of a feed, whose requests may all have the same response."""
    reports, _ = run(name, answer if callable(answer) else lambda _: answer, context(now=at, **circumstances))
    return values_of(reports, at), conditions_of(reports)


def account_reports(health: object, *listed: object, **circumstances: Any) -> tuple[Sequence[Report], AccountList]:
    """Return the reports about accounts with one health, of those that are listed, and the list among them."""
    documents: Mapping[str, Document] = {
        "/v1/accounts/health": {"accounts": [health]},
        "/v1/accounts": {"accounts": list(listed)},
    }
    reports, _ = run("accounts", lambda request: documents[request.path], context(**circumstances))
    (accounts,) = (each for each in reports if isinstance(each, AccountList))
    return reports, accounts


def accounts(health: object, *listed: object) -> tuple[Values, list[Condition]]:
    """Return the values and conditions of accounts with one health, of those that are listed."""
    reports, _ = account_reports(health, *listed)
    return values_of(reports), conditions_of(reports)


def respond_by_status(**documents: Document | ApiError) -> Respond:
    """Return a list of no posts for every status but some."""
    return lambda request: documents.get(str(request.params["status"]), post_list("", 0))


def test_posts() -> None:
    """Posts are counted by status, and the earliest scheduled and publishing ones give the timestamps."""
    documents = {status: post_list(status, number) for number, status in enumerate(POST_STATUSES, 1)}
    gauges, requests = run("posts", respond_by_status(**documents), context())
    expected: Values = {("posts", status): number for number, status in enumerate(POST_STATUSES, 1)}
    expected |= {(f"posts_oldest_{status}",): SECONDS for status in ("scheduled", "publishing", "pending_approval")}
    assert expected == values_of(gauges)
    one = {"sortBy": "scheduled-asc", "limit": 1}
    due_first = {"sortBy": "scheduled-asc", "limit": 500, "fields": FIELDS}
    due_last = {"sortBy": "scheduled-desc", "limit": 500, "fields": FIELDS}
    assert {str(request.params["status"]): dict(request.params) for request in requests} == {
        "draft": {"status": "draft", **one},
        "pending_approval": {"status": "pending_approval", **due_first},
        "scheduled": {"status": "scheduled", **due_first},
        "publishing": {"status": "publishing", **due_first},
        "published": {"status": "published", **one},
        "partial": {"status": "partial", **due_last},
        "failed": {"status": "failed", **due_last},
        "cancelled": {"status": "cancelled", **one},
    }
    assert len(requests) == len(POST_STATUSES)


EARLIER, LATER = "2026-11-25T11:00:00Z", "2026-11-25T16:00:00Z"


@pytest.mark.parametrize("targets", [None, [{"status": "pending"}]])
@pytest.mark.parametrize("status", OVERDUE_SECONDS)
def test_a_post_without_a_schedule(status: str, targets: object) -> None:
    """A post without a time is due since its creation, and hides no post that is due earlier."""
    first, second = (
        post_list(status, scheduledFor=None, createdAt=TIME, platforms=targets)["posts"][0],
        post_list(status, scheduledFor=EARLIER)["posts"][0],
    )
    for posts, due_at in (([first], SECONDS), ([first, second], SECONDS - 3600)):
        values, _ = report("posts", respond_by_status(**{status: {"posts": posts}}))
        assert values[f"posts_oldest_{status}",] == due_at


@pytest.mark.parametrize(
    ("hours", "targets"),
    [
        (0, [{"status": "pending"}]),
        (4, [{"status": "pending", "scheduledFor": LATER}]),
        (0, [{"status": "pending", "scheduledFor": LATER}, {"status": "processing"}]),
        (4, [{"status": "published"}, {"status": "pending", "scheduledFor": LATER}]),
        (None, [{"status": "published"}]),
    ],
)
def test_a_post_is_due_when_its_first_target_is(hours: float | None, targets: list[Document]) -> None:
    """A post is due at the earliest time of an account on which it still waits, which may have a time of its own."""
    values, _ = report("posts", respond_by_status(scheduled=post_list("scheduled", platforms=targets)))
    assert values.get(("posts_oldest_scheduled",)) == (None if hours is None else SECONDS + hours * 3600)


def test_large_pages_that_are_too_large() -> None:
    """If the response with 500 posts is too large, 100 are requested."""

    def respond(request: StatusRequest) -> Document | ApiError:
        is_large = request.params["limit"] == 500
        return ResponseTooLarge("too large") if is_large else post_list(str(request.params["status"]))

    gauges, requests = run("posts", respond, context())
    assert [request.params["limit"] for request in requests if request.params["limit"] != 1] == [500, 100] * 5
    assert len([name for name in values_of(gauges) if name[0] == "posts"]) == 8


ACCOUNTS = AccountList(
    {
        "ok": AccountState("x", "Anna"),
        "dead": AccountState("x", "Bert", "reconnect"),
        "blocked": AccountState("x", "Cleo", "blocked"),
        "cooling": AccountState("x", "Dora", "", SECONDS + 7200),
    },
    is_complete=True,
)


def at_risk(accounts: AccountList, *targets: Document) -> tuple[Values, list[Condition]]:
    """Return what is reported about the risk of a scheduled post with some targets on x."""
    rows = [{"platform": "x", **target} for target in targets]
    respond = respond_by_status(scheduled=post_list("scheduled", platforms=rows, scheduledFor=EARLIER))
    values, conditions = report("posts", respond, NOW - 7_200_000, accounts=accounts)
    at_risk = {name: value for name, value in values.items() if name[0] == "posts_at_risk"}
    return at_risk, [each for each in conditions if each.kind == "at_risk"]


@pytest.mark.parametrize(
    ("reason", "target"),
    [
        (None, {"accountId": "ok"}),
        ("reconnect", {"accountId": "dead"}),
        ("reconnect", {"accountId": {"_id": "dead", "username": "x"}}),
        (None, {"accountId": "dead", "status": "cancelled"}),
        (None, {"accountId": "dead", "scheduledFor": "2026-11-26T10:00:01Z"}),
        ("blocked", {"accountId": "blocked"}),
        ("cooldown", {"accountId": "cooling"}),
        (None, {"accountId": "cooling", "scheduledFor": "2026-11-25T14:00:00Z"}),
        ("disconnected", {"accountId": "gone"}),
        (None, {"accountId": None}),
    ],
)
def test_posts_at_risk(reason: str | None, target: Document) -> None:
    """A target that is due within a day counts if its account cannot post, or will not be able to by then.

    A cooldown is a condition of its own.
    """
    values, conditions = at_risk(ACCOUNTS, target)
    assert values == ({} if reason is None else {("posts_at_risk", "x", reason): 1})
    assert len(conditions) == (reason not in (None, "cooldown"))


def test_accounts_at_risk_are_named() -> None:
    """A condition has the account, how many posts wait for it, and the first."""
    targets = [{"accountId": "dead", "scheduledFor": LATER}, {"accountId": "dead"}, {"accountId": "gone"}]
    values, conditions = at_risk(ACCOUNTS, *targets)
    assert values == {("posts_at_risk", "x", "reconnect"): 2, ("posts_at_risk", "x", "disconnected"): 1}
    bert = "must be connected again, 2 posts, the first is p1 “text”"
    gone = "not connected any more, 1 post, the first is p1 “text”"
    assert conditions == [
        Condition("at_risk", "Bert (x)", SECONDS - 3600, "dead", bert),
        Condition("at_risk", "gone (x)", SECONDS - 3600, "gone", gone),
    ]


@pytest.mark.parametrize(
    ("expected", "count", "circumstances"),
    [(True, 1, {}), (False, 1, {"has_profile": True}), (False, 0, {}), (False, 3, {"max_accounts": 2})],
)
def test_only_a_complete_list_says_that_an_account_is_gone(
    expected: bool,  # noqa: FBT001 - a parameter of the test
    count: int,
    circumstances: dict[str, Any],
) -> None:
    """A list that is empty, cut, or that of one profile says nothing about other accounts."""
    rows = ({**ACCOUNT, "_id": f"a{number}"} for number in range(count))
    _, accounts = account_reports(None, *rows, **circumstances)
    assert accounts.is_complete is expected
    assert bool(at_risk(accounts, {"accountId": "gone"})[0]) is expected


REFUSED: Document = {
    "platform": "x",
    "accountId": "ok",
    "status": "failed",
    "errorMessage": "The video is too long",
    "errorCategory": "user_content",
}
DISCONNECTED: Document = {
    "platform": "x",
    "accountId": "dead",
    "status": "cancelled",
    "errorMessage": "Account was disconnected",
}
UNPUBLISHED: Document = {**DISCONNECTED, "platformPostUrl": "https://x.com/acme/1"}
FAILED_POSTS = "account_failed_posts"
LAST_FAILED_POST = "account_last_failed_post"


def failed_post(post_id: str, hours_ago: float | None, *targets: Document, **fields: Any) -> Document:
    """Return a post that was due some hours ago, or that has no time."""
    scheduled_for = None if hours_ago is None else iso_time(NOW - hours_ago * 3_600_000)
    return {"_id": post_id, "content": "text", "scheduledFor": scheduled_for, "platforms": list(targets), **fields}


def failures(
    failed: Sequence[Document], partial: Sequence[Document] = (), **circumstances: Any
) -> tuple[Values, list[Condition]]:
    """Return what is reported about posts that failed, and about posts that failed in part."""
    respond = respond_by_status(failed={"posts": failed}, partial={"posts": partial})
    values, conditions = report("posts", respond, accounts=ACCOUNTS, **circumstances)
    values = {name: value for name, value in values.items() if name[0] in (FAILED_POSTS, LAST_FAILED_POST)}
    return values, [each for each in conditions if each.kind == "failed_posts"]


@pytest.mark.parametrize(
    ("count", "target"),
    [
        (1, REFUSED),
        (1, {"platform": "x", "accountId": "ok", "status": "failed"}),
        (1, DISCONNECTED),
        (1, {"platform": "x", "accountId": "ok", "status": "cancelled", "errorCategory": "account_issue"}),
        (1, {"platform": "x", "accountId": "ok", "status": "cancelled", "platformError": {"code": 190}}),
        (1, {**DISCONNECTED, "platformPostUrl": ""}),
        (1, {**REFUSED, "platformPostUrl": "https://x.com/acme/1"}),
        (0, {"platform": "x", "accountId": "ok", "status": "cancelled"}),
        (0, UNPUBLISHED),
        (0, {**DISCONNECTED, "platformPostId": "17895695668004550"}),
        (0, {**REFUSED, "status": "published"}),
        (0, {**REFUSED, "status": "pending"}),
        (0, {**REFUSED, "status": None}),
    ],
)
@pytest.mark.parametrize("status", ["failed", "partial"])
def test_which_posts_failed(status: str, count: int, target: Document) -> None:
    """A target has failed, or was cancelled with an error; what somebody cancelled or unpublished has not."""
    values, conditions = failures(**{"failed": [], status: [failed_post("p1", 1, target)]})
    assert values.get((FAILED_POSTS, "x", target["accountId"]), 0) == count
    assert len(conditions) == count


def test_failed_posts_are_counted_by_account() -> None:
    """Each account has the number of its failed posts, and the due time of the newest, which is named."""
    other = {**REFUSED, "accountId": "gone", "errorMessage": None}
    values, conditions = failures(
        [failed_post("p1", 3, REFUSED), failed_post("p2", 5, REFUSED, DISCONNECTED), failed_post("p3", 9, other)],
        [failed_post("p4", 2, {**REFUSED, "status": "published"}, DISCONNECTED), failed_post("p5", 4, REFUSED)],
    )
    assert values == {
        (FAILED_POSTS, "x", "ok"): 3,
        (FAILED_POSTS, "x", "dead"): 2,
        (FAILED_POSTS, "x", "gone"): 1,
        (LAST_FAILED_POST, "x", "ok"): SECONDS - 3 * 3600,
        (LAST_FAILED_POST, "x", "dead"): SECONDS - 2 * 3600,
        (LAST_FAILED_POST, "x", "gone"): SECONDS - 9 * 3600,
    }
    anna = "3 posts, the last is p1 “text”: The video is too long"
    bert = "2 posts, the last is p4 “text”: Account was disconnected"
    gone = "1 post, the last is p3 “text”: user_content"
    assert conditions == [
        Condition("failed_posts", "Anna (x)", SECONDS - 3 * 3600, "ok", anna),
        Condition("failed_posts", "Bert (x)", SECONDS - 2 * 3600, "dead", bert),
        Condition("failed_posts", "gone (x)", SECONDS - 9 * 3600, "gone", gone),
    ]


@pytest.mark.parametrize(
    ("hours_ago", "post"),
    [
        (0, failed_post("p1", 0, REFUSED)),
        (23.9, failed_post("p1", 23.9, REFUSED)),
        (1, failed_post("p1", None, REFUSED, createdAt="2026-11-25T11:00:00Z")),
        (1, failed_post("p1", 30, {**REFUSED, "scheduledFor": "2026-11-25T11:00:00Z"})),
        (None, failed_post("p1", 24, REFUSED)),
        (None, failed_post("p1", 24, REFUSED, updatedAt=TIME)),
        (None, failed_post("p1", 1, {**REFUSED, "scheduledFor": "2026-11-24T11:00:00Z"})),
        (None, failed_post("p1", -1, REFUSED, updatedAt=TIME)),
        (None, failed_post("p1", None, REFUSED)),
        (None, failed_post("p1", None, REFUSED, updatedAt=TIME)),
    ],
)
def test_failed_posts_of_a_day(hours_ago: float | None, post: Document) -> None:
    """A failure is reported for a day since the post was due, or else created; an edit does not prolong that."""
    values, _ = failures([post])
    assert values.get((LAST_FAILED_POST, "x", "ok")) == (None if hours_ago is None else SECONDS - hours_ago * 3600)


def test_failed_posts_are_bounded() -> None:
    """The newest page of each status is read, and the accounts of the newest failures come first."""
    rows = [failed_post(f"p{number}", number / 100, {**REFUSED, "accountId": f"a{number}"}) for number in range(520)]
    page: Document = {"posts": rows, "pagination": {"total": 700}}
    respond = respond_by_status(failed=page, partial=page)
    values, conditions = report("posts", respond, max_accounts=500)
    assert values["posts", "failed"] == 700
    assert values[FAILED_POSTS, "x", "a499"] == 2
    assert (FAILED_POSTS, "x", "a500") not in values

    values, conditions = failures(rows, max_accounts=2)
    assert [name for name in values if name[0] == FAILED_POSTS] == [
        (FAILED_POSTS, "x", "a0"),
        (FAILED_POSTS, "x", "a1"),
    ]
    assert [each.subject for each in conditions] == ["a0", "a1"]


def test_a_long_error_of_a_failed_post_is_cut() -> None:
    """The text of a condition is bounded like the others."""
    _, (condition,) = failures([failed_post("p1", 1, {**REFUSED, "errorMessage": "x" * 1000})])
    assert len(condition.text) == MAX_TEXT_LENGTH


def test_overdue_posts() -> None:
    """The earliest post of a status is named as soon as its alert counts it as overdue."""
    targets = [{"platform": "tiktok", "accountId": "a1"}, {"platform": "x", "accountId": {"_id": "a2"}}, {}, 7]
    statuses = ("scheduled", "publishing", "pending_approval")
    documents = {status: post_list(status, platforms=targets) for status in (*statuses, "draft", "failed")}
    known = AccountList({"a1": AccountState("tiktok", "Frieda")})

    def overdue(seconds: int) -> list[Condition]:
        return report("posts", respond_by_status(**documents), NOW + seconds * 1000, accounts=known)[1]

    assert overdue(0) == []
    assert [post.kind for post in overdue(900)] == ["pending_approval"]
    assert [post.kind for post in overdue(901)] == ["scheduled", "pending_approval"]
    posts = overdue(7201)
    assert list(statuses) == [post.kind for post in posts]
    name = "p1 “text” for Frieda (tiktok), a2 (x)"
    assert Condition("scheduled", name, SECONDS, "p1") == posts[0]


def test_overdue_posts_are_counted() -> None:
    """Whether one post or the whole schedule is late is said with the earliest one."""
    late = [{"_id": f"p{number}", "scheduledFor": iso_time(NOW - 1000 * number)} for number in range(7)]
    respond = respond_by_status(scheduled={**post_list("scheduled"), "posts": late})
    _, (condition,) = report("posts", respond, NOW + 897_000)
    assert (condition.name, condition.text) == ("p6", "the first of 3")


def test_the_text_of_a_post_is_short() -> None:
    """Only the beginning of a text is kept, and no key in it; a title comes first."""

    def name(**fields: Any) -> str:
        respond = respond_by_status(scheduled=post_list("scheduled", **fields))
        _, (overdue,) = report("posts", respond, NOW + 10**9)
        return overdue.name

    assert name(content=f"sk_{'4f1d8c6b' * 8} {'🥨' * 10_000}") == f"p1 “*** {'🥨' * 35}…”"
    assert name(title="Brezeln") == "p1 “Brezeln”"


@pytest.mark.parametrize(
    ("answer", "error"), [(BadRequest("400: bad value", status=400), BadRequest), (post_list("draft"), BadPayload)]
)
def test_a_filter_that_does_not_work(answer: Document | ApiError, error: type[ApiError]) -> None:
    """A status that the API rejects or ignores fails the refresh."""
    with pytest.raises(error):
        run("posts", lambda _: answer, context())


def test_accounts() -> None:
    """The health of an account fills the gauges of accounts, and those that logs fill as well."""
    account = ("instagram", "acc1")
    expected = {
        ("account_health", *account, "warning"): 1,
        ("account_can_post", *account): 1,
        ("account_needs_reconnect", *account): 0,
        ("account_connected", *account): 1,
        ("account_token_expiry", *account): SECONDS,
        ("account_info", *account, "acme", "p1"): 1,
        ("account_cooldown_until", *account): SECONDS,
    }
    assert accounts(HEALTH, ACCOUNT) == (expected, [])
    values, conditions = accounts({**HEALTH, "needsReconnect": True})
    assert [values[name, *account] for name in ("account_needs_reconnect", "account_connected")] == [1, 0]
    assert conditions == [RECONNECT]


def test_a_wrong_row_costs_only_itself() -> None:
    """A wrong field costs only the series that come from it, and what is no account affects no other."""
    wrong = {**HEALTH, "canPost": "yes", "tokenExpiresAt": 7, "username": []}
    rows: list[object] = [None, 7, [HEALTH], {**HEALTH, "accountId": ""}, wrong, {**HEALTH, "accountId": "acc2"}]
    rows += [{"accountId": "acc3", "username": "\ud83d" * 9}]
    values, _ = report("accounts", lambda request: {"accounts": rows if "health" in request.path else []})
    names = {account: {name for name, _, each, *_ in values if each == account} for account in ("acc1", "acc2")}
    assert len(values) == 12 - 3 + 1
    assert names["acc2"] - names["acc1"] == {"account_can_post", "account_token_expiry", "account_info"}


RECONNECT = Condition("reconnect", "acme (instagram)", subject="acc1")
SUSPENDED = {"platformStatus": "suspended", "platformStatusReason": "Terms of use"}


def blocked(text: str) -> list[Condition]:
    return [Condition("blocked", "acme (instagram)", subject="acc1", text=text)]


@pytest.mark.parametrize(
    ("risk", "conditions", "health", "listed"),
    [
        ("", [], {}, {}),
        ("disconnected", [], {}, {"isActive": False}),
        ("reconnect", [RECONNECT], {"needsReconnect": True, "canPost": False}, {}),
        ("blocked", blocked("No scope; No page"), {"canPost": False, "issues": ["No scope", 7, "", "No page"]}, {}),
        ("blocked", blocked("Terms of use"), {"issues": []}, SUSPENDED),
        ("blocked", blocked(""), {"canPost": ..., "issues": ...}, {"platformStatus": "suspended"}),
        # Accounts that are switched off, or behind phone numbers, need no attention, and take no place of others.
        (None, [], {"canPost": False, "needsReconnect": True}, {"enabled": False}),
        (None, [], {"canPost": False, "platform": "sms"}, {"platform": "sms"}),
        (None, [], {"canPost": False, "platform": "phone"}, {"platform": "phone"}),
    ],
    ids=str,
)
def test_an_account_that_cannot_post(
    risk: str | None, conditions: list[Condition], health: Document, listed: Document
) -> None:
    """An account cannot publish for one reason, which is reported with what the API says."""
    row = {name: value for name, value in {**HEALTH, **health}.items() if value is not ...}
    reports, accounts = account_reports(row, {**ACCOUNT, **listed})
    assert (accounts.states["acc1"].risk, conditions_of(reports)) == (risk or "", conditions)
    expected = {None: None, "reconnect": 0, "blocked": 0}.get(risk, 1)
    assert values_of(reports).get(("account_can_post", "instagram", "acc1")) == expected
    assert bool(values_of(reports)) == (risk is not None)


def test_what_the_api_says_is_cut() -> None:
    """Conditions of many accounts take little memory."""
    (condition,) = accounts({**HEALTH, "canPost": False, "issues": ["x" * 150, "y" * 150]}, ACCOUNT)[1]
    assert len(condition.text) == MAX_TEXT_LENGTH == 200


def test_restricted_messages_and_stale_analytics() -> None:
    """Both are named with what the API says; analytics only if they may be why the health is a warning."""
    restriction = {"code": 131042, "message": "Payment issue", "firstSeenAt": TIME, "pausedUntil": None}
    stalled = {"analyticsSync": {"status": "never_synced"}, "messagingRestriction": restriction}
    values, conditions = accounts({**HEALTH, **stalled}, ACCOUNT)
    assert values["account_messaging_restricted", "instagram", "acc1"] == 1
    assert conditions == [
        Condition("messaging", "acme (instagram)", subject="acc1", text="131042: Payment issue"),
        Condition("analytics", "acme (instagram)", subject="acc1", text="never_synced"),
    ]
    for health in (
        {**HEALTH, "analyticsSync": {"status": "ok"}, "messagingRestriction": None},
        {**HEALTH, "status": "healthy", "analyticsSync": {"status": "failing"}},
    ):
        values, conditions = accounts(health, ACCOUNT)
        assert (("account_messaging_restricted", "instagram", "acc1") in values, conditions) == (False, [])


def test_accounts_for_ads() -> None:
    """An account for ads is watched although it is switched off, but nothing is ever posted to it."""
    health = {**HEALTH, "platform": "metaads", "canPost": False, "needsReconnect": True}
    values, conditions = accounts(health, {**ACCOUNT, "platform": "metaads", "enabled": False})
    assert values["account_needs_reconnect", "metaads", "acc1"] == 1
    assert ("account_can_post", "metaads", "acc1") not in values
    assert conditions == [Condition("reconnect", "acme (metaads)", subject="acc1")]
    values, conditions = accounts({**health, "needsReconnect": False}, ACCOUNT)
    assert (values["account_connected", "metaads", "acc1"], conditions) == (1, [])


def test_cooldowns_are_reported_until_they_end() -> None:
    """A cooldown whose end has passed is shown as a time, and needs no attention."""
    for seconds, kinds in ((-1, ["cooldown"]), (0, []), (1, [])):
        _, conditions = report("accounts", {"accounts": [ACCOUNT]}, NOW + seconds * 1000)
        assert [each.kind for each in conditions] == kinds


@pytest.mark.parametrize(
    ("days_left", "known_days", "is_reported"),
    [
        (13.9, 0, True),
        (0.9, 0, False),  # A short token is renewed by the API.
        (0.9, 1.1, True),
        (-1, 1.1, True),
    ],
)
def test_expiring_tokens(days_left: float, known_days: float, is_reported: bool) -> None:  # noqa: FBT001
    """A token is reported two weeks before its expiry, unless it is one of those that live for hours."""
    day = 86_400_000
    now = NOW - int(days_left * day)
    series = "late_account_token_expiry_timestamp_seconds", ("acme", "instagram", "acc1")
    previous = {series: LatestValue(now - int(known_days * day), SECONDS)}
    document = {"accounts": [{**HEALTH, "_id": "acc1"}]}
    reports, _ = run("accounts", lambda _: document, context(now=now, previous=previous))
    expected = [Condition("token", "acme (instagram)", SECONDS, "acc1")] if is_reported else []
    assert conditions_of(reports) == expected


@pytest.mark.parametrize(
    ("count", "max_accounts", "requests", "cooldowns"),
    [(0, 500, 1, 0), (500, 500, 1, 500), (501, 1000, 2, 501), (1950, 1000, 2, 1000)],
)
def test_cooldowns_of_all_pages(count: int, max_accounts: int, requests: int, cooldowns: int) -> None:
    """The list is read by its cursors, up to the maximum number of accounts."""

    def respond(request: StatusRequest) -> Document | ApiError:
        if "limit" not in request.params:
            return {"accounts": []}
        limit, first = int(request.params["limit"]), int(request.params.get("cursor", 0))
        rows = [{**ACCOUNT, "_id": f"acc{number}"} for number in range(first, min(first + limit, count))]
        cursor = str(first + limit) if first + limit < count else None
        return {"accounts": rows, "pagination": {"limit": limit, "nextCursor": cursor}}

    reports, sent_requests = run("accounts", respond, context(max_accounts=max_accounts))
    values = values_of(reports)
    assert sum(name == "account_cooldown_until" for name, *_ in values) == cooldowns
    assert len(sent_requests) == requests + 1


def test_an_api_with_smaller_pages_of_accounts() -> None:
    """An API that rejects pages of 500 accounts, as until October 2026, is asked for 100; another 400 is an error."""

    def respond(request: StatusRequest, largest: int = 100) -> Document | ApiError:
        if int(request.params.get("limit", 0)) > largest:
            return BadRequest("400: limit", status=400)
        return {"accounts": [{**ACCOUNT, "_id": "acc1"}]}

    reports, requests = run("accounts", respond, context())
    assert [request.params["limit"] for request in requests if "limit" in request.params] == [500, 100]
    assert "account_cooldown_until" in {name for name, *_ in values_of(reports)}
    with pytest.raises(BadRequest, match="limit"):
        run("accounts", partial(respond, largest=99), context())


@pytest.mark.parametrize(("active", "conditions"), [(True, []), (False, [Condition("webhook", "orders")])])
def test_webhooks(active: bool, conditions: list[Condition]) -> None:  # noqa: FBT001 - a parameter of the test
    """A webhook that the API has switched off needs attention."""
    values = {
        ("webhook_active", "orders"): active,
        ("webhook_consecutive_failures", "orders"): 3,
        ("webhook_last_fired", "orders"): SECONDS,
    }
    assert report("webhooks", {"webhooks": [{**WEBHOOK, "isActive": active}]}) == (values, conditions)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["orders", "orders", "mail"], {"orders (1)", "orders (2)", "mail"}),
        (["https://user:topsecret@hooks.example.org/in/urlsecret?token=headersecret"], {"hooks.example.org"}),
        (["", None], {"1", "2"}),
    ],
)
def test_names_of_webhooks(names: list[str | None], labels: set[str]) -> None:
    """Labels have ids if names are missing or the same; the label of a URL is its host: the rest may be a secret."""
    rows = [{**WEBHOOK, "name": name, "_id": str(number)} for number, name in enumerate(names, 1)]
    for ordered in (rows, rows[::-1]):
        assert {label for _, label in report("webhooks", {"webhooks": ordered})[0]} == labels


@pytest.mark.parametrize(("minutes", "expected"), [(59, []), (60, ["webhook_failing"])])
def test_a_webhook_that_fails_for_an_hour(minutes: int, expected: list[str]) -> None:
    """The first refresh with three failures in a row begins the hour, however many follow."""
    first, _ = run("webhooks", lambda _: {"webhooks": [WEBHOOK]}, context())
    previous = {
        (each.family, each.labels): LatestValue(each.at, each.value) for each in first if isinstance(each, SetLatest)
    }
    later = NOW + minutes * 60_000
    more = {"webhooks": [{**WEBHOOK, "isActive": True, "failureCount": 9}]}
    reports, _ = run("webhooks", lambda _: more, context(now=later, previous=previous))
    assert [each.kind for each in conditions_of(reports)] == expected


@pytest.mark.parametrize(("used", "kind"), [(89, "plan"), (90, "limit"), (99, "limit"), (100, "used_up")])
def test_used_up_uploads(used: int, kind: str) -> None:
    """Only a plan without uploads left refuses posts."""
    usage = {"usage": {"uploads": used}, "limits": {"uploads": 100}}
    _, conditions = report("billing", usage)
    assert [each.kind for each in conditions] == [kind]


def test_only_so_many_webhooks() -> None:
    """The number of webhooks is bounded like at the vendor."""
    rows = [{**WEBHOOK, "name": f"n{number}"} for number in range(MAX_WEBHOOKS + 9)]
    assert len(report("webhooks", {"webhooks": rows})[0]) == 3 * MAX_WEBHOOKS


def test_no_secret_of_a_webhook_leaves_the_decoder() -> None:
    """Address, secret and headers of a webhook are in no gauge and in no error, whatever is wrong with the response."""
    whole = encode({"webhooks": [{"name": "", **WEBHOOK}]})
    for size in range(len(whole) + 1):
        try:
            text = repr(run("webhooks", lambda _: whole[:size], context())[0])  # noqa: B023 - called at once
        except BadPayload as exc:
            text = f"{exc!r} {exc.__cause__!r} {exc.__suppress_context__}"
            assert "True" in text
        assert not any(secret in text for secret in SECRETS)


UNPAID = {"hasAccess": False, "suspensionReason": "unpaid"}
DECLINED = {"hasAccess": False, "declineReason": "stolen", "openInvoiceUrl": "https://invoice.example/secret"}


@pytest.mark.parametrize(
    ("status", "active", "reasons"),
    [
        ({"hasAccess": True, "suspended": False}, 1, []),
        ({"hasAccess": True, "suspended": True}, 0, [""]),
        (UNPAID, 0, ["unpaid"]),
        (DECLINED, 0, ["stolen"]),
        ({"suspended": False}, None, []),
    ],
)
def test_the_plan(status: object, active: int | None, reasons: list[str]) -> None:
    """A plan is active if it has access and is not suspended, else the reason is named, without an address."""
    values, conditions = report("billing", {"status": status})
    assert values.get(("workspace_active",)) == active
    assert conditions == [Condition("inactive", reason) for reason in reasons]


def test_shares_of_the_plan() -> None:
    """The share of what the plan includes or limits, of which nine tenths are near; without a limit there is none."""
    document = {
        "caps": {"xSpendUsedCents": 1500, "xSpendLimitCents": 1000},
        "limits": {"uploads": 120, "profiles": 10},
        "usage": {"uploads": 114, "profiles": 2},
    }
    values, conditions = report("billing", document)
    shares = {("spend", "x"): 1.5, ("usage", "uploads"): 0.95, ("usage", "profiles"): 0.2}
    assert values == {(f"workspace_{name}_ratio", kind): value for (name, kind), value in shares.items()}
    kinds = {each.name: each.kind for each in conditions}
    assert {"95% of the uploads": "limit", "20% of the profiles": "plan"}.items() <= kinds.items()
    unlimited = {"caps": {"xSpendUsedCents": 10, "xSpendLimitCents": 0}, "limits": {"uploads": -1, "profiles": "10"}}
    assert report("billing", {**document, **unlimited})[0] == {}


@pytest.mark.parametrize(
    ("balance", "cents", "kind"),
    [(1234, 1234, "plan"), (0, 0, "balance"), (-5, -5, "balance"), ("7", None, None), (True, None, None)],
)
def test_the_balance(balance: object, cents: float | None, kind: str | None) -> None:
    """What can be spent may be negative; one that the API does not send is no empty one."""
    values, conditions = report("billing", {"balance": {"spendableCents": balance}})
    assert values.get(("workspace_balance_cents",)) == cents
    assert [each.kind for each in conditions] == [kind] * (kind is not None)


@pytest.mark.parametrize("error", [EndpointNotFound("404", status=404), Forbidden("403")])
@pytest.mark.parametrize(
    ("path", "document", "ratio"), [("/v1/usage", USAGE, "usage"), ("/v1/billing", BILLING, "spend")]
)
def test_usage_and_billing_do_without_each_other(error: ApiError, path: str, document: Document, ratio: str) -> None:
    """An account without billing may have a usage, and the other way round; without both the feed fails."""
    values, _ = report("billing", lambda request: document if request.path == path else error)
    assert {name for name, *_ in values} == {"workspace_active", f"workspace_{ratio}_ratio"}
    with pytest.raises(type(error)):
        run("billing", lambda _: error, context())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", STATUS_FEEDS)
def test_a_response_that_is_no_object(name: str, body: bytes) -> None:
    with pytest.raises(BadPayload):
        report(name, body)


@pytest.mark.parametrize("value", [..., None, 7, "text", {}], ids=repr)
@pytest.mark.parametrize("name", ["accounts", "webhooks"])
def test_a_response_without_its_list(name: str, value: object) -> None:
    """A list that is missing is a failed refresh; otherwise everything would vanish without a word."""
    with pytest.raises(BadPayload, match=f"no list of {name}"):
        report(name, {} if value is ... else {name: value})
    with pytest.raises(BadPayload, match="neither posts"):
        report("posts", {"error": "oops"})


OBJECTS = (HEALTH, ACCOUNT, WEBHOOK, BILLING, BILLING["status"], BILLING["caps"], USAGE, USAGE["usage"], SUSPENDED)
OTHER_NAMES = (
    "posts accounts webhooks pagination total pages nextCursor scheduledFor createdAt title content platforms enabled"
    " balance spendableCents"
)
NAMES = sorted({*chain.from_iterable(OBJECTS), *OTHER_NAMES.split()})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([TIME, "orders", "a://b?c"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(NAMES), children, max_size=6),
    max_leaves=40,
)


@given(json_values)
def test_no_response_is_more_than_a_bad_payload(document: object) -> None:
    """Whatever the API responds with, a refresh gives valid gauges or fails as a bad payload."""
    for name in STATUS_FEEDS:
        circumstances = context(max_accounts=250)
        try:
            gauges, requests = run(name, lambda _: encode(document), circumstances)
        except BadPayload:
            continue
        assert len(requests) <= 2 * len(POST_STATUSES)
        assert all(isinstance(value, int | float) and value < float("inf") for value in values_of(gauges).values())
