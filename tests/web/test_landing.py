from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from deploy.prometheus import thresholds
from late_exporter.status import (
    AccountHealth,
    Condition,
    FeedHealth,
    PlatformHealth,
    PollHealth,
    Quota,
    RecentCounts,
    StatusFeedHealth,
    SyncProgress,
    WorkspaceHealth,
    WorkspaceStatus,
)
from late_exporter.web.landing import STYLE, render_page
from late_exporter.web.verdicts import (
    COOLDOWN,
    FAILED_SHARE,
    FAILURES_IN_A_ROW,
    STUCK_SECONDS,
    FeedStatus,
    StatusDocument,
    problem_text,
    publishing_verdict,
    single_line,
    summarize,
    verdicts_of,
)

NOW = 1_763_993_002.0  # 2025-11-24 14:03:22 UTC
HOSTILE = "<script>alert('1')</script> & \"🔥\" \u202e\ud800"


def feed(
    name: str = "publishing", *, is_synced: bool = True, outcome: str | None = "success", **values: Any
) -> FeedHealth:
    """Return a healthy feed with some values changed."""
    return FeedHealth(name=name, is_synced=is_synced, outcome=outcome, **values)


def workspace(name: str = "acme", *feeds: FeedHealth, **more: Any) -> WorkspaceHealth:
    """Return a workspace with the given feeds, by default one healthy feed."""
    return WorkspaceHealth(name=name, base_url="https://getlate.dev/api", feeds=feeds or (feed(),), **more)


def platform(name: str = "tiktok", published: int = 0, failed: int = 0, **more: Any) -> PlatformHealth:
    """Return a platform whose final attempts were published or failed."""
    defaults = {"counted_since": NOW - 86_400, "final": published + failed, **more}
    return PlatformHealth(name=name, published=published, failed=failed, **defaults)


def account(username: str = "@acme", failures: int = 1, *, on: str = "instagram") -> AccountHealth:
    """Return an account that fails."""
    return AccountHealth(platform=on, account_id="a1", username=username, consecutive_failures=failures)


def render(
    *workspaces: WorkspaceHealth, paths: Sequence[str] = ("/metrics", "/-/healthy"), documentation: str = ""
) -> str:
    """Render the page at NOW."""
    status = StatusDocument(version="1.2.3", now=NOW, workspaces=workspaces)
    return render_page(status, paths, documentation)


def rows(html: str) -> list[list[str]]:
    """Return the text of the first table's cells, row by row."""
    body = html.partition("<tbody>")[2].partition("</table>")[0]
    cells = [re.split("<t[hd][^>]*>", row)[1:] for row in body.split("<tr>")[1:]]
    return [[re.sub("<[^>]+>", "", cell).strip() for cell in row] for row in cells]


def failing_line(*accounts: AccountHealth) -> str:
    """Return the text of the line about failing accounts."""
    html = render(workspace(platforms=(platform(published=1),), failing_accounts=accounts))
    match = re.search('<p class="failing bad">(.*?)</p>', html, re.DOTALL)
    return " ".join(re.sub("<[^>]+>", "", match[1]).replace("&nbsp;", " ").split()) if match else ""


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


def fact(html: str, term: str) -> str:
    """Return the text beside a term of the first feed."""
    match = re.search(f"<dt>{term}</dt><dd>(.*?)</dd>", html)
    return re.sub("<[^>]+>", " ", match[1]).strip() if match else "missing"


@pytest.mark.parametrize(
    ("tone", "sentence", "statuses"),
    [
        ("idle", "No feed is configured", []),
        ("ok", "The feed is polled and up to date", [FeedStatus.OK]),
        ("bad", "1 of 4 feeds has a problem", [FeedStatus.OK, FeedStatus.FAILING, FeedStatus.SYNCING, FeedStatus.OK]),
        ("bad", "2 of 3 feeds have a problem", [FeedStatus.FAILING, FeedStatus.FAILING, FeedStatus.OK]),
        ("busy", "First sync in progress", [FeedStatus.SYNCING] * 2),
        ("busy", "First sync in progress in 1 of 2 feeds", [FeedStatus.SYNCING, FeedStatus.WAITING]),
        ("busy", "1 of 2 feeds is catching up", [FeedStatus.CATCHING_UP, FeedStatus.OK]),
        ("idle", "Both feeds are waiting for the first poll", [FeedStatus.WAITING] * 2),
        ("ok", "All 1,200 feeds are polled and up to date", [FeedStatus.OK] * 1200),
    ],
)
def test_summary(tone: str, sentence: str, statuses: list[FeedStatus]) -> None:
    """The worst status decides the summary and its colour."""
    assert (tone, sentence) == summarize(statuses)


