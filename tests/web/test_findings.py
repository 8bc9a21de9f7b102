"""What is wrong in the workspaces, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from late_exporter.commands.assets import runbooks
from late_exporter.health import (
    ClusterHealth,
    Condition,
    Failure,
    FeedHealth,
    RecentCounts,
    StatusFeedHealth,
    WorkspaceHealth,
    WorkspaceStatus,
)
from late_exporter.thresholds import DAY
from late_exporter.web.findings import COOLDOWN, KINDS, problems_in, working_parts
from tests.web.pages import (
    NOW,
    account,
    document,
    feed,
    outage,
    platform,
    reporting,
    workspace,
)

SYNCING = feed(is_synced=False)
WAITING = feed(is_synced=False, outcome=None)


def lines(*workspaces: WorkspaceHealth) -> list[tuple[str, str]]:
    """Return tone and line of what is found, without how polling is if it is well."""
    found = document(*workspaces).findings
    return [(each.tone, each.line) for each in found if (each.kind, each.tone) != ("feed", "ok")]


def working(*workspaces: WorkspaceHealth) -> list[tuple[str, str]]:
    """Return tone and sentence of what works."""
    status = document(*workspaces)
    return [(each.tone, status.sentence(each)) for each in working_parts(status)]


def places(*workspaces: WorkspaceHealth) -> list[str]:
    """Return what the findings say about which workspaces."""
    status = document(*workspaces)
    return [f"{status.place(each)}: {each.text}" for each in problems_in(status.findings)]


def test_workspaces_with_one_cause_share_a_finding() -> None:
    """What has one cause in many workspaces is one finding; what each has on its own is not joined."""
    dead = [
        workspace(f"w{number}", feed(outcome="unavailable", error=f"no connection (request id {number})"))
        for number in range(3)
    ]
    outages = [workspace(f"x{number}", platforms=(outage(),)) for number in range(2)]
    early = [workspace(f"z{number}", clock_offset=3600 - number) for number in range(2)]
    own = [reporting(Condition("reconnect", f"a{number}"), name=f"y{number}") for number in range(2)]
    assert places(*dead, *outages, *early, *own) == [
        "2 of 9 workspaces: most attempts on instagram fail",
        "3 of 9 workspaces: no connection",
        "2 of 9 workspaces: the clock of this host is 1 h ahead of the API",
        "y0: 1 account must be connected again",
        "y1: 1 account must be connected again",
    ]
    (joined,) = [each for each in document(*dead).findings if each.kind == "feed"]
    assert (joined.workspaces, joined.workspace_count) == (("w0", "w1", "w2"), 3)
    assert document(*dead).command(joined) == "late-exporter check", "of all workspaces"


def test_a_rejected_key_has_its_own_next_step() -> None:
    """Who sees that a key was rejected is told to make a new one."""
    (found,) = document(workspace("a", feed(outcome="unauthorized", error="401: no"))).findings
    assert (found.kind, found.text) == ("key", "401: no")
    assert "Make a new read-only key at https://zernio.com/dashboard/api-keys" in found.wording.step


def test_an_account_is_named_once_for_one_cause() -> None:
    """Its lost connection is not said again beside its posts at risk, nor its token beside its lost connection."""
    conditions = [
        Condition("at_risk", "a", NOW + 7200, "a1", "must be connected again, 2 posts"),
        Condition("reconnect", "a", subject="a1"),
        Condition("token", "a", NOW - 60, "a1"),
        Condition("reconnect", "b", subject="b1"),
        Condition("token", "b", NOW - 60, "b1"),
        Condition("token", "c", NOW - 60, "c1"),
    ]
    assert [line for _, line in lines(reporting(*conditions))] == [
        "1 account cannot publish what is due within 24 h: a: must be connected again, 2 posts, due in 2 h",
        "1 account must be connected again: b",
        "1 token must be renewed: c, expiry 1 min ago",
    ]


def test_an_account_that_fails_for_a_known_reason_is_not_named_again() -> None:
    """Failures in a row are not said beside the outage of the platform, nor beside the account's own trouble."""
    accounts = (account(failures=9), account(failures=9, on="tiktok"))
    (down,) = lines(workspace(platforms=(outage(),), failing_accounts=accounts[:1]))
    assert down == ("bad", "19 of 22 attempts on instagram failed in the last hour")
    lost = reporting(Condition("reconnect", "@acme", subject="a1"))
    assert lines(replace(lost, failing_accounts=accounts)) == [("warn", "1 account must be connected again: @acme")]
    other = workspace(platforms=(outage(),), failing_accounts=accounts[1:])
    assert lines(other)[1] == ("warn", "1 account failed 5 times or more in a row: @acme (tiktok)")


