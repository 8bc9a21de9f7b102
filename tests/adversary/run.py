"""Run random programs for a while: ``make adversary``."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from itertools import count

from tests.adversary.checks import CHECKS, Wrong
from tests.adversary.program import MODES
from tests.adversary.scene import Totals
from tests.adversary.search import search

SECONDS = float(os.environ.get("ADVERSARY_SECONDS") or 600)
FIRST_SEED = int(os.environ.get("ADVERSARY_SEED") or time.time())
PROGRAMS = 20
"""Programs of one mode per seed."""


def main() -> int:
    """Run programs of all modes in turns until the time is over or until an interrupt.

    Print each program that finds something at once, and at the end what was tried.
    """
    totals = {mode: Totals() for mode in MODES}
    wrong: Counter[str] = Counter()
    try:
        _run_programs(totals, wrong, end=time.monotonic() + SECONDS)
    except KeyboardInterrupt:
        _say("interrupted")
    return _report(totals, wrong)


def _run_programs(totals: dict[str, Totals], wrong: Counter[str], *, end: float) -> None:
    for seed in count(FIRST_SEED):
        for mode, programs in MODES.items():
            try:
                search(programs, totals[mode], seed=seed, max_examples=PROGRAMS, end=end)
            except Wrong as exc:
                wrong[exc.check] += 1
                _say(f"seed {seed}, {mode}: {exc}", *getattr(exc, "__notes__", ()))
            if time.monotonic() >= end:
                return


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _report(totals: dict[str, Totals], wrong: Counter[str]) -> int:
    for mode, numbers in totals.items():
        _say(f"{mode}: {numbers}")
    for check, times in wrong.items():
        _say(f"wrong {times} times: {check}: {CHECKS[check]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
