"""Tests of the settings that all tests share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.profiles import example_count


def test_an_ignored_interrupt_is_restored() -> None:
    """Processes that tests start can be interrupted even if the shell that started the tests ignores SIGINT."""
    program = "import tests.conftest, signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    script = f"trap '' INT; exec '{sys.executable}' -c '{program}'"
    root = Path(__file__).parents[1]
    output = subprocess.run(["bash", "-c", script], cwd=root, capture_output=True, check=True, text=True)
    assert "False\n" == output.stdout


@pytest.mark.parametrize(("profile", "expected"), [("", 20), ("default", 20), ("fast", 5), ("thorough", 400)])
def test_example_count_follows_the_profile(profile: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast profile tries a quarter of the examples, the thorough one as many as the test says."""
    monkeypatch.setenv("HYPOTHESIS_PROFILE", profile)
    assert expected == example_count(20, thorough=400)
