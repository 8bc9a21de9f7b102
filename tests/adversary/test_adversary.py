"""No program makes the exporter count a log twice, miss one, or serve anything that is not true."""

from __future__ import annotations

import pytest

from tests.adversary.program import MODES
from tests.adversary.search import search
from tests.adversary.trial import Totals
from tests.support.profiles import example_count

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("mode", MODES)
def test_no_program_makes_the_exporter_wrong(mode: str) -> None:
    """Random programs find no check that does not hold."""
    search(MODES[mode], Totals(), seed=1, max_examples=example_count(20, thorough=400))
