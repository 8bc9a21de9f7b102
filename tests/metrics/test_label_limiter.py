from __future__ import annotations

from itertools import product

from late_exporter.feeds.vocabulary import ACTIONS, PLATFORMS, STATUSES
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.model import IncCounter, Increment, Series, SetLatest

LOGS = "late_publishing_logs_total"
CONNECTIONS = "late_connection_events_total"
ACCOUNT_FAMILIES = {name: family for name, family in CATALOGUE.items() if "account_id" in family.labels}
OTHER_ACCOUNTS = ("late_account_logs_total", "late_account_token_refreshes_total")


def log(platform: str, action: str = "publish", status: str = "success") -> IncCounter:
    """Return the increment of a publishing log."""
    return IncCounter(LOGS, ("acme", platform, action, status))


def connection(platform: str) -> IncCounter:
    """Return the increment of a connection log."""
    return IncCounter(CONNECTIONS, ("acme", platform, "disconnect", "oauth"))


def overflow(label: str, family: str = LOGS) -> IncCounter:
    """Return the increment of the overflow counter."""
    return IncCounter("late_exporter_label_overflow_total", ("acme", family, label))


def test_values_beyond_the_limit() -> None:
    """New values are accepted up to the limit, and stay; those beyond it become other and are counted every time."""
    limiter = LabelLimiter(CATALOGUE, max_values=2)
    accepted = [log("mastodon"), log("friendica"), log("mastodon")]
    assert list(limiter.apply(accepted)) == accepted
    other = [overflow("platform"), log("other")]
    assert list(limiter.apply([log("pixelfed"), log("pixelfed")])) == [*other, *other]
    assert list(limiter.apply([log("friendica")])) == [log("friendica")]


def test_documented_values_are_not_limited() -> None:
    """Documented values, unknown and other never count towards the limit."""
    limiter = LabelLimiter(CATALOGUE, max_values=0)
    values = product((*PLATFORMS, "unknown", "other"), (*ACTIONS, "unknown"), (*STATUSES, "unknown"))
    documented = [log(*labels) for labels in values]
    assert list(limiter.apply(documented)) == documented


def test_every_label_has_its_own_limit() -> None:
    """Labels have separate limits, and several of them can overflow at once; families share the values of a label."""
    limiter = LabelLimiter(CATALOGUE, max_values=1)
    accepted = [log("p1", "a1", "s1"), connection("p1")]
    assert list(limiter.apply(accepted)) == accepted
    assert list(limiter.apply([log("p2", "a2")])) == [overflow("platform"), overflow("action"), log("other", "other")]
    assert list(limiter.apply([connection("p2")])) == [overflow("platform", CONNECTIONS), connection("other")]


def account_increments(account_id: str) -> list[Increment]:
    """Return one increment per family of accounts."""
    account = ("acme", "tiktok", account_id)
    return [
        IncCounter(name, (*account, "success")) if family.kind == "counter" else SetLatest(name, account, at=1, value=1)
        for name, family in ACCOUNT_FAMILIES.items()
    ]


def test_too_many_accounts() -> None:
    """Accounts beyond the limit are counted as other, and their gauges are dropped."""
    limiter = LabelLimiter(CATALOGUE, max_accounts=1)
    assert list(limiter.apply(account_increments("a1"))) == account_increments("a1")
    increments = list(limiter.apply(account_increments("a2")))
    counted = [IncCounter(name, ("acme", "tiktok", "other", "success")) for name in OTHER_ACCOUNTS]
    assert [each for each in increments if each.family in ACCOUNT_FAMILIES] == counted
    assert all(overflow("account_id", name) in increments for name in ACCOUNT_FAMILIES)
    assert list(limiter.apply(account_increments("a1"))) == account_increments("a1")


STATE: list[Series] = [
    (LOGS, ("acme", "p1", "publish", "success")),
    (CONNECTIONS, ("acme", "p2", "e1", "oauth")),
    ("late_account_info", ("acme", "p2", "a1")),
    ("late_account_logs_total", ("umbrella", "tiktok", "a9", "other")),
    ("late_exporter_polls_total", ("acme", "feed", "outcome")),
    ("late_family_of_an_older_version_total", ("acme", "p9")),
]


def test_a_restart_changes_no_label() -> None:
    """Stored values stay accepted, even beyond a reduced limit; new values need room."""
    limiter = LabelLimiter(CATALOGUE, max_values=1, max_accounts=1)
    limiter.restore(STATE)

    assert [limiter.limit_value("acme", "platform", name) for name in ("p1", "p2", "p3")] == ["p1", "p2", "other"]
    assert [limiter.limit_value("acme", "event", name) for name in ("e1", "e2")] == ["e1", "other"]
    assert [limiter.limit_value("acme", "account_id", name) for name in ("a1", "a2")] == ["a1", "other"]
    assert [limiter.limit_value("umbrella", "account_id", name) for name in ("a9", "a1")] == ["a9", "other"]
    assert limiter.platforms("acme") == {"p1"}
