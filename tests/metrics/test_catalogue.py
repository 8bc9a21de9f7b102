from __future__ import annotations

import re

import pytest

from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

RESERVED = {"le", "quantile", "instance", "job", "__name__", "exported_instance", "exported_job"}
IDS = {"log_id", "post_id", "id", "key", "message", "error", "request_id"}

PROCESS_FAMILIES = tuple(f"late_exporter_{name}" for name in ("build_info", "config_", "cluster_"))
"""Beginnings of the names of families about the process, which have no workspace."""


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_family_follows_conventions(family: Family) -> None:
    """A family has a workspace, no id of a log and no text as a label; only histograms have buckets, in order."""
    assert family.name.startswith("late_")
    assert not {*family.labels} & (RESERVED | IDS)
    assert family.name.startswith(PROCESS_FAMILIES) == ("workspace" not in family.labels[:1])
    assert (family.kind == "histogram") == bool(family.buckets)
    assert list(family.buckets) == sorted({*family.buckets} - {float("inf")})


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_help_holds_for_every_generation_of_the_api(family: Family) -> None:
    """The help is a sentence of one line, and names no field and no path."""
    assert re.fullmatch(r'[A-Z0-9][^\n\\"]{,200}\.', family.help)
    text = re.sub(r" \(X-RateLimit-[A-Za-z]+\)", "", family.help)  # a header, the same in every generation
    assert not re.search(r"[a-z][A-Z]|/v1|\b[a-z]+\.[a-z]|_id\b|[a-z]_(?:ms|at)\b", text)
