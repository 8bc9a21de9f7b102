"""The status page of some workspaces."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from late_exporter.health import (
    Condition,
    Failure,
    Quota,
    RecentCounts,
    SyncProgress,
)
from late_exporter.web.status_page import STYLE, render_page
from late_exporter.web.verdicts import single_line
from tests.web.pages import (
    HOSTILE,
    NOW,
    REFUSED,
    PageParser,
    document,
    feed,
    outage,
    platform,
    render,
    render_list,
    reporting,
    rows,
    text_of,
    troubled_workspace,
    unreachable_workspace,
    workspace,
)


def fact(html: str, term: str) -> str:
    """Return the text beside a term of the first feed."""
    match = re.search(f"<dt>{term}</dt><dd>(.*?)</dd>", html)
    return re.sub("<[^>]+>", " ", match[1]).strip() if match else "missing"


@pytest.mark.parametrize(
    ("term", "expected", "values"),
    [
        ("Last poll", "12 s ago took 84 ms", {"last_poll": NOW - 12.3, "duration": 0.0842}),
        ("Last poll", "never", {}),
        ("Last success", "1 h 6 min ago", {"last_success": NOW - 4000}),
        ("Next poll", "in 18 s", {"next_poll": NOW + 18.9}),
        ("Next poll", "due 3 min 10 s ago", {"next_poll": NOW - 190}),
        ("Logs stored", "1,234,567", {"logs": 1_234_567}),
        ("Coverage since", "2025-11-17 7 d 1 h ago", {"coverage_start": NOW - 7 * 86_400 - 3_700}),
    ],
)
def test_feed_values(term: str, expected: str, values: dict[str, Any]) -> None:
    """Every value of a feed is formatted for people."""
    assert expected == " ".join(fact(render(workspace("acme", feed(**values))), term).split())


def test_times_are_those_of_the_api() -> None:
    """Ages are right if the clock of the host is wrong."""
    skewed = workspace("acme", feed(last_poll=NOW - 3612), clock_offset=3600.0)
    assert fact(render(skewed, workspace("beta")), "Last poll") == "12 s ago"


@pytest.mark.parametrize("time", [1e30, -1e30, float("inf"), float("nan")])
def test_impossible_times(time: float) -> None:
    """Times outside the calendar are shown as unknown."""
    health = feed(last_poll=time, last_success=time, next_poll=time, coverage_start=time, lag=time)
    assert set(PageParser(render(workspace("acme", health, quota=Quota(1, 1, time)))).titles()) == {"unknown"}


@pytest.mark.parametrize(
    ("text", "width", "tone", "quota"),
    [
        ("418 of 600 requests left others use 0 per minute", "69.7%", "busy", Quota(600, 418, NOW)),
        ("31 of 1,200 requests left others use 1,150 per minute", "2.6%", "bad", Quota(1200, 31, NOW, 1150)),
        ("-1 of 0 requests left others use 0 per minute", "0.0%", "bad", Quota(0, -1, NOW)),
    ],
)
def test_quota(text: str, width: str, tone: str, quota: Quota) -> None:
    """The quota is shown as text and as a meter that turns red when little is left."""
    meter = render(workspace(quota=quota)).partition(f'<div class="quota {tone}">')[2].partition("</div>")[0]
    assert (text, True) == (text_of(meter), f'<rect width="{width}"' in meter)


def test_long_text_is_truncated() -> None:
    """Text from outside becomes one line of at most 300 characters."""
    assert single_line(" a\r\n\tb ") == "a b"
    assert single_line("y" * 300) == "y" * 300
    assert single_line("y" * 301) == "y" * 299 + "…"


def test_platforms() -> None:
    """A row shows the attempts and failures of the last hour and of all time, pending logs, and the last log."""
    recent = RecentCounts(failed=19, final=22)
    row = platform("tiktok", 1234, 66, pending=7, last_log=NOW - 3_700, recent=recent, oldest_pending=NOW - 60)
    html = render(workspace(platforms=(row,), recent_since=NOW - 3600))
    assert rows(html) == [["tiktok", "22", "19 (86%)", "1,300", "66 5.1%", "7", "1 h ago"]]
    text = PageParser(html).text
    assert "Since 2025-11-23" in text
    assert "Last hour" in text
    assert PageParser(html).titles() == ["2025-11-23 14:03:22 UTC", "2025-11-24 13:01:42 UTC"]


def test_worst_platform_comes_first() -> None:
    """Platforms are sorted by failures of the last hour, then by all failures, then by name."""
    platforms = (
        platform("threads", 9000),
        platform("tiktok", 1, 10),
        platform("bluesky", 1),
        platform("twitter", 900, 100),
        platform("reddit", 1, 1, recent=RecentCounts(1, 1)),
    )
    names = ["reddit", "twitter", "tiktok", "bluesky", "threads"]
    assert names == [row[0] for row in rows(render(workspace(platforms=platforms)))]


def test_a_stuck_post() -> None:
    """The number of pending logs and the age of the oldest one cannot be read as one number."""
    stuck = platform("tiktok", 1, pending=1, oldest_pending=NOW - 17.6 * 3600)
    assert rows(render(workspace(platforms=(stuck,))))[0][5] == "1, oldest 17 h"


def test_many_platforms() -> None:
    """At most 20 platforms have a row; the others are counted."""
    platforms = [platform(f"p-{number}", 1) for number in range(22)]
    assert len(rows(render(workspace(platforms=tuple(platforms))))) == 20
    assert "and 2 more platforms" in render(workspace(platforms=tuple(platforms)))


def test_table_names_its_columns() -> None:
    """Screen readers find a heading for the table and a header for every column and row."""
    elements = PageParser(render(workspace("a"), workspace("b", platforms=(platform(failed=1),)))).elements
    labels = [attributes["aria-labelledby"] for tag, attributes in elements if tag == "table"]
    assert labels == [attributes["id"] for tag, attributes in elements if tag == "h3" and "id" in attributes]
    groups = ["colgroup", "colgroup", "col"]
    assert groups + ["col"] * 7 + ["row"] == [attributes["scope"] for tag, attributes in elements if tag == "th"]


def test_first_sync() -> None:
    """A first sync shows how much was read, and no list of facts that are not known yet."""
    progress = SyncProgress(log_count=2059, quota_wait=23.0)
    html = render(workspace("acme", feed(is_synced=False, outcome=None, logs=2059, progress=progress)))
    text = " ".join(PageParser(html).text.split())
    assert "2,059 logs read, waiting 23 s for the quota" in text
    assert "never" not in html
    assert "<dl>" not in html


def test_page_is_self_contained() -> None:
    """The page has no script, inline style or handler, and loads nothing but its embedded icon."""
    elements = PageParser(render(troubled_workspace())).elements
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in elements}
    assert not [name for _, attributes in elements for name in attributes if name == "style" or name.startswith("on")]
    loads = [attributes.get("href") or attributes.get("src") for tag, attributes in elements if tag not in {"a", "use"}]
    assert [load[:5] for load in loads if load] == ["data:"]
    assert not re.search(r"url\(|@import", STYLE)


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
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def test_hostile_text_is_escaped() -> None:
    """Names, hosts, errors, version and paths add no element and no attribute, whatever their text."""

    def page(text: str) -> PageParser:
        workspaces = (replace(troubled_workspace(text), name=f"{text}{number}") for number in range(5))
        status = replace(document(*workspaces), version=text)
        link = text.replace("\ud800", "")
        return PageParser(render_page(status, frozenset(), [f"/{link}"]))

    hostile, harmless = page(HOSTILE), page("a")
    shapes = [[(tag, list(attributes)) for tag, attributes in each.elements] for each in (hostile, harmless)]
    assert shapes[0] == shapes[1]
    assert HOSTILE in hostile.text


def problem_items(html: str) -> list[str]:
    """Return the problems in the list below the banner."""
    items = html.partition('<ul class="problems"')[2].partition("</ul>")[0]
    return [text_of(f"<li{item}") for item in items.split("<li")[1:]]


def test_the_worst_comes_first() -> None:
    """The title and the banner have the worst problem, a list below has the others, each with a next step."""
    accounts = (Condition("reconnect", f"a{number} (x)") for number in range(7))
    urgent = Condition("scheduled", "p", NOW - 4000), Condition("token", "t", NOW + 9, "t1")
    workspaces = (
        reporting(Condition("cooldown", "acme (x)", at=NOW + 600), name="shop"),
        workspace("fine"),
        workspace("brand", platforms=(platform("x", 1), outage())),
        unreachable_workspace(),
        reporting(Condition("inactive"), *urgent, *accounts, name="new"),
    )
    html = render(*workspaces)
    assert "<title>new: the plan is suspended or gives no access - late-exporter</title>" in html
    banner = text_of(html.partition('<div class="verdict bad">')[2].partition("</div></div>")[0])
    assert banner.startswith(
        "new: the plan is suspended or gives no access "
        "Open the billing page of Zernio; until then nothing is published. Run late-exporter check --workspace new. "
        "Runbook Also 1 overdue post, 1 failing platform, 1 polling problem, 7 disconnected accounts, "
        "1 expiring token 5 workspaces · "
    )
    problems = problem_items(html)
    assert [text.partition(":")[0] for text in problems] == ["new", "brand", "agency", "new", "new"]
    assert problems[0] == (
        "new: a post that was due 1 h ago is still scheduled: p "
        "Run late-exporter posts --overdue --workspace new. Runbook"
    )
    links = PageParser(html).links()
    assert {"#w-new", "#w-brand", "./runbooks/LatePlanStopsPosts", "./runbooks/LateTokenExpiring"} <= {*links}
    names = ["new", "brand", "agency", "shop", "fine"]
    assert re.findall(r"<h2[^>]*><bdi>(.*?)</bdi>", html) == names
    index = html.partition('<ul class="index">')[2].partition("</ul>")[0]
    assert re.findall(r"<bdi>(.*?)</bdi>", index) == names
    assert 'class="index"' not in render(*workspaces[:4])


def test_no_problem_stands_twice() -> None:
    """Each problem is in the banner or in the list, and the cards do not repeat it; there is no green beside red."""
    troubles = (Condition("inactive"), Condition("reconnect", "@a (x)"), Condition("webhook", "orders"))
    text = text_of(render(reporting(*troubles), unreachable_workspace()).partition("<body>")[2])
    for problem in ("the plan is suspended", "must be connected again", "switched off", REFUSED):
        assert text.count(problem) == 1
    assert "up to date" not in text
    assert "2 of 2 feeds are polled and up to date" in text_of(render(workspace("a"), workspace("b")))


def test_the_list_of_problems_is_limited() -> None:
    """At most 50 problems are listed below the banner."""
    html = render(*(reporting(Condition("reconnect", "a"), name=f"w{number}") for number in range(61)))
    assert len(problem_items(html)) == 50
    assert "and 10 more problems" in html
    assert problem_items(render(reporting(Condition("reconnect", "@a (x)")), workspace("fine"))) == []


def test_many_workspaces() -> None:
    """A page that shows only the worst workspaces says so."""
    status = document(*(workspace(f"w{number}") for number in range(30)))
    html = render_page(status.shorten(20), frozenset(), [])
    assert html.count("<article") == 20
    assert "The worst 20 of 30 workspaces are shown." in html


def test_a_card_has_what_is_only_of_interest() -> None:
    """What is no problem stands in the card."""
    tokens = [Condition("token", f"a{number} (x)", NOW + 9 * 86_400) for number in range(7)]
    html = render(reporting(*tokens, Condition("plan", "40% of the uploads")))
    section = text_of(html.partition(">Accounts and plan</h3>")[2].partition("</section>")[0])
    assert section == (
        "7 tokens must be renewed: a0 (x), expiry in 9 d, a1 (x), expiry in 9 d and 5 more "
        "a2 (x), expiry in 9 d, a3 (x), expiry in 9 d, a4 (x), expiry in 9 d "
        "and 2 that are not named The plan: 40% of the uploads"
    )
    assert "Accounts and plan" not in render(workspace())


def test_a_dead_api() -> None:
    """The card says since when its figures are old; what is not known any more is not claimed."""
    html = render(workspace(), unreachable_workspace())
    card = html.partition('<article class="card stale"')[2]
    assert "as of 17 min ago" in text_of(card)
    assert "requests left" not in card
    assert "generation" not in card.partition("</header>")[0]
    assert 'card stale"' not in render(workspace("a", feed(outcome="unavailable", last_success=NOW - 9), feed()))


def test_a_refused_key() -> None:
    """A card of which nothing was ever read claims nothing."""
    refused = workspace("a", feed(outcome="unauthorized", error="401: no"), quota=Quota(600, 600, NOW))
    card = render(refused).partition("<header>")[2].partition("</article>")[0]
    assert text_of(card).startswith("a https://getlate.dev/api nothing read yet publishing Failing Last poll")
    assert not re.search("Lag|stored|Pending|Gaps|Coverage|requests left|generation", card)


def test_a_feed_that_waits_for_the_quota() -> None:
    """A poll that is due but waits for the quota says so."""
    due, later = feed(next_poll=NOW - 12), feed(next_poll=NOW + 18)
    assert fact(render(workspace("a", due, quota_wait=23.0)), "Next poll") == "waits for the quota"
    assert fact(render(workspace("a", later, quota_wait=23.0)), "Next poll") == "in 18 s"


def failure(number: int = 0, **values: Any) -> Failure:
    """Return a failure of an account on a platform, some minutes ago."""
    defaults = {"platform": "x/y", "account_id": "a1", "username": "@b", "post_id": f"p{number}", "error": "E"}
    return Failure(key=f"k{number}", time=NOW - 60 * number, **defaults | values)


def test_platforms_and_accounts_link_to_their_failures() -> None:
    """Those without failures have no link."""
    conditions = Condition("blocked", "@b (x/y)", subject="a1"), Condition("blocked", "@c (x/y)", subject="a2")
    brand = replace(reporting(*conditions), platforms=(platform("x/y", 1), platform("tiktok", 1)))
    links = PageParser(render(brand, subjects=["platforms/x/y", "accounts/a1"])).links()
    assert {"./platforms/x%2Fy", "./accounts/a1"} <= set(links)
    assert not {"./platforms/tiktok", "./accounts/a2"} & set(links)


def test_the_last_failures_of_a_platform() -> None:
    """They are listed newest first, at most 20, with links to their accounts, and the command that prints captions."""
    html = render_list("platforms", *(failure(number) for number in reversed(range(30))))
    assert "<h2>Last failures of <bdi>x/y</bdi></h2>" in html
    assert rows(html)[:2] == [["now", "brand", "@b", "p0", "E"], ["1 min ago", "brand", "@b", "p1", "E"]]
    assert len(rows(html)) == 20
    assert "<code>late-exporter posts --failed --platform x/y</code>" in html
    assert {"../", "../metrics", "../accounts/a1"} <= set(PageParser(html).links())


def test_the_last_failures_of_an_account() -> None:
    """The page is headed by the newest name of the account, or else by its id."""
    html = render_list("accounts", failure(1, username="@old"), failure(0))
    assert "<h2>Last failures of <bdi>@b on x/y</bdi></h2>" in html
    assert "<title>@b on x/y: last failures - late-exporter</title>" in html
    assert [row[2] for row in rows(html)] == ["p0", "p1"]
    assert "<bdi>a1 on x/y</bdi>" in render_list("accounts", failure(username=""))


def test_hostile_failures_are_escaped() -> None:
    """Names and errors add no element."""
    html = render_list("platforms", failure(username=HOSTILE, error=HOSTILE, post_id=HOSTILE))
    assert not {"script"} & {tag for tag, _ in PageParser(html).elements}


def test_headings_and_chips_say_what_they_are_about() -> None:
    """Screen readers tell the feeds of two workspaces apart, and chips have their state as text."""
    broken = workspace("w0", feed(outcome="unavailable", error="gone"))
    html = render(broken, *(workspace(f"w{number}") for number in range(1, 5)))
    assert '<h3 aria-label="publishing of w0">' in html
    assert '<h3 aria-label="publishing of w1">' in html
    index = text_of(html.partition('<ul class="index">')[2].partition("</ul>")[0])
    assert index == "w0 failing w1 OK w2 OK w3 OK w4 OK"
    assert '<header class="top"><h1>' in html