def test_an_overdue_post_is_as_severe_as_its_alert() -> None:
    """It is critical after an hour only if no other attempt has ended since."""
    late = reporting(Condition("scheduled", "p", NOW - 7200))
    publishing = platform(published=9, recent=RecentCounts(0, 9, is_failing=False))
    tones = [lines(replace(late, platforms=platforms))[0][0] for platforms in ((), (publishing,))]
    assert tones == ["bad", "warn"]


def test_every_problem_has_a_runbook_and_a_next_step() -> None:
    """The exporter serves the runbook of each kind of problems, and says what to do or which command shows more."""
    kinds = {name: kind for name, kind in KINDS.items() if kind.tone != "ok"}
    assert {kind.runbook for kind in kinds.values()} <= runbooks().keys()
    assert [name for name, kind in kinds.items() if not (kind.step or kind.command)] == []


def test_a_failed_reload() -> None:
    """It is a finding about the exporter, not about a workspace."""
    status = document(workspace("a"), workspace("b"), reload_error="late.yml:4: no\nduration")
    (found,) = problems_in(status.findings)
    text = "The last reload failed, and the configuration before is in force: late.yml:4: no duration"
    assert (found.tone, status.sentence(found)) == ("warn", text)


def test_the_oldest_comes_first() -> None:
    """Of the conditions of a kind the oldest decides the sentence and the first names, whatever the API's order."""
    posts = [Condition("scheduled", f"p{hours}", NOW - 3600 * hours) for hours in (2, 9, 3, 1, 8, 7)]
    assert lines(reporting(*posts)) == [
        ("bad", "a post that was due 9 h ago is still scheduled: p9, p8, p7, p3, p2 and 1 more"),
    ]


def test_the_age_of_the_plan() -> None:
    """What is said about the plan is as old as the last answer about it."""
    status = WorkspaceStatus(
        feeds=(StatusFeedHealth(name="billing", is_up=True, last_success=NOW - 2400),),
        conditions=(Condition("inactive"), Condition("plan", "40% of the uploads"), Condition("webhook", "w")),
    )
    assert [line for _, line in lines(workspace(status=status))] == [
        "the plan is suspended or gives no access (as of 40 min ago)",
        "1 webhook switched off: w",
        "the plan (as of 40 min ago): 40% of the uploads",
    ]


def test_a_list_that_is_not_written_to_any_more() -> None:
    """The feeds are named, and the option that reads the other list."""
    outdated = workspace("acme", feed(), feed("connections", is_outdated=True))
    ((tone, line),) = lines(outdated)
    assert tone == "warn"
    assert line.endswith("restart with --api.generation zernio: connections")


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (60.0, []),
        (3600.0, [("warn", "the clock of this host is 1 h ahead of the API")]),
        (-119.0, [("warn", "the clock of this host is 2 min behind the API")]),
    ],
)
def test_a_wrong_clock(offset: float, expected: list[tuple[str, str]]) -> None:
    """It is a finding, and makes no post overdue that is due soon by the clock of the API."""
    status = WorkspaceStatus(conditions=(Condition("token", "b (x)", NOW - offset + 7.01 * DAY),))
    found = lines(workspace(status=status, clock_offset=offset))
    assert [each for each in found if each[0] == "warn"] == expected


