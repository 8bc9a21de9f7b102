"""Settings and fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from hypothesis import settings

# A shell ignores SIGINT in its background jobs, and a process passes an ignored signal on to its children. Tests that
# interrupt a process need the default action, also under `nohup make test &`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the time of an example depends on the machine. HYPOTHESIS_PROFILE=fast is for make unit and
# for the slow make test-future; tests with a number of examples of their own scale it by tests.support.profiles.
settings.register_profile("default", settings.default, deadline=None)
settings.register_profile("thorough", settings.default, deadline=None, max_examples=1000)
settings.register_profile("fast", settings.default, deadline=None, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")

SLOW_MARKERS = ("e2e", "fuzz", "container", "compose", "systemd", "kubernetes", "helm")
"""Markers of the tests that are not unit tests."""

SYSTEM_MARKERS = ("container", "compose", "systemd")
"""Markers of the tests that share the machine's container storage, networks and control groups."""

LONG_GROUPS = (
    "system",
    "tests/e2e/test_alerts.py",
    "tests/dashboards/test_browser.py",
    "tests/rules/test_rules.py",
    "tests/e2e/test_kill.py",
)
"""The groups that take longest. They start first, so that no worker is left alone with one at the end."""


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Return a function that finds a program, and skips the test if it is missing, or fails it if CI=true."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI=true does not allow skipped tests")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark unit tests, put them first, and group all others for pytest-xdist.

    Unit tests are independent of each other and run on any worker. The tests of one file share fixtures, ports or
    folders otherwise, so that a file is one group, which runs on one worker.
    """
    ranks: dict[pytest.Item, int] = {}
    for item in items:
        group = _group(item)
        item.add_marker(pytest.mark.xdist_group(group) if group else pytest.mark.unit)
        if not group:
            ranks[item] = 0
        else:
            ranks[item] = 1 + (LONG_GROUPS.index(group) if group in LONG_GROUPS else len(LONG_GROUPS))
    items.sort(key=ranks.__getitem__)


def _group(item: pytest.Item) -> str | None:
    markers = {marker.name for marker in item.iter_markers()}
    if markers.isdisjoint(SLOW_MARKERS):
        return None
    return item.nodeid.partition("::")[0] if markers.isdisjoint(SYSTEM_MARKERS) else "system"
