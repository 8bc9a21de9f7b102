from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from late_exporter.status import AccountHealth, FeedHealth, PlatformHealth, PollHealth, Quota, WorkspaceHealth
from late_exporter.web.landing import STYLE, FeedStatus, feed_state, problem_text, render_page, single_line, summarize

NOW = 1_763_993_002.0  # 2025-11-24 14:03:22 UTC
HOSTILE = "<script>alert('1')</script> & \"🔥\" \u202e\ud800"


def feed(name: str = "publishing", *, synced: bool = True, outcome: str | None = "success", **facts: Any) -> FeedHealth:
    """A feed that is fine but for the given facts."""
    return FeedHealth(name=name, is_synced=synced, outcome=outcome, **facts)


def workspace(name: str = "acme", *feeds: FeedHealth, **more: Any) -> WorkspaceHealth:
    """A workspace with one feed that is fine, or the given ones."""
    return WorkspaceHealth(name=name, base_url="https://getlate.dev/api", feeds=feeds or (feed(),), **more)


def platform(name: str = "tiktok", published: int = 0, failed: int = 0, **more: Any) -> PlatformHealth:
    """A platform whose final attempts were published or failed."""
    facts = {"counted_since": NOW - 86_400, "final": published + failed, **more}
    return PlatformHealth(name=name, published=published, failed=failed, **facts)


def account(username: str = "@acme", failures: int = 1, *, on: str = "instagram") -> AccountHealth:
    """An account that fails."""
    return AccountHealth(platform=on, account_id="a1", username=username, consecutive_failures=failures)


def render(*workspaces: WorkspaceHealth, telemetry_path: str = "/metrics", documentation: str = "") -> str:
    """The page at NOW."""
    return render_page(workspaces, now=NOW, version="1.2.3", telemetry_path=telemetry_path, documentation=documentation)


def rows(html: str) -> list[list[str]]:
    """The text of the table's cells, a platform a row."""
    body = html.partition("<tbody>")[2].partition("</table>")[0]
    cells = [re.split("<t[hd][^>]*>", row)[1:] for row in body.split("<tr>")[1:]]
    return [[re.sub("<[^>]+>", "", cell).strip() for cell in row] for row in cells]


def failing(*accounts: AccountHealth) -> str:
    """The line about accounts, as it reads."""
    html = render(workspace(platforms=(platform(published=1),), failing_accounts=accounts))
    found = re.search('<p class="failing bad">(.*?)</p>', html)
    return re.sub("<[^>]+>", "", found[1]).replace("&nbsp;", " ") if found else ""


class Reader(HTMLParser):
    """The elements of a page, and its text without tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keeps a text."""
        self.text += data if data.strip() else " "

    def links(self) -> list[str | None]:
        """Where the links lead."""
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]

    def titles(self) -> list[str | None]:
        """What shows when a pointer rests on something."""
        return [attributes["title"] for _, attributes in self.elements if "title" in attributes]


def fact(html: str, term: str) -> str:
    """The text beside a term of the first feed."""
    found = re.search(f"<dt>{term}</dt><dd>(.*?)</dd>", html)
    return re.sub("<[^>]+>", " ", found[1]).strip() if found else "missing"


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (FeedStatus.OK, feed()),
        (FeedStatus.CATCHING_UP, feed(gaps=1)),
        (FeedStatus.WAITING, feed(outcome=None)),
        (FeedStatus.WAITING, feed(synced=False, outcome=None)),
        (FeedStatus.SYNCING, feed(synced=False, outcome=None, logs=1)),
        (FeedStatus.SYNCING, feed(synced=False)),
        (FeedStatus.FAILING, feed(outcome="unauthorized")),
        (FeedStatus.FAILING, feed(synced=False, outcome="bad_payload", logs=1)),
    ],
)
def test_state(state: FeedStatus, health: FeedHealth) -> None:
    """A feed is failing, in its first sync, catching up, waiting or fine, in this order."""
    assert state is feed_state(health)


