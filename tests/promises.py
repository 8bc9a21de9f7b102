"""See each promise fail: put one bug into a copy of the package for each, and run the suite that guards the promise.

``make promises`` runs it. It fails if a suite passes although its promise is broken.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("late_exporter", "tests", "deploy", "grafana", "docs")
TIMEOUT_SECONDS = 300


class Promise(NamedTuple):
    """A promise, the first suite that guards it, and a bug that breaks it: a text of a module, and what replaces it."""

    name: str
    suite: str
    module: str
    text: str
    bug: str


PROMISES = (
    Promise(
        "Never twice",
        "tests/ingest/test_switch.py",
        "ingest/recorder.py",
        "retention_floor=floor,",
        "retention_floor=coverage.retention_floor,",
    ),
    Promise(
        "Never missed",
        "tests/ingest/test_window_check.py",
        "ingest/late_window.py",
        "LATE_POLLS = 3",
        "LATE_POLLS = 3_000_000",
    ),
    Promise(
        "Statuses",
        "tests/ingest/test_pending.py",
        "ingest/pending.py",
        "gone, self._missed = keys & self._missed, self._missed | keys",
        "return",
    ),
    Promise(
        "Durable before visible",
        "tests/ingest/test_after_restart.py",
        "ingest/recorder.py",
        "self.is_shown |= is_complete",
        "self.is_shown = True",
    ),
    Promise(
        "No gap after a crash",
        "tests/ingest/test_failing_requests.py",
        "store/rows.py",
        "coverage=msgspec.json.decode(coverage, type=Coverage)",
        "coverage=msgspec.structs.replace(msgspec.json.decode(coverage, type=Coverage), gaps=())",
    ),
    Promise(
        "Honest start",
        "tests/ingest/test_initial_zeros.py",
        "metrics/catalogue.py",
        'starts_at_zero = kind != "gauge" and',
        "starts_at_zero = False and",
    ),
    Promise(
        "One bad log never costs a page",
        "tests/ingest/test_exactness.py",
        "feeds/decoder.py",
        "if entry.created is not None or entry.rejection_reason:",
        "if True:",
    ),
    Promise(
        "Bounded",
        "tests/metrics/test_label_limiter.py",
        "metrics/label_limiter.py",
        "and len(accepted_values) >= self._limits[label]",
        "and False",
    ),
    Promise(
        "Polite",
        "tests/api/test_rate_limiter.py",
        "api/rate_limiter.py",
        "min(self.rate_limit * self.quota_share, rest)",
        "self.rate_limit",
    ),
    Promise(
        "Never silent",
        "tests/ingest/test_implausible_apis.py",
        "api/pages.py",
        "if late_count > len(times) / 4 or list(times) == sorted(times):",
        "if False:",
    ),
)


def main() -> int:
    """Break each promise in turn; return 1 if a suite does not notice."""
    failures = 0
    with TemporaryDirectory() as folder:
        for name in FOLDERS:
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("node_modules"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        for promise in PROMISES:
            is_noticed = _is_noticed(promise, Path(folder))
            failures += not is_noticed
            outcome = "fails, as it should" if is_noticed else "DOES NOT FAIL"
            sys.stdout.write(f"{outcome:<20} {promise.name}: {promise.suite}\n")
    return 1 if failures else 0


def _is_noticed(promise: Promise, folder: Path) -> bool:
    """Return whether the suite fails with the bug."""
    module = folder / "late_exporter" / promise.module
    text = module.read_text("utf-8")
    if text.count(promise.text) != 1:
        raise SystemExit(f"{promise.module}: not once in it: {promise.text}")
    module.write_text(text.replace(promise.text, promise.bug), "utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", promise.suite]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=TIMEOUT_SECONDS)
    module.write_text(text, "utf-8")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
