"""A process whose clock jumps, by libfaketime: no alert stays blind once the clock is right again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer, respond_with
from tests.e2e.program import ROOT, ExporterProcess, wait_until

pytestmark = pytest.mark.e2e

LAST_SUCCESS = "late_exporter_last_successful_poll_timestamp_seconds"
LIBRARY = "libfaketime.so.1"
DAY = 86_400.0


@pytest.fixture
def clock_file(tmp_path: Path) -> Path:
    """Return the file with the offset of the clock."""
    path = tmp_path / "clock"
    path.write_text("+0")
    return path


@pytest.fixture
def environment(clock_file: Path) -> dict[str, str]:
    """Return the environment of a process with that clock, in which timeouts still work."""
    folders = (ROOT / ".cache/tools/usr/lib", Path("/usr/lib"))
    library = next((path for folder in folders for path in folder.rglob(LIBRARY)), None)
    if library is None and os.environ.get("CI") == "true":
        pytest.fail(f"{LIBRARY} is not installed, and CI=true does not allow skipped tests")
    if library is None:
        pytest.skip(f"{LIBRARY} is not installed; .ci/tools fetches it")
    return {
        "LATE_API_KEY": KEY,
        "LD_PRELOAD": str(library.resolve()),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_offset(clock_file: Path, offset: str) -> None:
    """Let the clock jump."""
    new_file = clock_file.with_suffix(".new")
    new_file.write_text(offset)
    new_file.replace(clock_file)


def last_successes(program: ExporterProcess) -> list[float]:
    """Return the times of the last successful polls that it shows."""
    return [value for (name, _), value in program.scrape().items() if name == LAST_SUCCESS]


def failed_polls(program: ExporterProcess) -> float:
    """Return the number of polls that could not reach the API, as far as it is saved."""
    return program.scrape().sum("late_exporter_polls_total", outcome="unavailable")


def test_a_jump_of_a_month_and_back(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], clock_file: Path, environment: dict[str, str]
) -> None:
    """With the API down, the last success is in the past as soon as the clock is right, and stays there in restarts."""
    late.world.publish(40, over=600)
    program = start_exporter(env=environment).wait_ready()
    set_offset(clock_file, "+30d")
    wait_until(lambda: min(last_successes(program)) > time.time() + 29 * DAY)
    late.fault = respond_with(500)
    set_offset(clock_file, "+0")
    wait_until(lambda: max(last_successes(program)) <= time.time())
    assert len(last_successes(program)) == 2

    late.fault = None
    set_offset(clock_file, "+30d")
    wait_until(lambda: min(last_successes(program)) > time.time() + 29 * DAY)
    late.fault = respond_with(500)
    program.kill()
    set_offset(clock_file, "+0")
    program.start()
    corrected, failed_count = last_successes(program), failed_polls(program)
    assert max(corrected) <= time.time()
    wait_until(lambda: failed_polls(program) > failed_count)  # The commit of a poll saves the corrected times.
    program.kill()
    program.start()
    assert corrected == last_successes(program)
    assert 40 == program.scrape().sum("late_publishing_logs_total")
