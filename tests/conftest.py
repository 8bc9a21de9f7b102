"""Settings and fixtures of all tests."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from late_exporter.masking import SECRETS, Secrets

if TYPE_CHECKING:
    from tests.support.postgres import Cluster

# A shell ignores SIGINT in its background jobs, and a process passes an ignored signal on to its children. Tests that
# interrupt a process need the default action, also under `nohup make test &`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the time of an example depends on the machine. HYPOTHESIS_PROFILE=fast is for make unit;
# tests with a number of examples of their own scale it by tests.support.profiles. Only the thorough profile has new
# examples in every run.
settings.register_profile("default", settings.default, deadline=None, derandomize=True)
settings.register_profile("thorough", settings.default, deadline=None, derandomize=False, max_examples=1000)
settings.register_profile("fast", settings.default, deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")

SLOW_MARKERS = ("exhaustive", "thorough", "e2e", "fuzz", "container", "compose", "systemd", "helm")
"""Markers of the tests that are not unit tests."""

SLOW_FOLDERS = ("bench", "dashboards", "deploy", "e2e", "fuzz", "rules")
"""Folders of tests that share fixtures, ports or folders with the others of their file."""

E2E = Path(__file__).with_name("e2e")

SYSTEM_FILES = ("test_compose.py", "test_container.py", "test_systemd.py")
"""Files of tests that share the machine's container storage, networks and control groups."""

LONG_FILES = ("test_replay.py", "test_rules.py", "test_kill.py", *SYSTEM_FILES)
"""Files that take longest. They start right after the unit tests, so that no worker has one left at the end."""


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Forget the secrets that a test has registered, which may be parts of other tests' ids, and its log settings."""
    root = logging.getLogger()
    level = root.level
    yield
    vars(SECRETS).update(vars(Secrets()))
    root.setLevel(level)
    root.handlers[:] = [each for each in root.handlers if type(each).__module__ != "late_exporter.log"]


def skip(reason: str) -> NoReturn:
    """Skip the test, or fail it if CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true does not allow skipped tests")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Return a function that finds a program, and skips the test if it is missing, or fails it if CI=true."""
    return lambda name: shutil.which(name) or skip(f"{name} is not installed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """Start a PostgreSQL server; skip the test if there is no such program, or fail it if CI=true."""
    from tests.support.postgres import find_programs, running_cluster  # noqa: PLC0415 - most tests do not need psycopg

    programs = find_programs() or skip("postgresql is not installed; .ci/tools installs it")
    with running_cluster(programs) as cluster, pytest.MonkeyPatch.context() as patch:
        # The machine of the tests may be busy. A test of a server that hangs sets a shorter time.
        patch.setattr("late_exporter.store.postgres.SECONDS", 120.0)
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark end-to-end and unit tests, and put the unit tests first, then the files that take longest."""
    ranks: dict[pytest.Item, int] = {}
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker(pytest.mark.e2e)
        is_unit = {marker.name for marker in item.iter_markers()}.isdisjoint(SLOW_MARKERS)
        if is_unit:
            item.add_marker(pytest.mark.unit)
        ranks[item] = 0 if is_unit else 1 if item.path.name in LONG_FILES else 2
    items.sort(key=ranks.__getitem__)


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Run each unit test on any worker, but all slow tests of a file on one, and all system tests on one."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        if path.name in SYSTEM_FILES:
            return "system"
        return str(path) if path.parts[1] in SLOW_FOLDERS else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling | None:
    """Return the scheduler of ``--dist loadgroup``; that of pytest-xdist 3.8 ignores groups with pytest 9.2."""
    return FileScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
