"""Fixtures of the deployment tests: the image is built once."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.conftest import skip
from tests.deploy.container_engine import IMAGE, ROOT, TOOLS, run_engine
from tests.deploy.namespaces import run


@pytest.fixture(scope="session")
def require_root() -> Callable[[], None]:
    """Return a function that skips a test without root, or fails it if CI=true."""

    def check() -> None:
        if os.geteuid() != 0:
            skip("only root can mount file systems and make networks")

    return check


@pytest.fixture(scope="session")
def revision() -> str:
    """Return the commit that the image is built from; another one may be checked out while the tests run."""
    return run("git", "-C", ROOT, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="session")
def image(revision: str, require_root: Callable[[], None], require_tool: Callable[[str], str]) -> str:
    """Build the image with ``make image`` on a substitute base image; return its name."""
    del revision  # It is looked up right before the build.
    require_root()
    for tool in TOOLS:
        require_tool(tool)
    with run_engine(network=False) as engine:
        engine.build_debian()
        engine.build_base_image()
        engine.build_image()
    return IMAGE


@pytest.fixture(scope="session")
def helm(require_tool: Callable[[str], str]) -> str:
    """Return the path of helm."""
    return require_tool("helm")
