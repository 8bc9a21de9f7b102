from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from late_exporter.feeds import FEEDS
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.metrics.labels import ACTIONS, EVENTS, PLATFORMS, STATUSES, LabelLimiter
from late_exporter.model import (
    AttemptOutcome,
    Exemplar,
    IncCounter,
    Increment,
    Labels,
    LogEntry,
    ObserveHistogram,
    Series,
    SetLatest,
)

OVERFLOW = "late_exporter_label_overflow_total"
LOGS = "late_publishing_logs_total"


def governor(**limits: int) -> LabelLimiter:
    """A governor that knows nothing yet."""
    return LabelLimiter(CATALOGUE, **limits)


def logs(platform: str, action: str = "publish", status: str = "success", workspace: str = "acme") -> IncCounter:
    """What a log counts."""
    return IncCounter(LOGS, (workspace, platform, action, status))


def labels(increments: Iterable[Increment], family: str = LOGS, *, born: bool = False) -> list[Labels]:
    """The labels of a family's increments, those that count or those that only bring a series into being."""
    return [i.labels for i in increments if i.family == family and (getattr(i, "amount", 1) == 0) == born]


def overflowing(increments: Iterable[Increment]) -> list[Labels]:
    """What overflowed."""
    return labels(increments, OVERFLOW)


def test_up_to_the_limit() -> None:
    """New values are let in up to the limit; past it they are other, counted as such, each time."""
    govern = governor(max_values=2).apply
    for platform in ("mastodon", "discord", "mastodon"):
        increments = list(govern([logs(platform)]))
        assert [("acme", platform, "publish", "success")] == labels(increments)
        assert [] == overflowing(increments)
    for platform in ("slack", "sms", "slack"):
        increments = list(govern([logs(platform)]))
        assert [("acme", "other", "publish", "success")] == labels(increments)
        assert [("acme", LOGS, "platform")] == overflowing(increments)
    assert [("acme", "discord", "publish", "success")] == labels(govern([logs("discord")])), "those inside stay inside"


def test_the_known_vocabulary_is_free() -> None:
    """Values that the API documents, unknown and other never count towards the limit."""
    govern = governor(max_values=0).apply
    for platform in (*PLATFORMS, "unknown", "other"):
        for action in (*ACTIONS, "unknown"):
            for status in (*STATUSES, "unknown"):
                increments = list(govern([logs(platform, action, status)]))
                assert [("acme", platform, action, status)] == labels(increments)
                assert [] == overflowing(increments)
    assert [("acme", "other", "publish", "success")] == labels(govern([logs("mastodon")]))


def test_every_label_has_its_own_limit() -> None:
    """A label that is full takes nothing from another one, and several can overflow at once."""
    govern = governor(max_values=1).apply
    assert [("acme", "p1", "a1", "s1")] == labels(govern([logs("p1", "a1", "s1")]))
    increments = list(govern([logs("p2", "a2", "success")]))
    assert [("acme", "other", "other", "success")] == labels(increments)
    assert [("acme", LOGS, "platform"), ("acme", LOGS, "action")] == overflowing(increments)


def test_workspaces_do_not_share_a_limit() -> None:
    """A workspace that is full takes nothing from another one."""
    govern = governor(max_values=1).apply
    assert [("acme", "p1", "publish", "success")] == labels(govern([logs("p1")]))
    assert [("umbrella", "p2", "publish", "success")] == labels(govern([logs("p2", workspace="umbrella")]))
    assert [("acme", "other", "publish", "success")] == labels(govern([logs("p2")]))


def test_families_share_the_values_of_a_label() -> None:
    """A platform that was let in is let in everywhere, and one that was not is other everywhere."""
    govern = governor(max_values=1).apply
    list(govern([logs("p1")]))
    events = [
        IncCounter("late_connection_events_total", ("acme", platform, "disconnect", "oauth"))
        for platform in ("p1", "p2")
    ]
    increments = list(govern(events))
    assert [("acme", "p1", "disconnect", "oauth"), ("acme", "other", "disconnect", "oauth")] == labels(
        increments, "late_connection_events_total"
    )
    assert [("acme", "late_connection_events_total", "platform")] == overflowing(increments)


@pytest.mark.parametrize("label", ["event", "method", "code", "platform"])
def test_labels_of_connections(label: str) -> None:
    """Events, methods and codes of connections are bounded as well."""
    family = "late_connection_failures_total" if label == "code" else "late_connection_events_total"
    names = CATALOGUE[family].labels
    known = {
        "workspace": "acme",
        "platform": "tiktok",
        "event": "connect_failed",
        "method": "oauth",
        "code": "oauth_denied",
    }
    govern = governor(max_values=3).apply
    seen = set()
    for number in range(10):
        values = tuple(f"x{number}" if name == label else known[name] for name in names)
        seen |= {found[names.index(label)] for found in labels(govern([IncCounter(family, values)]), family)}
    assert {"x0", "x1", "x2", "other"} == seen


