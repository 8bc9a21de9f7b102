"""Memory of a process that decodes one page, whatever the page contains."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from late_exporter.model import LATE, ZERNIO

pytestmark = [pytest.mark.exhaustive, pytest.mark.thorough]


@pytest.mark.parametrize("generation", [LATE, ZERNIO])
def test_memory_of_any_page(generation: str) -> None:
    """No page of 2 MiB needs much more memory than its text, in whichever field its content is."""
    command = [sys.executable, "-m", "tests.support.page_memory", generation]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(r"\d{2,} pages\n", output), output
