"""Memory of a process that decodes one page, whatever the page contains."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from late_exporter.model import LATE, ZERNIO
from tests.support.page_memory import Measurement

pytestmark = pytest.mark.exhaustive

MAX_MEMORY = 120
"""MiB; the rest of the process and two other responses that are read at the same time have the difference to 200."""


@pytest.mark.parametrize("generation", [LATE, ZERNIO])
def test_memory_of_any_page(generation: str) -> None:
    """No page of 8 MiB needs much more memory than its text, in whichever field its content is, with log events on."""
    command = [sys.executable, "-m", "tests.support.page_memory", generation]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    measurements = [msgspec.json.decode(line, type=Measurement) for line in lines]
    assert len(measurements) > 80
    assert [] == [each for each in measurements if each.exit_code or each.peak_mib > MAX_MEMORY]