@pytest.mark.parametrize(
    ("term", "expected", "values"),
    [
        ("Last poll", "12 s ago took 84 ms", {"last_poll": NOW - 12.3, "duration": 0.0842}),
        ("Last poll", "never", {}),
        ("Last success", "1 h 6 min ago", {"last_success": NOW - 4000}),
        ("Last success", "now", {"last_success": NOW - 0.4}),
        ("Last success", "4 min ago", {"last_success": NOW - 240}),
        ("Next poll", "in 18 s", {"next_poll": NOW + 18.9}),
        ("Next poll", "due 3 min 10 s ago", {"next_poll": NOW - 190}),
        ("Next poll", "&ndash;", {}),
        ("Lag", "2.4 s", {"lag": 2.43}),
        ("Lag", "11 s", {"lag": 11.2}),
        ("Lag", "&ndash;", {}),
        ("Logs stored", "1,234,567", {"logs": 1_234_567}),
        ("Pending", "1,000", {"pending": 1000}),
        ("Gaps to read", "2", {"gaps": 2}),
        ("Coverage since", "2025-11-17 7 d 1 h ago", {"coverage_start": NOW - 7 * 86_400 - 3_700}),
        ("Coverage since", "not yet", {}),
    ],
)
def test_feed_values(term: str, expected: str, values: dict[str, Any]) -> None:
    """Every value of a feed is formatted for people."""
    assert expected == " ".join(fact(render(workspace("acme", feed(**values))), term).split())


@pytest.mark.parametrize("time", [1e30, -1e30, float("inf"), float("nan")])
def test_impossible_times(time: float) -> None:
    """Times outside the calendar are shown as unknown."""
    health = feed(last_poll=time, last_success=time, next_poll=time, coverage_start=time, lag=time)
    assert {"unknown"} == set(PageParser(render(workspace("acme", health, quota=Quota(1, 1, time)))).titles())


@pytest.mark.parametrize(
    ("text", "width", "tone", "quota"),
    [
        ("418 of 600 requests left others use 0 per minute", "69.7%", "busy", Quota(600, 418, NOW + 23)),
        ("31 of 1,200 requests left others use 1,150 per minute", "2.6%", "bad", Quota(1200, 31, NOW + 3, 1150)),
        ("9 of 0 requests left others use 0 per minute", "100.0%", "busy", Quota(0, 9, NOW + 3)),
        ("-1 of 60 requests left others use 0 per minute", "0.0%", "bad", Quota(60, -1, NOW + 3)),
    ],
)
def test_quota(text: str, width: str, tone: str, quota: Quota) -> None:
    """The quota is shown as text and as a meter that turns red when little is left."""
    html = render(workspace(quota=quota))
    match = re.search(r'<div class="quota (\w+)">(.*?)<svg aria-hidden="true"><rect width="([^"]+)"', html, re.DOTALL)
    assert match is not None
    assert (tone, width) == (match[1], match[3])
    assert text == " ".join(re.sub("<[^>]+>", " ", match[2]).split())


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("getlate.dev", "https://getlate.dev/api"),
        ("localhost:8080", "http://user:secret@localhost:8080/api"),
        ("getlate.dev", "getlate.dev"),
    ],
)
def test_host(host: str, base_url: str) -> None:
    """A card names the host of the API without user name and password."""
    html = render(WorkspaceHealth(name="acme", base_url=base_url, feeds=(feed(),)))
    assert f'<p class="soft">{host}, generation late</p>' in html


@pytest.mark.parametrize(
    ("expected", "health"),
    [
        ("", feed()),
        ("", feed(outcome=None)),
        ("the key was refused", feed(outcome="unauthorized", error="the key was\n refused")),
        ("The API rejected the key.", feed(outcome="unauthorized")),
        ("The last poll ended with outcome strange.", feed(outcome="strange")),
    ],
)
def test_problem_text(expected: str, health: FeedHealth) -> None:
    """A problem is described by its error, or by its outcome if there is no error text."""
    assert expected == problem_text(health)
    assert bool(expected) == ('<p class="error bad">' in render(workspace("acme", health)))


