"""No program makes the exporter count a log twice, miss one, or serve anything that is not true."""

from __future__ import annotations

import pytest

from tests.adversary.bugs import BUGS
from tests.adversary.checks import Wrong
from tests.adversary.program import MODES
from tests.adversary.scene import Totals
from tests.adversary.search import search
from tests.support.postgres import Cluster
from tests.support.profiles import example_count

pytestmark = pytest.mark.exhaustive

SEEDS, MAX_PROGRAMS = (14, 3, 1, 2, 6, 8, 13), 12
"""Seeds, and programs of each, within which each bug is found."""


@pytest.mark.parametrize("mode", MODES)
def test_no_program_makes_the_exporter_wrong(mode: str) -> None:
    """Random programs find no check that does not hold."""
    search(MODES[mode], Totals(), seed=1, max_examples=example_count(4, thorough=400))


@pytest.mark.e2e
def test_no_program_makes_the_exporter_wrong_in_postgresql(postgres: Cluster) -> None:
    """Nor with the state in PostgreSQL."""
    programs = example_count(2, thorough=100)
    search(MODES["late"], Totals(), seed=2, max_examples=programs, create_state=postgres.create_schema)


@pytest.mark.thorough
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bug that is put in on purpose makes a check fail within a few programs."""
    bug = BUGS[name]
    bug.put_in(monkeypatch)
    with pytest.raises(Wrong) as caught:  # noqa: PT012 - the programs of a seed may miss the bug, those of all do not
        for seed in SEEDS:
            search(MODES[bug.mode], Totals(), seed=seed, max_examples=MAX_PROGRAMS, shrinks=False)
    assert caught.value.check in bug.checks