def test_what_status_feeds_report() -> None:
    """Everything that needs attention is a finding, worst first."""
    conditions = [
        Condition("plan", "40% of the uploads"),
        Condition("plan", "12.34 USD left to spend"),
        Condition("token", "b (x)", NOW + 9 * DAY, "b1"),
        Condition("webhook", "orders"),
        Condition("webhook", "alerts"),
        Condition("cooldown", "a1 (instagram)", NOW + 600),
        Condition("cooldown", "a2 (instagram)", NOW - 600),
        Condition("blocked", "Dora (x)", text="No\nscope"),
        *(Condition("reconnect", f"a{number} (tiktok)") for number in range(3)),
        Condition("pending_approval", "p4", NOW - 400),
        Condition("publishing", "p3", NOW - 9000),
        Condition("scheduled", "p1 “Frische Brezeln” for acme (x)", NOW - 3000),
        Condition("limit", "100% of the profiles"),
        Condition("balance", "-0.05 USD left to spend"),
        Condition("inactive", "unpaid_invoice"),
        Condition("at_risk", "@acme (x)", NOW + 7200, "a1", "must be connected again, 2 posts, the first is p1"),
        Condition("messaging", "Wanda (whatsapp)", text="131042: Payment issue"),
        Condition("analytics", "Otto (x)", text="stalled"),
        Condition("unknown to this version"),
    ]
    at_risk = "@acme (x): must be connected again, 2 posts, the first is p1, due in 2 h"
    assert lines(reporting(*conditions)) == [
        ("bad", "the plan is suspended or gives no access: unpaid_invoice"),
        ("bad", f"1 account cannot publish what is due within 24 h: {at_risk}"),
        ("warn", "a post that was due 50 min ago is still scheduled: p1 “Frische Brezeln” for acme (x)"),
        ("warn", "a post that was due 2 h ago is still publishing: p3"),
        ("warn", "a post that was due 6 min ago is still pending approval: p4"),
        ("warn", "1 account cannot post: Dora (x): No scope"),
        ("warn", "3 accounts must be connected again: a0 (tiktok), a1 (tiktok), a2 (tiktok)"),
        ("warn", "messages of 1 account are restricted by the platform: Wanda (whatsapp): 131042: Payment issue"),
        ("warn", "pay-per-use has stopped: -0.05 USD left to spend"),
        ("warn", "little or nothing is left of the plan: 100% of the profiles"),
        ("warn", "2 webhooks switched off: orders, alerts"),
        ("ok", "1 token must be renewed: b (x), expiry in 9 d"),
        ("ok", f"1 account {COOLDOWN}: a1 (instagram), which ends in 10 min"),
        ("ok", "analytics of 1 account are not up to date; posts are not affected: Otto (x): stalled"),
        ("ok", "the plan: 40% of the uploads, 12.34 USD left to spend"),
    ]


@pytest.mark.parametrize(
    ("found", "values"),
    [
        ([], {"recent": RecentCounts(2, 3)}),
        ([("warn", "2 of 2 attempts on tiktok failed in the last hour")], {"recent": RecentCounts(2, 2)}),
        ([], {"recent": RecentCounts(4, 30), "oldest_pending": NOW - 7199}),
        ([("bad", "3 of 3 attempts on tiktok failed in the last hour")], {"recent": RecentCounts(3, 3)}),
        (
            [("bad", "19 of 22 attempts on tiktok failed in the last hour")],
            {"recent": RecentCounts(19, 22, is_failing=True)},
        ),
        (
            [("warn", "a post on tiktok has been pending for 3 h: p1")],
            {"oldest_pending": NOW - 3 * 3600, "oldest_post": "p1"},
        ),
    ],
)
def test_platforms(found: list[tuple[str, str]], values: dict[str, Any]) -> None:
    """Failures of the last hour and stuck posts are findings, however many logs are older."""
    assert lines(workspace(platforms=(platform("tiktok", 90_000, **values),))) == found


