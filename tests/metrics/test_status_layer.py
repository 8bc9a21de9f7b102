"""The values of status feeds over those of logs, as the registry shows them."""

from __future__ import annotations

from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.series import LatestValue, Series, SeriesValue
from tests.support.exposition import FakeExposition

INFO: Series = ("late_account_info", ("acme", "tiktok", "a1"))
CONNECTED: Series = ("late_account_connected", ("acme", "tiktok", "a1"))
BOTH = ("publishing", "connections")


def value(content: float | str) -> SeriesValue:
    return SeriesValue(LatestValue(1, content), 0.0)


def create(*workspaces: str) -> tuple[SeriesRegistry, FakeExposition]:
    """Return a registry of some workspaces, and what it shows."""
    exposition = FakeExposition()
    registry = SeriesRegistry(CATALOGUE, exposition)
    for workspace in workspaces or ("acme",):
        registry.add_workspace(workspace, frozenset(BOTH))
    return registry, exposition


def test_a_status_feed_shows_before_the_first_sync() -> None:
    """The account list is shown while logs are still read; their values stay hidden, and then below it."""
    registry, exposition = create()
    registry.update({CONNECTED: value(0)})
    assert {} == exposition.values
    registry.replace_status("acme", "accounts", {CONNECTED: value(1)})
    assert {CONNECTED: 1} == exposition.values
    registry.show_feed("acme", "connections")
    assert {CONNECTED: 1} == exposition.values
    registry.replace_status("acme", "accounts", {})
    assert {CONNECTED: 0} == exposition.values


def test_hidden_values_do_not_come_back() -> None:
    """If the status feed ends before the first sync does, the value of logs is hidden as before."""
    registry, exposition = create()
    registry.update({CONNECTED: value(0)})
    registry.replace_status("acme", "accounts", {CONNECTED: value(1)})
    registry.replace_status("acme", "accounts", {})
    assert {} == exposition.values
    registry.show_feed("acme", "connections")
    assert {CONNECTED: 0} == exposition.values


def test_a_name_never_has_two_series() -> None:
    """The user name of the account list replaces that of logs, and the newest name of logs comes back."""
    registry, exposition = create()
    for feed in BOTH:
        registry.show_feed("acme", feed)
    registry.restore({INFO: value("old")})

    def names() -> set[str]:
        return {labels[-1] for _, labels in exposition.values}

    for name in ("listed", "listed", "renamed"):
        registry.replace_status("acme", "accounts", {INFO: value(name)})
        assert {name} == names()
    registry.update({INFO: value("new")})
    assert {"renamed"} == names()
    registry.replace_status("acme", "accounts", {})
    assert {"new"} == names()
    registry.update({INFO: value("newest")})
    assert {"newest"} == names()


def test_feeds_and_workspaces_are_independent() -> None:
    """A feed replaces only its own series, and a workspace that is removed takes all of its own with it."""
    registry, exposition = create("acme", "beta")
    posts: Series = ("late_posts", ("acme", "draft"))
    other: Series = ("late_posts", ("beta", "draft"))
    for workspace, series in (("acme", posts), ("beta", other)):
        registry.replace_status(workspace, "posts", {series: value(1)})
    registry.replace_status("acme", "accounts", {CONNECTED: value(1)})
    registry.replace_status("acme", "posts", {})
    assert {other, CONNECTED} == set(exposition.values)

    registry.remove_workspace("acme")
    assert {other} == set(exposition.values)
    registry.add_workspace("acme", frozenset(BOTH))
    for feed in BOTH:
        registry.show_feed("acme", feed)
    registry.restore({CONNECTED: value(0)})
    assert {other: 1, CONNECTED: 0} == exposition.values
