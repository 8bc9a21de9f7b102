from __future__ import annotations

from collections.abc import Iterable

from late_exporter.feeds.vocabulary import ACTIONS, PLATFORMS, STATUSES
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.model import (
    IncCounter,
    Increment,
    Labels,
    Series,
    SetLatest,
)

OVERFLOW = "late_exporter_label_overflow_total"
LOGS = "late_publishing_logs_total"


def create_limiter(**limits: int) -> LabelLimiter:
    """Create an empty limiter."""
    return LabelLimiter(CATALOGUE, **limits)


def count_log(platform: str, action: str = "publish", status: str = "success", workspace: str = "acme") -> IncCounter:
    """Return the increment of a log."""
    return IncCounter(LOGS, (workspace, platform, action, status))


def labels_of(increments: Iterable[Increment], family: str = LOGS) -> list[Labels]:
    """Return the labels of a family's increments."""
    return [each.labels for each in increments if each.family == family]


def overflow_labels(increments: Iterable[Increment]) -> list[Labels]:
    """Return the labels of the overflow counter."""
    return labels_of(increments, OVERFLOW)


def test_values_beyond_the_limit() -> None:
    """New values are accepted up to the limit; values beyond it become other and are counted every time."""
    apply = create_limiter(max_values=2).apply
    for platform in ("mastodon", "friendica", "mastodon"):
        increments = list(apply([count_log(platform)]))
        assert labels_of(increments) == [("acme", platform, "publish", "success")]
        assert overflow_labels(increments) == []
    for platform in ("pixelfed", "diaspora", "pixelfed"):
        increments = list(apply([count_log(platform)]))
        assert labels_of(increments) == [("acme", "other", "publish", "success")]
        assert overflow_labels(increments) == [("acme", LOGS, "platform")]
    assert labels_of(apply([count_log("friendica")])) == [("acme", "friendica", "publish", "success")], (
        "accepted values stay accepted"
    )


def test_documented_values_are_not_limited() -> None:
    """Documented values, unknown and other never count towards the limit."""
    apply = create_limiter(max_values=0).apply
    for platform in (*PLATFORMS, "unknown", "other"):
        for action in (*ACTIONS, "unknown"):
            for status in (*STATUSES, "unknown"):
                increments = list(apply([count_log(platform, action, status)]))
                assert labels_of(increments) == [("acme", platform, action, status)]
                assert overflow_labels(increments) == []
    assert labels_of(apply([count_log("mastodon")])) == [("acme", "other", "publish", "success")]


def test_every_label_has_its_own_limit() -> None:
    """Labels have separate limits, and several of them can overflow at once."""
    apply = create_limiter(max_values=1).apply
    assert labels_of(apply([count_log("p1", "a1", "s1")])) == [("acme", "p1", "a1", "s1")]
    increments = list(apply([count_log("p2", "a2", "success")]))
    assert labels_of(increments) == [("acme", "other", "other", "success")]
    assert overflow_labels(increments) == [("acme", LOGS, "platform"), ("acme", LOGS, "action")]


def test_families_share_the_values_of_a_label() -> None:
    """A value is accepted or replaced in all families alike."""
    apply = create_limiter(max_values=1).apply
    list(apply([count_log("p1")]))
    events = [
        IncCounter("late_connection_events_total", ("acme", platform, "disconnect", "oauth"))
        for platform in ("p1", "p2")
    ]
    increments = list(apply(events))
    assert labels_of(increments, "late_connection_events_total") == [
        ("acme", "p1", "disconnect", "oauth"),
        ("acme", "other", "disconnect", "oauth"),
    ]
    assert overflow_labels(increments) == [("acme", "late_connection_events_total", "platform")]


ACCOUNT_FAMILIES = {name: family for name, family in CATALOGUE.items() if "account_id" in family.labels}


def account_increments(number: int) -> list[Increment]:
    """Return one increment per family of accounts."""
    account = ("acme", "tiktok", f"a{number}")
    return [
        IncCounter(name, (*account, "success")) if family.kind == "counter" else SetLatest(name, account, at=1, value=1)
        for name, family in ACCOUNT_FAMILIES.items()
    ]


def test_too_many_accounts() -> None:
    """Accounts beyond the limit are counted as other, and their gauges are dropped."""
    apply = create_limiter(max_accounts=2).apply
    for number in (1, 2):
        increments = list(apply(account_increments(number)))
        assert account_increments(number) == increments
    increments = list(apply(account_increments(3)))
    counters = {"late_account_logs_total", "late_account_token_refreshes_total"}
    for family in counters:
        assert labels_of(increments, family) == [("acme", "tiktok", "other", "success")]
    assert sorted(("acme", family, "account_id") for family in ACCOUNT_FAMILIES) == sorted(overflow_labels(increments))
    assert {increment.family for increment in increments} == {*counters, OVERFLOW}
    assert account_increments(2) == list(apply(account_increments(2)))


STATE: list[Series] = [
    (LOGS, ("acme", "p1", "publish", "success")),
    ("late_connection_events_total", ("acme", "p2", "e1", "oauth")),
    ("late_account_info", ("acme", "p2", "a1")),
    ("late_account_logs_total", ("umbrella", "tiktok", "a9", "other")),
    ("late_exporter_polls_total", ("acme", "feed", "outcome")),
    ("late_family_of_an_older_version_total", ("acme", "p9")),
]


def test_a_restart_changes_no_label() -> None:
    """Stored values stay accepted, even beyond a reduced limit; new values need room."""
    limiter = create_limiter(max_values=1, max_accounts=1)
    limiter.restore(STATE)

    assert [limiter.limit_value("acme", "platform", name) for name in ("p1", "p2", "p3")] == ["p1", "p2", "other"]
    assert [limiter.limit_value("acme", "event", name) for name in ("e1", "e2")] == ["e1", "other"]
    assert [limiter.limit_value("acme", "account_id", name) for name in ("a1", "a2")] == ["a1", "other"]
    assert [limiter.limit_value("umbrella", "account_id", name) for name in ("a9", "a1")] == ["a9", "other"]
    assert limiter.limit_value("acme", "outcome", "outcome") == "outcome"
    assert limiter.platforms("acme") == {"p1"}