def test_long_text_is_truncated() -> None:
    """Text from outside becomes one line of at most 300 characters."""
    assert "a b" == single_line(" a\r\n\tb ")
    assert "y" * 300 == single_line("y" * 300)
    assert "y" * 299 + "…" == single_line("y" * 301)


def logs_of(name: str) -> dict[str, Any]:
    """Return a platform and two accounts, one without a user name, whose names are all the same text."""
    with_username = AccountHealth(platform=name, account_id=name, username=name, consecutive_failures=2)
    without_username = AccountHealth(platform=name, account_id=name, username="", consecutive_failures=2)
    return {"platforms": (platform(name, 1, 1),), "failing_accounts": (with_username, without_username)}


def test_hostile_text_is_escaped() -> None:
    """Names, hosts, errors, version and paths add no element and no attribute, whatever their text."""
    health = feed(HOSTILE, outcome=HOSTILE, error=HOSTILE)
    hostile = render_page(
        StatusDocument(
            version=HOSTILE,
            now=NOW,
            workspaces=(WorkspaceHealth(name=HOSTILE, base_url=HOSTILE, feeds=(health,), **logs_of(HOSTILE)),) * 5,
        ),
        ['/"><script>'],
        'https://example.org/"><script>',
    )
    harmless = render_page(
        StatusDocument(
            version="a",
            now=NOW,
            workspaces=(
                WorkspaceHealth(name="a", base_url="a", feeds=(feed("a", outcome="a", error="a"),), **logs_of("a")),
            )
            * 5,
        ),
        ["/a"],
        "https://example.org/",
    )
    shape = [(tag, list(attributes)) for tag, attributes in PageParser(harmless).elements]
    assert shape == [(tag, list(attributes)) for tag, attributes in PageParser(hostile).elements]
    assert HOSTILE in PageParser(hostile).text


def test_platforms() -> None:
    """A row shows the attempts and failures of the last hour and of all time, pending logs, and the last log."""
    recent = RecentCounts(failed=19, final=22)
    row = platform("tiktok", 1234, 66, pending=7, last_log=NOW - 3_700, recent=recent, oldest_pending=NOW - 60)
    html = render(workspace(platforms=(row,), recent_since=NOW - 3600))
    assert [["tiktok", "22", "19 (86%)", "1,300", "66 5.1%", "7", "1 h ago"]] == rows(html)
    text = PageParser(html).text
    assert "Since 2025-11-23" in text
    assert "Last hour" in text
    assert ["2025-11-23 14:03:22 UTC", "2025-11-24 13:01:42 UTC"] == PageParser(html).titles()


@pytest.mark.parametrize(
    ("name", "seconds"), [("Last hour", 3600), ("Last hour", 3545), ("Last 12 min", 725), ("Last 1 min", 5)]
)
def test_recent_time(name: str, seconds: float) -> None:
    """After a restart the recent time is called by its length until it is an hour."""
    html = render(workspace(platforms=(platform(published=1),), recent_since=NOW - seconds))
    assert f">{name}\n" in html


@pytest.mark.parametrize(
    ("share", "values"),
    [
        ("100.0%", {"failed": 1}),
        ("50.0%", {"published": 1, "failed": 2, "final": 4}),
        ("0.1%", {"published": 1999, "failed": 1}),
        ("&lt;0.1%", {"published": 2000, "failed": 1}),
        ("0", {"published": 0}),
    ],
)
def test_failed_share(share: str, values: dict[str, Any]) -> None:
    """The share is failed logs by all logs with a final status; it is not rounded to zero if any log failed."""
    assert share == rows(render(workspace(platforms=(platform(**values),))))[0][4].rpartition(" ")[2]