def test_a_status_code_and_a_category_are_bounded_by_what_they_are() -> None:
    """Labels that the exporter makes itself are left alone."""
    govern = governor(max_values=0).apply
    family = "late_publishing_failures_total"
    for code in (*range(100, 600), "none"):
        values = ("acme", "tiktok", "publish", "unknown", str(code))
        assert [values] == labels(govern([IncCounter(family, values)]), family)


ACCOUNT_FAMILIES: dict[str, Callable[[Labels], Increment]] = {
    "late_account_logs_total": lambda account: IncCounter("late_account_logs_total", (*account, "success")),
    "late_account_info": lambda account: SetLatest("late_account_info", account, at=1, value="@acme"),
    "late_account_consecutive_failures": lambda account: AttemptOutcome(
        "late_account_consecutive_failures", account, at=1, failed=True
    ),
    "late_account_last_success_timestamp_seconds": lambda account: SetLatest(
        "late_account_last_success_timestamp_seconds", account, at=1, value=1.0
    ),
    "late_account_connected": lambda account: SetLatest("late_account_connected", account, at=1, value=1),
    "late_account_token_expiry_timestamp_seconds": lambda account: SetLatest(
        "late_account_token_expiry_timestamp_seconds", account, at=1, value=1.0
    ),
}


def of_account(number: int) -> list[Increment]:
    """One increment a family of accounts."""
    return [make(("acme", "tiktok", f"a{number}")) for make in ACCOUNT_FAMILIES.values()]


def test_the_families_of_accounts_are_all_here() -> None:
    """What is tested below is what the catalogue has."""
    assert set(ACCOUNT_FAMILIES) == {name for name, family in CATALOGUE.items() if "account_id" in family.labels}


def test_accounts_off() -> None:
    """With no accounts allowed their metrics are left out, silently, and nothing else is."""
    govern = governor(max_accounts=0).apply
    assert [] == list(govern(of_account(1)))
    assert [("acme", "tiktok", "publish", "success")] == labels(govern([logs("tiktok")]))


def test_too_many_accounts() -> None:
    """Past the limit an account is counted as other; readings of many accounts in one are left out."""
    govern = governor(max_accounts=2).apply
    for number in (1, 2):
        increments = list(govern(of_account(number)))
        assert of_account(number) == increments
    increments = list(govern(of_account(3)))
    assert [("acme", "tiktok", "other", "success")] == labels(increments, "late_account_logs_total")
    assert sorted(("acme", family, "account_id") for family in ACCOUNT_FAMILIES) == sorted(overflowing(increments))
    assert {"late_account_logs_total", OVERFLOW} == {increment.family for increment in increments}
    assert of_account(2) == list(govern(of_account(2)))


def test_an_account_that_is_unknown_takes_no_place() -> None:
    """Attempts without an account do not count towards the limit of accounts."""
    govern = governor(max_accounts=1).apply
    family = "late_account_logs_total"
    for account in ("unknown", "a1"):
        values = ("acme", "tiktok", account, "success")
        assert [values] == labels(govern([IncCounter(family, values)]), family)


def test_births_of_a_platform() -> None:
    """With its first log every action in every status of a platform comes into being, and its retries and pauses."""
    increments = list(governor().apply([logs("mastodon", "dance", "done")]))

    born = labels(increments, born=True)
    assert [("acme", "mastodon", action, status) for action in ACTIONS for status in STATUSES] == born
    assert [("acme", "mastodon", status) for status in STATUSES] == labels(
        increments, "late_publishing_retries_total", born=True
    )
    pauses = labels(increments, "late_publishing_rate_limit_pauses_total", born=True)
    assert [("acme", "mastodon")] == pauses
    assert [("acme", "mastodon", "dance", "done")] == labels(increments)
    assert logs("mastodon", "dance", "done") == increments[-1]


def test_births_until_they_are_kept() -> None:
    """Births come once a batch until the state has the platform: those of a commit that failed are not lost."""
    governing = governor()
    for _ in range(3):
        governing.start_batch()
        assert 24 == len(labels(governing.apply([logs("tiktok"), logs("tiktok")]), born=True))
    assert set() == governing.platforms("acme")

    governing.restore([(LOGS, ("acme", "tiktok", "publish", "success"))])
    for status in ("success", "failed", "failed"):
        assert [] == labels(governing.apply([logs("tiktok", status=status)]), born=True)
    assert {"tiktok"} == governing.platforms("acme")
    assert 24 == len(labels(governing.apply([logs("tiktok", workspace="umbrella")]), born=True))