@pytest.mark.parametrize(
    ("tone", "sentence", "states"),
    [
        ("idle", "No feed is configured", []),
        ("ok", "The feed is polled and up to date", [FeedStatus.OK]),
        ("ok", "Both feeds are polled and up to date", [FeedStatus.OK] * 2),
        ("ok", "All 4 feeds are polled and up to date", [FeedStatus.OK] * 4),
        ("bad", "The feed has a problem", [FeedStatus.FAILING]),
        ("bad", "1 of 4 feeds has a problem", [FeedStatus.OK, FeedStatus.FAILING, FeedStatus.SYNCING, FeedStatus.OK]),
        ("bad", "2 of 3 feeds have a problem", [FeedStatus.FAILING, FeedStatus.FAILING, FeedStatus.OK]),
        ("busy", "First sync under way", [FeedStatus.SYNCING] * 2),
        ("busy", "First sync under way in 1 of 2 feeds", [FeedStatus.SYNCING, FeedStatus.WAITING]),
        ("busy", "1 of 2 feeds is catching up", [FeedStatus.CATCHING_UP, FeedStatus.OK]),
        ("idle", "Both feeds are waiting for the first poll", [FeedStatus.WAITING] * 2),
        ("ok", "All 1,200 feeds are polled and up to date", [FeedStatus.OK] * 1200),
    ],
)
def test_verdict(tone: str, sentence: str, states: list[FeedStatus]) -> None:
    """The worst state decides the sentence at the top and its colour."""
    assert (tone, sentence) == summarize(states)


def test_verdict_stands_in_title_and_page() -> None:
    """The verdict is the page's title and stands in words beside its icon."""
    html = render(workspace("acme", feed(), feed("connections", outcome="unavailable")))
    assert "<title>1 of 2 feeds has a problem - late-exporter</title>" in html
    assert '<div class="verdict bad"><svg aria-hidden="true"><use href="#bad"/></svg><div><p>1 of 2 feeds' in html


@pytest.mark.parametrize(
    ("term", "expected", "facts"),
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
        ("Logs held", "1,234,567", {"logs": 1_234_567}),
        ("Pending", "1,000", {"pending": 1000}),
        ("Gaps to read", "2", {"gaps": 2}),
        ("Coverage since", "2025-11-17 7 d 1 h ago", {"coverage_start": NOW - 7 * 86_400 - 3_700}),
        ("Coverage since", "not yet", {}),
    ],
)
def test_facts(term: str, expected: str, facts: dict[str, Any]) -> None:
    """Every fact of a feed reads as a person would say it."""
    assert expected == " ".join(fact(render(workspace("acme", feed(**facts))), term).split())


def test_absolute_times() -> None:
    """The UTC time behind a relative one is its title."""
    html = render(workspace("acme", feed(last_poll=NOW - 12)))
    assert ["2025-11-24 14:03:10 UTC"] == Reader(html).titles()
    assert "as of 14:03:22 UTC" in html


@pytest.mark.parametrize("moment", [1e30, -1e30, float("inf"), float("nan")])
def test_impossible_times(moment: float) -> None:
    """A time outside the calendar is shown as unknown, never an error."""
    health = feed(last_poll=moment, last_success=moment, next_poll=moment, coverage_start=moment, lag=moment)
    assert {"unknown"} == set(Reader(render(workspace("acme", health, quota=Quota(1, 1, moment)))).titles())


@pytest.mark.parametrize(
    ("text", "width", "tone", "quota"),
    [
        ("418 of 600 requests left resets in 23 s", "69.7%", "busy", Quota(600, 418, NOW + 23)),
        ("31 of 1,200 requests left resets in 3 s", "2.6%", "bad", Quota(1200, 31, NOW + 3)),
        ("600 of 600 requests left reset 1 min ago", "100.0%", "busy", Quota(600, 600, NOW - 60)),
        ("9 of 0 requests left resets in 3 s", "100.0%", "busy", Quota(0, 9, NOW + 3)),
        ("-1 of 60 requests left resets in 3 s", "0.0%", "bad", Quota(60, -1, NOW + 3)),
    ],
)
def test_quota(text: str, width: str, tone: str, quota: Quota) -> None:
    """The quota is said in words and drawn as a meter that turns red when little is left."""
    html = render(workspace(quota=quota))
    found = re.search(r'<div class="quota (\w+)">(.*?)<svg aria-hidden="true"><rect width="([^"]+)"', html)
    assert found is not None
    assert (tone, width) == (found[1], found[3])
    assert text == " ".join(re.sub("<[^>]+>", " ", found[2]).split())


