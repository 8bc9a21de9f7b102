"""See each invariant fail: put a bug into a copy of the package for each, and run the tests that guard it.

Those are the tests that docs/development/architecture.md names. ``make promises`` runs this. It fails if they pass
although their invariant is broken, or if an invariant has no bug.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("late_exporter", "tests", "deploy", "grafana", "docs")
ARCHITECTURE = ROOT / "docs" / "development" / "architecture.md"
TIMEOUT_SECONDS = 600

ROW = re.compile(r"^\| (I\d+) \| \*\*(.+?)\.\*\* .* \| (.+) \|$", re.MULTILINE)
"""Row of the table of invariants: number, name, and tests."""

SEPARATE = ("adversary/", "e2e/")
"""Suites that are not run here: one searches, and has bugs of its own; the others need other programs."""


class Bug(NamedTuple):
    """A bug that breaks an invariant: a text of a module, and what replaces it."""

    invariant: str
    module: str
    text: str
    replacement: str


BUGS = (
    Bug(
        "I1",
        "ingest/recorder.py",
        "retention_floor=floor,",
        "retention_floor=coverage.retention_floor,",
    ),
    Bug("I2", "ingest/reader.py", "LATE_POLLS = 3", "LATE_POLLS = 3_000_000"),
    Bug(
        "I3",
        "ingest/reader.py",
        "yield from self._pending.settle(floor, budget.requests, young)",
        "self._pending.settle(floor, budget.requests, young)",
    ),
    Bug("I4", "ingest/recorder.py", "self.is_shown |= is_complete", "self.is_shown = True"),
    Bug(
        "I5",
        "store/rows.py",
        "coverage=msgspec.json.decode(coverage, type=Coverage)",
        "coverage=msgspec.structs.replace(msgspec.json.decode(coverage, type=Coverage), gaps=())",
    ),
    Bug("I6", "metrics/catalogue.py", 'starts_at_zero = kind != "gauge" and', "starts_at_zero = False and"),
    Bug("I7", "feeds/decoder.py", "if entry.created is not None or entry.rejection_reason:", "if True:"),
    Bug("I8", "metrics/label_limiter.py", "and len(accepted_values) >= self._limits[label]", "and False"),
    Bug("I9", "api/rate_limiter.py", "min(self.rate_limit * self.quota_share, rest)", "self.rate_limit"),
    Bug(
        "I10",
        "ingest/scan.py",
        "return self._has_passed(self._connection.config.reconcile_interval, self.last_scan_at)",
        "return False",
    ),
    Bug("I11", "api/plausibility.py", "if late_count > len(times) / 4 or times == sorted(times):", "if False:"),
)


class Invariant(NamedTuple):
    """A row of the table of invariants."""

    name: str
    tests: Sequence[str]


def main() -> int:
    """Break each invariant in turn; return 1 if its tests do not notice."""
    invariants = read_invariants(ARCHITECTURE.read_text("utf-8"))
    if invariants.keys() != {bug.invariant for bug in BUGS}:
        raise SystemExit(f"{ARCHITECTURE.name} has invariants {', '.join(invariants)}: each needs a bug")
    failures = 0
    with TemporaryDirectory() as folder:
        for name in FOLDERS:
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("node_modules"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        for bug in BUGS:
            invariant = invariants[bug.invariant]
            is_noticed = _is_noticed(bug, invariant.tests, Path(folder))
            failures += not is_noticed
            outcome = "fails, as it should" if is_noticed else "DOES NOT FAIL"
            sys.stdout.write(f"{outcome:<20} {bug.invariant} {invariant.name}\n")
            sys.stdout.flush()
    return 1 if failures else 0


def read_invariants(document: str) -> Mapping[str, Invariant]:
    """Return the invariants by number, with the ids of the tests that are run here."""
    invariants = {}
    for number, name, guards in ROW.findall(document):
        tests = []
        for guard in re.findall(r"`([^`]+)`", guards):
            module, _, test = guard.partition("::")
            if not module.startswith(SEPARATE):
                tests.append(f"tests/{module}.py::{test}")
        invariants[number] = Invariant(name, tests)
    return invariants


def _is_noticed(bug: Bug, tests: Sequence[str], folder: Path) -> bool:
    """Return whether one of the tests fails with the bug."""
    module = folder / "late_exporter" / bug.module
    text = module.read_text("utf-8")
    if text.count(bug.text) != 1:
        raise SystemExit(f"{bug.module}: not once in it: {bug.text}")
    module.write_text(text.replace(bug.text, bug.replacement), "utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=TIMEOUT_SECONDS)
    module.write_text(text, "utf-8")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
