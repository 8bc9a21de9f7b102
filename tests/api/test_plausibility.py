"""Checks of what a list answers."""

from __future__ import annotations

from inspect import getmembers, isfunction

from late_exporter.api import plausibility
from tests.ingest.test_implausible_apis import ODDITIES


def test_every_check_is_tested_with_an_odd_list() -> None:
    """Switched off, a check fails its case in test_an_odd_list_fails_the_poll."""
    checks = {name for name, _ in getmembers(plausibility, isfunction) if name.startswith("check_")}
    assert checks - ODDITIES.keys() == set()