def test_unknown_quota() -> None:
    """Before the API has told the quota the card says so."""
    assert "Quota not known yet" in render(workspace())


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("getlate.dev", "https://getlate.dev/api"),
        ("localhost:8080", "http://user:secret@localhost:8080/api"),
        ("getlate.dev", "getlate.dev"),
    ],
)
def test_host(host: str, api: str) -> None:
    """A card names the host of the API and never what stands before it."""
    html = render(WorkspaceHealth(name="acme", base_url=api, feeds=(feed(),)))
    assert f'<p class="soft">{host}, generation late</p>' in html


@pytest.mark.parametrize(
    ("expected", "health"),
    [
        ("", feed()),
        ("", feed(outcome=None)),
        ("the key was refused", feed(outcome="unauthorized", error="the key was\n refused")),
        ("The API refused the key.", feed(outcome="unauthorized")),
        ("The last poll ended as strange.", feed(outcome="strange")),
    ],
)
def test_trouble(expected: str, health: FeedHealth) -> None:
    """A problem is said in the words of its error, or in those of its outcome where there are none."""
    assert expected == problem_text(health)
    assert bool(expected) == ('<p class="error bad">' in render(workspace("acme", health)))


def test_long_text_is_cut() -> None:
    """A text is one line of at most 300 characters."""
    assert "a b" == single_line(" a\r\n\tb ")
    assert "y" * 300 == single_line("y" * 300)
    assert "y" * 299 + "…" == single_line("y" * 301)


def logs_of(name: str) -> dict[str, Any]:
    """A platform and two accounts, one of them known by its id only, that have the same text everywhere."""
    named = AccountHealth(platform=name, account_id=name, username=name, consecutive_failures=2)
    nameless = AccountHealth(platform=name, account_id=name, username="", consecutive_failures=2)
    return {"platforms": (platform(name, 1, 1),), "failing_accounts": (named, nameless)}


def test_hostile_text_is_escaped() -> None:
    """Names, hosts, errors, version and paths of any text add no element and no attribute to the page."""
    health = feed(HOSTILE, outcome=HOSTILE, error=HOSTILE)
    hostile = render_page(
        [WorkspaceHealth(name=HOSTILE, base_url=HOSTILE, feeds=(health,), **logs_of(HOSTILE))] * 5,
        now=NOW,
        version=HOSTILE,
        telemetry_path='/"><script>',
        documentation='https://example.org/"><script>',
    )
    tame = render_page(
        [WorkspaceHealth(name="a", base_url="a", feeds=(feed("a", outcome="a", error="a"),), **logs_of("a"))] * 5,
        now=NOW,
        version="a",
        telemetry_path="/a",
        documentation="https://example.org/",
    )
    shape = [(tag, list(attributes)) for tag, attributes in Reader(tame).elements]
    assert shape == [(tag, list(attributes)) for tag, attributes in Reader(hostile).elements]
    assert HOSTILE in Reader(hostile).text


def test_platforms() -> None:
    """A row says of a platform how many logs were published and failed, how many are pending, and when the last was."""
    html = render(workspace(platforms=(platform("tiktok", 1234, 66, pending=7, last_log=NOW - 3_700),)))
    assert [["tiktok", "1,234", "66", "5.1%", "", "7", "1 h ago"]] == rows(html)
    assert '<rect width="5.1%" height="4" rx="2"/>' in html
    assert "counted since 2025-11-23" in Reader(html).text
    assert ["2025-11-23 14:03:22 UTC", "2025-11-24 13:01:42 UTC"] == Reader(html).titles()


