"""Search for programs that make the exporter wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.strategies import SearchStrategy

from tests.adversary.checks import Wrong
from tests.adversary.program import Program
from tests.adversary.scene import Totals
from tests.adversary.trial import run_program


def search(
    programs: SearchStrategy[Program],
    totals: Totals,
    *,
    seed: int,
    max_examples: int,
    shrinks: bool = True,
    end: float = math.inf,
    create_state: Callable[[], str | None] = lambda: None,
) -> None:
    """Run random programs, the same ones for the same seed, until ``end``, a monotonic time, unless one has failed.

    ``create_state`` returns the URL of the state of a program, or None for a file.

    Raises:
        Wrong: A check does not hold; the notes of the error have the program, as short as possible if ``shrinks``.
    """
    has_failed = False

    @with_seed(seed)
    @settings(
        max_examples=max_examples,
        phases=[Phase.generate, Phase.shrink] if shrinks else [Phase.generate],
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs)
    def run(program: Program) -> None:
        nonlocal has_failed
        if time.monotonic() >= end and not has_failed:
            return
        try:
            run_program(program, totals, create_state())
        except Wrong:
            has_failed = True
            raise

    run()