def test_births_of_other() -> None:
    """The platforms past the limit are born as one."""
    born = labels(governor(max_values=0).apply([logs("mastodon")]), born=True)
    assert {"other"} == {values[1] for values in born}


def test_only_publishing_logs_give_birth() -> None:
    """A platform that is only connected is not born as one that is published to."""
    events = [IncCounter("late_connection_events_total", ("acme", "tiktok", event, "oauth")) for event in EVENTS]
    assert events == list(governor().apply(events))


STATE: list[Series] = [
    (LOGS, ("acme", "p1", "publish", "success")),
    ("late_connection_events_total", ("acme", "p2", "e1", "oauth")),
    ("late_account_info", ("acme", "p2", "a1")),
    ("late_account_logs_total", ("umbrella", "tiktok", "a9", "other")),
    ("late_exporter_polls_total", ("acme", "feed", "outcome")),
    ("late_family_of_an_older_version_total", ("acme", "p9")),
]


def test_a_restart_changes_no_label() -> None:
    """What the state has stays as it is, even beyond a limit that was lowered; what is new has to find room."""
    governing = governor(max_values=1, max_accounts=1)
    governing.restore(STATE)

    assert ["p1", "p2", "other"] == [governing.limit_value("acme", "platform", name) for name in ("p1", "p2", "p3")]
    assert ["e1", "other"] == [governing.limit_value("acme", "event", name) for name in ("e1", "e2")]
    assert ["a1", "other"] == [governing.limit_value("acme", "account_id", name) for name in ("a1", "a2")]
    assert ["a9", "other"] == [governing.limit_value("umbrella", "account_id", name) for name in ("a9", "a1")]
    assert "outcome" == governing.limit_value("acme", "outcome", "outcome")
    assert {"p1"} == governing.platforms("acme")


def test_a_restart_takes_no_place_for_what_is_known() -> None:
    """Restored values of the vocabulary, unknown and other leave the room to others."""
    governing = governor(max_values=1)
    governing.restore([(LOGS, ("acme", platform, "publish", "success")) for platform in ("tiktok", "unknown", "other")])
    assert "p1" == governing.limit_value("acme", "platform", "p1")
    assert "other" == governing.limit_value("acme", "platform", "p2")


@pytest.mark.parametrize("platform", ["tiktok", "mastodon", "too many"])
def test_observations_take_the_buckets_of_the_catalogue(platform: str) -> None:
    """An observation is measured by the bounds configured, the first time and later, and keeps the rest."""
    govern = LabelLimiter(build_catalogue((1.0, 2.0)), max_values=1).apply
    list(govern([logs("mastodon")]))
    exemplar = Exemplar((("log_id", "a"),), 1.0)
    values = ("acme", platform, "publish", "success")
    observation = ObserveHistogram("late_publishing_duration_seconds", values, micros=5, exemplar=exemplar)
    for _ in range(2):
        (found,) = [increment for increment in govern([observation]) if isinstance(increment, ObserveHistogram)]
        assert ((1.0, 2.0), 5, exemplar) == (found.bounds, found.micros, found.exemplar)
        assert ("other" if platform == "too many" else platform) == found.labels[1]


def test_once_stays_once() -> None:
    """What counts once a log still does after its labels were bounded."""
    family = "late_publishing_rate_limit_pauses_total"
    govern = governor(max_values=0).apply
    for platform in ("tiktok", "mastodon"):
        found = [i for i in govern([IncCounter(family, ("acme", platform), once_per_log=True)]) if i.family == family]
        assert [True] == [increment.once_per_log for increment in found]


def test_thousands_of_values() -> None:
    """Whatever strangers write, the number of series stays bounded and every log is in one of them."""
    governing = governor(max_values=3, max_accounts=3)
    seen: set[Series] = set()
    counted = 0
    for number in range(500):
        entry = LogEntry(
            key=f"{number}",
            status=f"s{number % 50}",
            created=number,
            platform=f"p{number}",
            action="publish",
            account_id=f"a{number}",
            duration=1,
        )
        for increment in governing.apply(FEEDS["publishing"].project("acme", entry)):
            seen.add((increment.family, increment.labels))
            counted += getattr(increment, "amount", 0) if increment.family == LOGS else 0
    assert 500 == counted
    platforms = {values[1] for family, values in seen if family == LOGS}
    assert {"p0", "p1", "p2", "other"} == platforms
    assert len(seen) < 250