def test_platform_without_a_failure() -> None:
    """Where nothing failed there is no bar, and where no log has a time there is none to show."""
    html = render(workspace(platforms=(platform("tiktok", 5),)))
    assert [["tiktok", "5", "0", "0%", "", "0", "&ndash;"]] == rows(html)
    assert "<rect" not in html


@pytest.mark.parametrize(
    ("share", "facts"),
    [
        ("100.0%", {"failed": 1}),
        ("50.0%", {"published": 1, "failed": 2, "final": 4}),
        ("0.1%", {"published": 1999, "failed": 1}),
        ("&lt;0.1%", {"published": 2000, "failed": 1}),
        ("0%", {"published": 0}),
    ],
)
def test_share(share: str, facts: dict[str, Any]) -> None:
    """The share is that of the failed among all with a final status, and never rounds to none where some failed."""
    assert share == rows(render(workspace(platforms=(platform(**facts),))))[0][3]


def test_worst_platform_comes_first() -> None:
    """Platforms stand by share of failed, then by number of failed, then by name."""
    names = ["reddit", "twitter", "tiktok", "bluesky", "threads"]
    platforms = (
        platform("threads", 9000),
        platform("tiktok", 90, 10),
        platform("bluesky", 1),
        platform("twitter", 900, 100),
        platform("reddit", 1, 1),
    )
    assert names == [row[0] for row in rows(render(workspace(platforms=platforms)))]


def test_counting_began_with_the_first_platform() -> None:
    """The table is counted since the earliest of its platforms."""
    platforms = (platform("tiktok", 1), platform("reddit", 1, counted_since=NOW - 5 * 86_400))
    assert "counted since 2025-11-19" in Reader(render(workspace(platforms=platforms))).text


def test_many_platforms() -> None:
    """At most 20 platforms have a row; the rest is a number."""
    platforms = [platform(f"p-{number}", 1) for number in range(22)]
    assert 20 == len(rows(render(workspace(platforms=tuple(platforms)))))
    assert "and 2 more platforms" in render(workspace(platforms=tuple(platforms)))
    assert "and 1 more platform<" in render(workspace(platforms=tuple(platforms[:21])))
    assert "more platform" not in render(workspace(platforms=tuple(platforms[:20])))


def test_without_logs() -> None:
    """Without a platform there is no table and no line about accounts."""
    html = render(workspace(failing_accounts=(account(),)))
    assert "<table" not in html
    assert "Publishing by platform" not in html
    assert "failed its last publish" not in html


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
    """Accounts that fail now are named with their platform and how often in a row, by their id where nameless."""
    assert line == failing(*accounts)


def test_many_failing_accounts() -> None:
    """At most five accounts are named; the others are counted."""
    five = ", ".join(f"@{number} (instagram)" for number in range(5))
    accounts = [account(f"@{number}") for number in range(1005)]
    assert f"5 accounts failed their last publish: {five}" == failing(*accounts[:5])
    assert f"1,005 accounts failed their last publish: {five}, and 1,000 more" == failing(*accounts)


def test_table_names_its_columns() -> None:
    """The table is named by its heading, and every column and row has a header for those who cannot see it."""
    elements = Reader(render(workspace("a"), workspace("b", platforms=(platform(failed=1),)))).elements
    labels = [attributes["aria-labelledby"] for tag, attributes in elements if tag == "table"]
    assert labels == [attributes["id"] for tag, attributes in elements if tag == "h3" and "id" in attributes]
    assert ["col"] * 6 + ["row"] == [attributes["scope"] for tag, attributes in elements if tag == "th"]


def poll(ago: float, outcome: str = "success", **facts: Any) -> PollHealth:
    """A poll some seconds before NOW."""
    return PollHealth(started_at=NOW - ago, outcome=outcome, **facts)


def test_recent_polls() -> None:
    """The last polls have a row each: when, how it ended, requests, new logs, how long it took."""
    recent = (poll(5, requests=1, duration=0.012), poll(35, requests=1_024, logs=98_304, duration=65.0))
    html = render(workspace("acme", feed(recent_polls=recent)))
    assert [
        ["5 s ago", "success", "1", "0", "12 ms"],
        ["35 s ago", "success", "1,024", "98,304", "1 min 5 s"],
    ] == rows(html)
    assert "<details><summary>" in html