@pytest.mark.parametrize(
    ("sentence", "recent"),
    [("4 of 30", RecentCounts(4, 30)), ("0 of 30", RecentCounts(0, 30)), ("", RecentCounts())],
)
def test_publishing_works(sentence: str, recent: RecentCounts) -> None:
    """If something was published, and nothing is wrong, that is said."""
    large = workspace(platforms=(platform(recent=recent),), daily_attempts=51)
    texts = [text for _, text in working(large)]
    assert (f"Publishing works: {sentence} attempts failed" in texts) == bool(sentence)
    assert len(texts) == 1 + bool(sentence)


def failure(account_id: str = "a1", age: float = 600.0) -> Failure:
    """Return a failure of an account of some seconds ago."""
    return Failure(
        key=account_id,
        time=NOW - age,
        platform="instagram",
        account_id=account_id,
        username="@acme",
        post_id="p1",
        error="MEDIA_UPLOAD_FAILED: too large",
    )


UNHEALED = (
    "warn",
    "the last attempt of 1 account failed: @acme (instagram): post p1, MEDIA_UPLOAD_FAILED: too large",
)


def test_the_only_post_of_a_small_workspace_failed() -> None:
    """Its post and its error are said once, and nothing is green beside them."""
    only = platform("instagram", 0, 1, recent=RecentCounts(1, 1))
    small = workspace(platforms=(only,), unhealed_failures=(failure(),))
    assert lines(small) == [UNHEALED]
    assert "Publishing works" not in str(working(small))


def test_a_healed_retry_is_no_problem() -> None:
    """Whoever published after two failures has nothing to do."""
    healed = platform("instagram", 1, 2, recent=RecentCounts(2, 3))
    sentence = "Publishing works: 2 of 3 attempts failed, and each account has published since"
    assert lines(workspace(platforms=(healed,))) == []
    assert ("ok", sentence) in working(workspace(platforms=(healed,)))


def test_a_failed_attempt_beside_published_ones() -> None:
    """Another account that published heals nothing."""
    mixed = platform("instagram", 2, 1, recent=RecentCounts(1, 3))
    assert lines(workspace(platforms=(mixed,), unhealed_failures=(failure(),))) == [UNHEALED]


def test_an_old_failure_is_left_to_the_list_of_posts() -> None:
    """Once the posts are read, they decide what is still to be done about a failure of hours ago."""
    old = failure(age=2 * 3600)
    posts = WorkspaceStatus(feeds=(StatusFeedHealth(name="posts", is_up=True),))
    assert lines(workspace(unhealed_failures=(old,))) == [UNHEALED]
    assert lines(workspace(unhealed_failures=(old,), status=posts)) == []


@pytest.mark.parametrize(("daily_attempts", "tone"), [(50, "warn"), (51, "ok")])
def test_failed_posts(daily_attempts: int, tone: str) -> None:
    """They are a problem of a small workspace; in a larger one shares decide."""
    reported = Condition("failed_posts", "@acme (instagram)", NOW - 7200, "a1", "1 post: no")
    few = replace(reporting(reported), unhealed_failures=(failure(),), daily_attempts=daily_attempts)
    text = "posts of 1 account failed, and were not published since"
    assert lines(few) == [(tone, f"{text}: @acme (instagram): 1 post: no, due 2 h ago")]


@pytest.mark.parametrize(("age", "expected"), [(3600, 1), (2 * DAY, 0)])
def test_a_platform_on_which_nothing_is_published(age: float, expected: int) -> None:
    """Three failed posts in a row are critical at any volume, for a day."""
    silent = platform("x", 0, 3, consecutive_failures=3, last_failure=NOW - age)
    found = lines(workspace(platforms=(silent,)))
    assert found == [("bad", "the last 3 posts on x failed")] * expected


def test_nothing_was_published() -> None:
    """It is one finding if all attempts of an hour failed, on whichever platforms."""
    platforms = (
        platform("x", 0, 1, recent=RecentCounts(1, 1)),
        platform("tiktok", 0, 2, recent=RecentCounts(2, 2)),
    )
    expected = [("bad", "3 of 3 attempts on x, tiktok failed in the last hour")]
    assert lines(workspace(platforms=platforms)) == expected


