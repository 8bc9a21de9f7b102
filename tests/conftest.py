"""What all tests share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from hypothesis import settings

# A shell ignores SIGINT in its background jobs, and a process passes an ignored signal on to those it starts. Tests
# that interrupt a process need the default, also under `nohup make test &`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Finds a program by its name; without it the test is skipped, but fails where CI=true says it must be there."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI=true says that nothing is skipped")
        if found is None:
            pytest.skip(f"{name} is not installed")
        return found

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests come first: they are quick to say what is wrong."""
    items.sort(key=lambda item: any(item.get_closest_marker(name) for name in ("fuzz", "e2e")))
