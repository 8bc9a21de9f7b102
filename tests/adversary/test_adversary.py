"""No program makes the exporter count a log twice, miss one, or serve anything that is not true."""

from __future__ import annotations

import pytest

from tests.adversary.checks import NOT_YET
from tests.adversary.counterexamples import COUNTEREXAMPLES
from tests.adversary.program import MODES
from tests.adversary.scene import Totals
from tests.adversary.search import search
from tests.adversary.trial import run_program
from tests.support.profiles import example_count

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("mode", MODES)
def test_no_program_makes_the_exporter_wrong(mode: str) -> None:
    """Random programs find no check that does not hold."""
    search(MODES[mode], Totals(), seed=1, max_examples=example_count(5, thorough=400))


@pytest.mark.parametrize("check", sorted(COUNTEREXAMPLES.keys() | NOT_YET.keys()))
def test_a_counterexample(check: str) -> None:
    """Counterexamples hold, or are listed as not holding yet."""
    totals = Totals()
    run_program(COUNTEREXAMPLES[check], totals)
    assert (check in NOT_YET) == bool(totals.not_yet[check])