def test_a_budget_that_is_soon_used_up() -> None:
    """Failures of many accounts on platforms that do not fail as a whole are critical."""
    burning = RecentCounts(40, 100, is_failing=True)
    found = lines(workspace(other_attempts=burning, daily_attempts=2400))
    assert found == [("bad", "40 of 100 attempts failed in the last hour")]


def test_a_platform_that_is_down_in_small_workspaces() -> None:
    """It is one finding with the runbook of its alert, although each has few attempts."""
    small = platform("x", 0, 7, recent=RecentCounts(7, 7))
    status = document(*(workspace(f"w{number}", platforms=(small,)) for number in range(3)))
    (found,) = problems_in(status.findings)
    assert status.sentence(found) == "3 of 3 workspaces: most attempts on x fail"
    assert status.runbook(found) == "LatePlatformDown"


@pytest.mark.parametrize(("count", "runbook"), [(2, "LatePollStale"), (3, "LateManyWorkspaces")])
def test_the_runbook_of_many_workspaces(count: int, runbook: str) -> None:
    """Page and alert name one runbook for one cause in many workspaces."""
    dead = [workspace(f"w{number}", feed(outcome="unavailable", error="gone")) for number in range(count)]
    status = document(*dead)
    assert status.runbook(status.findings[0]) == runbook


def test_a_wrong_clock_of_one_api() -> None:
    """The host is not blamed if another API agrees with it."""
    right = workspace("right", feed(last_success=NOW))
    found = document(workspace("wrong", clock_offset=-2400.0), right).findings
    (clock,) = problems_in(found)
    assert clock.text == "the clock of the API is 40 min ahead of this host"
    assert "Synchronize" not in clock.wording.step


def test_workspaces_without_a_replica() -> None:
    """Nobody polls them, so nothing is green."""
    status = document(workspace(), cluster=ClusterHealth(unowned_workspaces=("beta",)))
    (found,) = problems_in(status.findings)
    assert (found.tone, found.text) == ("bad", "no replica polls 1 workspace")


def test_feeds_that_fail_for_different_reasons() -> None:
    """Each cause is named once, without the id of a request; a status feed that is off is only of interest."""
    feeds = (
        feed("publishing", outcome="unavailable", error="500: oops (request id a1)"),
        feed("connections", outcome="unavailable", error="500: oops (request id b2)"),
        feed("webhooks", outcome="bad_payload", error="not JSON"),
        feed("messaging"),
    )
    status = WorkspaceStatus(
        feeds=(
            StatusFeedHealth(name="billing", is_up=False, disabled_reason="forbidden", error="403: no"),
            StatusFeedHealth(name="posts", is_up=False, error="503: no (request id 1)"),
            StatusFeedHealth(name="accounts", is_up=False, error="503: no (request id 2)"),
            StatusFeedHealth(name="usage", is_up=False, disabled_reason="forbidden", error="503: no"),
        )
    )
    assert lines(workspace("a", *feeds, status=status)) == [
        ("bad", "feeds publishing, connections failed: 500: oops"),
        ("bad", "feed webhooks failed: not JSON"),
        ("warn", "status feeds posts, accounts, usage failed: 503: no"),
        ("ok", "status feed billing failed: 403: no; tried again every few minutes"),
    ]


@pytest.mark.parametrize(
    ("tone", "sentence", "feeds"),
    [
        ("idle", "No feed is polled by this process", []),
        ("busy", "1 of 2 feeds is in the first sync", [SYNCING, WAITING]),
        ("busy", "1 of 2 feeds is catching up", [feed(gaps=1), feed()]),
        ("idle", "1 of 1 feed is waiting for the first poll", [WAITING]),
    ],
)
def test_how_polling_is(tone: str, sentence: str, feeds: list[FeedHealth]) -> None:
    """The worst status decides the sentence about all feeds and its colour."""
    assert working(WorkspaceHealth(name="a", base_url="", feeds=tuple(feeds))) == [(tone, sentence)]