@pytest.mark.parametrize(
    ("tone", "sentence", "values"),
    [
        ("ok", "Publishing works: none of 30 attempts failed", {"recent": RecentCounts(0, 30)}),
        ("ok", "Publishing works: 4 of 30 attempts failed", {"recent": RecentCounts(4, 30)}),
        ("ok", "Publishing works: 2 of 2 attempts failed", {"recent": RecentCounts(2, 2)}),
        ("warn", "tiktok: 3 of 3 attempts failed in the last hour", {"recent": RecentCounts(3, 3)}),
        ("warn", "tiktok: 5 of 30 attempts failed in the last hour", {"recent": RecentCounts(5, 30)}),
        ("bad", "tiktok: 19 of 22 attempts failed in the last hour", {"recent": RecentCounts(19, 22, is_failing=True)}),
        ("warn", "tiktok: a post has been pending for 3 h", {"oldest_pending": NOW - 3 * 3600}),
    ],
)
def test_publishing_verdict(tone: str, sentence: str, values: dict[str, Any]) -> None:
    """Failures of the last hour and stuck posts have a verdict of their own, however many logs are older."""
    verdict = publishing_verdict([workspace(platforms=(platform("tiktok", 90_000, **values),))], NOW)
    assert (tone, sentence) == verdict


def test_no_verdict_about_publishing() -> None:
    """While nothing was published, and nothing is wrong, there is nothing to say about it."""
    young = platform("tiktok", 90_000, oldest_pending=NOW - 3599)
    assert publishing_verdict([workspace(platforms=(young,)), workspace()], NOW) is None
    assert 1 == render(workspace(platforms=(young,))).count('<div class="verdict')


def test_the_worst_verdict_comes_first() -> None:
    """An outage is above the good news about polling, also in the title, and names its workspace."""
    outage = platform("instagram", 5, recent=RecentCounts(19, 22, is_failing=True), oldest_pending=NOW - 7200)
    status = WorkspaceStatus(conditions=(Condition("inactive"),))
    html = render(workspace("a"), workspace("brand", platforms=(platform("x", 1), outage), status=status))
    sentence = "brand, instagram: 19 of 22 attempts failed in the last hour, and 2 more problems"
    assert f"<title>{sentence} - late-exporter</title>" in html
    verdicts = re.findall(r'<div class="verdict (\w+)">.*?<p>(.*?)</p>', html, re.DOTALL)
    assert [("bad", sentence), ("ok", "Both feeds are polled and up to date")] == verdicts
    assert "instagram" == rows(html)[0][0]


def test_a_suspended_plan_comes_before_lesser_problems_of_other_workspaces() -> None:
    first = workspace("a", status=WorkspaceStatus(conditions=(Condition("cooldown", "acme (x)", at=NOW + 600),)))
    second = workspace("b", status=WorkspaceStatus(conditions=(Condition("inactive"),)))
    sentence = "b, The plan is suspended or gives no access, and 1 more problem"
    assert ("bad", sentence) == publishing_verdict([first, second], NOW)


def test_a_failing_feed_is_above_good_news_about_publishing() -> None:
    healthy = platform("x", 1, recent=RecentCounts(0, 30))
    html = render(workspace("a", feed(outcome="unauthorized"), platforms=(healthy,)))
    assert ["bad", "ok"] == re.findall(r'<div class="verdict (\w+)">', html)


@pytest.mark.parametrize(
    ("sentence", "outcomes"),
    [
        ("Both feeds have a problem: the API rejected the key", ("unauthorized", "unauthorized")),
        ("Both feeds have a problem", ("unauthorized", "unavailable")),
        ("Both feeds have a problem", ("strange", "strange")),
        ("1 of 2 feeds has a problem: the API rate limit was reached", ("rate_limited", "success")),
    ],
)
def test_the_verdict_names_the_reason(sentence: str, outcomes: tuple[str, ...]) -> None:
    """If all failing feeds fail for one reason, the verdict says it."""
    (verdict,) = verdicts_of([workspace("a", *(feed(outcome=outcome) for outcome in outcomes))], NOW)
    assert ("bad", sentence) == verdict


def test_thresholds_are_those_of_the_alerts() -> None:
    """The page calls the same things trouble as the alerts."""
    share = thresholds.FAST_BURN * thresholds.ERROR_BUDGET
    assert (thresholds.POST_STUCK_SECONDS, thresholds.CONSECUTIVE_FAILURES) == (STUCK_SECONDS, FAILURES_IN_A_ROW)
    assert share == pytest.approx(FAILED_SHARE)