def test_polls_that_failed() -> None:
    """Why a poll failed stands with it; the errors before the last poll stand below, however long ago they were."""
    failed = poll(5, "unavailable", error=f"503: {HOSTILE}")
    before = poll(4000, "unauthorized")
    health = feed(outcome="unavailable", recent_polls=(failed, poll(35)), recent_failures=(failed, before))
    html = render(workspace("acme", health))
    assert "<details open>" in html
    assert f"503: {HOSTILE}" in Reader(html).titles()
    assert 1 == html.count("The API refused the key.")
    assert "1 h 6 min ago" in html
    assert "<script>" not in html


def test_no_poll_yet() -> None:
    """Before the first poll there is nothing to fold away."""
    assert "<details" not in render(workspace())


def test_problems_come_first() -> None:
    """Workspaces with a problem stand first, the others keep the order of the configuration."""
    calm = [workspace(f"calm-{number}") for number in range(4)]
    html = render(*calm, workspace("busy", feed(), feed(gaps=1)), workspace("broken", feed(outcome="unavailable")))
    names = ["broken", "busy", "calm-0", "calm-1", "calm-2", "calm-3"]
    assert names == re.findall(r"<h2[^>]*><bdi>(.*?)</bdi>", html)
    assert names == re.findall(r"<li>.*?<bdi>(.*?)</bdi>", html)


def test_index_leads_to_the_cards() -> None:
    """From five workspaces on an index links to every card, and a card's link stays when the order changes."""
    many = [workspace(f"w-{number}") for number in range(5)]
    html = render(*many[:4], workspace("w-4", feed(outcome="unavailable")))
    assert ["#w4", "#w0", "#w1", "#w2", "#w3"] == Reader(html).links()[3:]
    assert {f"w{number}" for number in range(5)} <= {attributes.get("id") for _, attributes in Reader(html).elements}
    assert ["Failing", "OK", "OK", "OK", "OK"] == Reader(html).titles()
    assert 'class="index"' not in render(*many[:4])


def test_workspace_without_feeds() -> None:
    """A workspace without feeds is no error."""
    assert "No feed is configured" in render(WorkspaceHealth(name="acme", base_url="a", feeds=()))


def test_links() -> None:
    """The links are relative, so that they hold behind a proxy's prefix; documentation only where it is known."""
    assert ["./metrics", "./-/healthy", "./-/ready"] == Reader(render()).links()
    assert ["./my%20path", "./-/healthy", "./-/ready", "https://example.org/?a&b"] == Reader(
        render(telemetry_path="/my path", documentation="https://example.org/?a&b")
    ).links()


def test_page_needs_nothing_else() -> None:
    """There is no script, no inline style, no handler, and nothing to load but the icon in the page itself."""
    elements = Reader(render(workspace(quota=Quota(600, 60, NOW), **logs_of("a")))).elements
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in elements}
    assert not [name for _, attributes in elements for name in attributes if name == "style" or name.startswith("on")]
    loads = [attributes.get("href") or attributes.get("src") for tag, attributes in elements if tag not in {"a", "use"}]
    assert ["data:"] == [load[:5] for load in loads if load]
    assert not re.search(r"url\(|@import", STYLE)


def test_sizes() -> None:
    """The page is small: below 24 kB for one workspace with 13 platforms, below 340 kB for thirty."""
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
    assert len(render(*[full] * 30).encode()) < 340_000
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
    pairs += [(tone, f"{tone}-tint") for tone in ("ok", "busy", "bad", "idle")]
    pairs += [("text", f"{tone}-tint") for tone in ("ok", "busy", "bad", "idle")]
    ratios = {(a, b): (max(shades[a], shades[b]) + 0.05) / (min(shades[a], shades[b]) + 0.05) for a, b in pairs}
    assert {} == {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5}
