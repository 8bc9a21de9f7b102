from __future__ import annotations

import re
from itertools import pairwise

import pytest

from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

RESERVED = {"le", "quantile", "instance", "job", "__name__", "exported_instance", "exported_job"}
IDS = {"log_id", "post_id", "id", "key", "message", "error", "request_id"}


PROCESS_FAMILIES = tuple(f"late_exporter_{name}" for name in ("build_info", "config_", "cluster_"))
"""Beginnings of the names of families about the process, which have no workspace."""


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_family_follows_conventions(family: Family) -> None:
    """Every family follows the naming rules of Prometheus, and its help is one line of prose."""
    assert re.fullmatch(r"late_[a-z]+(_[a-z]+)*", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert not re.search(r"_(count|sum|bucket|created|ms|minutes|hours|milliseconds|kb)(_|$)", family.name)
    assert not family.name.endswith("_info") or family.help.startswith("1")
    assert re.fullmatch(r'[^\n\\"]+\.', family.help)
    assert len(family.help) < 200
    assert family.help == family.help.strip()
    assert family.help[0].isupper() or family.help[0].isdigit()
    for label in family.labels:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", label)
    assert not {*family.labels} & (RESERVED | IDS)
    assert len(set(family.labels)) == len(family.labels)
    assert family.name.startswith(PROCESS_FAMILIES) == ("workspace" not in family.labels[:1])


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_buckets(family: Family) -> None:
    """Only histograms have buckets, in ascending order and without +Inf."""
    assert (family.kind == "histogram") == bool(family.buckets)
    assert all(lower < upper for lower, upper in pairwise(family.buckets))
    assert all(0 < bound < float("inf") and isinstance(bound, float) for bound in family.buckets)


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_help_names_no_field_of_the_api(family: Family) -> None:
    """The help holds for every generation of the API: it names no field and no path."""
    text = re.sub(r" \(X-RateLimit-[A-Za-z]+\)", "", family.help)  # a header, the same in every generation
    assert not re.search(r"[a-z][A-Z]|/v1|\b[a-z]+\.[a-z]|_id\b|[a-z]_(?:ms|at)\b", text)