def test_worst_platform_comes_first() -> None:
    """Platforms are sorted by share of failures, then by number of failures, then by name."""
    names = ["reddit", "twitter", "tiktok", "bluesky", "threads"]
    platforms = (
        platform("threads", 9000),
        platform("tiktok", 90, 10),
        platform("bluesky", 1),
        platform("twitter", 900, 100),
        platform("reddit", 1, 1),
    )
    assert names == [row[0] for row in rows(render(workspace(platforms=platforms)))]


def test_many_platforms() -> None:
    """At most 20 platforms have a row; the others are counted."""
    platforms = [platform(f"p-{number}", 1) for number in range(22)]
    assert 20 == len(rows(render(workspace(platforms=tuple(platforms)))))
    assert "and 2 more platforms" in render(workspace(platforms=tuple(platforms)))
    assert "and 1 more platform<" in render(workspace(platforms=tuple(platforms[:21])))
    assert "more platform" not in render(workspace(platforms=tuple(platforms[:20])))


@pytest.mark.parametrize(
    ("line", "accounts"),
    [
        ("", []),
        ("1 account failed its last publish: @acme (instagram)", [account()]),
        (
            "2 accounts failed their last publish: @acme (instagram, 1,200 in a row), a1 (x)",
            [account("@acme", 1200), account("", on="x")],
        ),
        (f"1 account failed its last publish: {'u' * 39}… ({'p' * 39}…)", [account("u" * 128, on="p" * 128)]),
    ],
)
def test_failing_accounts(line: str, accounts: list[AccountHealth]) -> None:
    """Failing accounts are listed with platform and number of failures, by id if they have no user name."""
    assert line == failing_line(*accounts)


def test_many_failing_accounts() -> None:
    """At most five accounts are listed; the others are counted."""
    five = ", ".join(f"@{number} (instagram)" for number in range(5))
    accounts = [account(f"@{number}") for number in range(1005)]
    assert f"5 accounts failed their last publish: {five}" == failing_line(*accounts[:5])
    assert f"1,005 accounts failed their last publish: {five}, and 1,000 more" == failing_line(*accounts)


def test_table_names_its_columns() -> None:
    """Screen readers find a heading for the table and a header for every column and row."""
    elements = PageParser(render(workspace("a"), workspace("b", platforms=(platform(failed=1),)))).elements
    labels = [attributes["aria-labelledby"] for tag, attributes in elements if tag == "table"]
    assert labels == [attributes["id"] for tag, attributes in elements if tag == "h3" and "id" in attributes]
    groups = ["colgroup", "colgroup", "col"]
    assert groups + ["col"] * 7 + ["row"] == [attributes["scope"] for tag, attributes in elements if tag == "th"]


def poll(ago: float, outcome: str = "success", **values: Any) -> PollHealth:
    """Return a poll some seconds before NOW."""
    return PollHealth(started_at=NOW - ago, outcome=outcome, **values)


def test_recent_polls() -> None:
    """Each of the last polls has a row with time, outcome, requests, new logs and duration."""
    recent = (poll(5, requests=1, duration=0.012), poll(35, requests=1_024, logs=98_304, duration=65.0))
    html = render(workspace("acme", feed(recent_polls=recent)))
    assert [
        ["5 s ago", "success", "1", "0", "12 ms"],
        ["35 s ago", "success", "1,024", "98,304", "1 min 5 s"],
    ] == rows(html)
    assert "<details><summary>" in html


def test_polls_that_failed() -> None:
    """The error of a failed poll is its tooltip; errors older than the listed polls stand below the table."""
    failure = poll(5, "unavailable", error=f"503: {HOSTILE}")
    earlier = poll(4000, "unauthorized")
    health = feed(outcome="unavailable", recent_polls=(failure, poll(35)), recent_failures=(failure, earlier))
    html = render(workspace("acme", health))
    assert "<details open>" in html
    assert f"503: {HOSTILE}" in PageParser(html).titles()
    assert 1 == html.count("The API rejected the key.")
    assert "1 h 6 min ago" in html
    assert "<script>" not in html


PROGRESS = SyncProgress(log_count=2059, expected_count=33_772, elapsed=60.0, seconds_left=250.0, quota_wait=23.0)


def test_first_sync() -> None:
    """A first sync is a bar with total, time left and quota waits, and no list of facts that are not known yet."""
    html = render(workspace("acme", feed(is_synced=False, outcome=None, logs=2059, progress=PROGRESS)))
    text = " ".join(PageParser(html).text.split())
    assert "2,059 of about 33,772 logs read waiting 23 s for the quota, about 4 min left" in text
    assert '<rect width="6.1%" height="6" rx="3"/>' in html
    assert "never" not in html
    assert "<dl>" not in html


def test_problems_come_first() -> None:
    """Workspaces with a problem come first; the others keep the order of the configuration."""
    healthy = [workspace(f"ok-{number}") for number in range(4)]
    html = render(*healthy, workspace("busy", feed(), feed(gaps=1)), workspace("broken", feed(outcome="unavailable")))
    names = ["broken", "busy", "ok-0", "ok-1", "ok-2", "ok-3"]
    assert names == re.findall(r"<h2[^>]*><bdi>(.*?)</bdi>", html)
    assert names == re.findall(r"<li>.*?<bdi>(.*?)</bdi>", html)


def test_index_links_to_cards() -> None:
    """From five workspaces on an index links to every card, the worst first, whether by its polls or its publishing."""
    many = [workspace(f"w-{number}") for number in range(5)]
    suspended = workspace("w-3", status=WorkspaceStatus(conditions=(Condition("inactive"),)))
    html = render(*many[:3], suspended, workspace("w-4", feed(outcome="unavailable")))
    assert ["#w3", "#w4", "#w0", "#w1", "#w2"] == PageParser(html).links()[2:]
    assert {f"w{number}" for number in range(5)} <= {
        attributes.get("id") for _, attributes in PageParser(html).elements
    }
    assert [
        "The plan is suspended or gives no access",
        "The feed has a problem: the API did not return a usable response",
        *["The feed is polled and up to date"] * 3,
    ] == PageParser(html).titles()
    assert 'class="index"' not in render(*many[:4])


def test_links() -> None:
    """Links are relative, so that they work behind a proxy prefix; the documentation link is optional."""
    assert ["./metrics", "./-/healthy"] == PageParser(render()).links()
    page = render(paths=("/my path", "/config"), documentation="https://example.org/?a&b")
    assert ["./my%20path", "./config", "https://example.org/?a&b"] == PageParser(page).links()


def test_page_is_self_contained() -> None:
    """The page has no script, inline style or handler, and loads nothing but its embedded icon."""
    elements = PageParser(render(workspace(quota=Quota(600, 60, NOW), **logs_of("a")))).elements
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in elements}
    assert not [name for _, attributes in elements for name in attributes if name == "style" or name.startswith("on")]
    loads = [attributes.get("href") or attributes.get("src") for tag, attributes in elements if tag not in {"a", "use"}]
    assert ["data:"] == [load[:5] for load in loads if load]
    assert not re.search(r"url\(|@import", STYLE)


def test_sizes() -> None:
    """The page is small: below 24 kB for one workspace with 13 platforms, below 360 kB for thirty."""
    platforms = [platform("googlebusiness", 12_345, 678, pending=9, last_log=NOW - 99)] * 13
    full = workspace(
        "acme",
        feed(error="x" * 300, last_poll=NOW, recent_polls=(poll(1, "unavailable", error="x" * 300),) * 8),
        feed("connections"),
        quota=Quota(600, 60, NOW),
        platforms=tuple(platforms),
        failing_accounts=(account("u" * 128, 10, on="p" * 128),) * 500,
    )
    assert len(render(full).encode()) < 24_000
    assert len(render(*[full] * 30).encode()) < 360_000
    assert len(render(*[workspace()] * 30).encode()) < 50_000


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    """Every text reaches WCAG AA, 4.5 to 1, on the ground it stands on, in the light and in the dark."""
    root = re.findall(r":root\{([^}]*)\}", STYLE)[scheme]
    shades = {name: luminance(colour) for name, colour in re.findall(r"--([\w-]+):#(\w+)", root)}
    pairs = [(text, ground) for text in ("text", "soft", "link") for ground in ("page", "card")]
    pairs += [(tone, f"{tone}-tint") for tone in ("ok", "busy", "warn", "bad", "idle")]
    pairs += [(tone, "card") for tone in ("warn", "bad")]
    pairs += [("text", f"{tone}-tint") for tone in ("ok", "busy", "warn", "bad", "idle")]
    ratios = {(a, b): (max(shades[a], shades[b]) + 0.05) / (min(shades[a], shades[b]) + 0.05) for a, b in pairs}
    assert {} == {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5}


def status_lines(status: WorkspaceStatus) -> list[str]:
    """Return the lines of the section about status feeds."""
    section = render(workspace(status=status)).partition("<h3>Accounts, queue and plan</h3>")[2].partition("</section>")
    paragraphs = re.findall(r"<p[^>]*>(.*?)</p>", section[0], re.DOTALL)
    return [" ".join(PageParser(paragraph).text.split()) for paragraph in paragraphs]


def test_nothing_to_say_about_a_healthy_workspace() -> None:
    """A workspace whose accounts, queue, webhooks and plan are well has no section about them."""
    feeds = (StatusFeedHealth(name="posts", is_up=True), StatusFeedHealth(name="billing"))
    status = WorkspaceStatus(feeds=feeds, conditions=(Condition("cooldown", "a (x)", NOW),))
    assert [] == status_lines(status)
    assert "Accounts, queue and plan" not in render(workspace(status=status))


def test_what_status_feeds_report() -> None:
    """Everything that needs attention has a line, worst first, and names are limited and escaped."""
    conditions = [
        Condition("plan", "40% of the uploads"),
        Condition("plan", "12.34 USD left to spend"),
        Condition("token", "b (x)", NOW + 9 * 86_400),
        Condition("token", "a (x)", NOW - 86_400),
        Condition("webhook", "orders"),
        Condition("webhook", "alerts"),
        Condition("cooldown", "a1 (instagram)", NOW + 600),
        Condition("cooldown", "a2 (instagram)", NOW - 600),
        Condition("blocked", "Dora (x)", text="No\nscope"),
        *(Condition("reconnect", f"{HOSTILE} (tiktok)") for _ in range(7)),
        Condition("pending_approval", HOSTILE, NOW - 400),
        Condition("publishing", "p3", NOW - 9000),
        Condition("scheduled", "p1 “Frische Brezeln” for acme (x)", NOW - 4000),
        Condition("limit", "100% of the profiles"),
        Condition("balance", "-0.05 USD left to spend"),
        Condition("inactive"),
        Condition("unknown to this version"),
    ]
    status = WorkspaceStatus(conditions=tuple(conditions))
    lines = status_lines(status)
    hostile = [line for line in lines if "alert(" in line]
    assert [
        "The plan is suspended or gives no access",
        "Pay-per-use has stopped: -0.05 USD left to spend",
        "Little or nothing is left of the plan: 100% of the profiles",
        "A post that was due 1 h ago is still scheduled: p1 “Frische Brezeln” for acme (x)",
        "A post that was due 2 h ago is still publishing: p3",
        "1 account cannot post: Dora (x): No scope",
        f"1 account is {COOLDOWN} a1 (instagram), which ends in 10 min",
        "2 webhooks are switched off: orders, alerts",
        "2 tokens expire soon: a (x), 1 d ago, b (x), in 9 d",
        "The plan: 40% of the uploads, 12.34 USD left to spend",
    ] == [line for line in lines if line not in hostile]
    post, accounts = hostile
    assert post.startswith("A post that was due 6 min ago is still pending approval: <script>alert('1')</script>")
    assert accounts.startswith("7 accounts must be connected again: <script>alert('1')</script>")
    assert accounts.endswith(", and 2 more")
    page = render(workspace(status=status))
    assert "<script>" not in page
    assert "9 more problems" in page  # Neither tokens nor the plan's figures are one.


def test_why_a_status_feed_is_off() -> None:
    """A status feed that is off or failing says why."""
    feeds = (
        StatusFeedHealth(name="billing", is_up=False, disabled_reason="forbidden", error="403: no"),
        StatusFeedHealth(name="posts", is_up=False, error="500: oops"),
    )
    assert [
        "Status feed billing is off, and tried again hourly: 403: no",
        "Status feed posts failed: 500: oops",
    ] == status_lines(WorkspaceStatus(feeds=feeds))
