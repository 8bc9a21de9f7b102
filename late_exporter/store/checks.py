"""Checks of a state; the same for every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import msgspec

from late_exporter.metrics.aggregation import decode_value
from late_exporter.series import Labels
from late_exporter.store.copying import TABLES, RowSource


def inconsistencies(state: RowSource) -> Iterator[str]:
    """Compare the counts of every feed with the rows that they count, and decode every series; yield the problems."""
    for workspace in state.workspaces:
        yield from _wrong_counts(state, workspace)
    for family, labels, value, *_ in state.rows("series"):
        try:
            msgspec.json.decode(labels, type=Labels)
            decode_value(value)
        except msgspec.MsgspecError as exc:
            yield f"{family} {labels}: the value cannot be decoded: {exc}"


def _wrong_counts(state: RowSource, workspace: str) -> Iterator[str]:
    names = [workspace]
    feeds = {row[0]: dict(zip(TABLES["scope"].columns, row, strict=True)) for row in state.rows("scope", names)}
    stored = Counter[int]()
    unknown_pending = {(scope, key) for scope, key, *_ in state.rows("pending", names)}
    for (scope, key), _ in groupby(state.rows("observation", names), itemgetter(0, 1)):
        stored[scope] += 1
        unknown_pending.discard((scope, key))
    pending = Counter(scope for scope, _ in unknown_pending)
    for scope, feed in feeds.items():
        name = f"{workspace}/{feed['feed']}"
        if stored[scope] != feed["logs"]:
            yield f"{name}: the log count is {feed['logs']:,}, but {stored[scope]:,} logs are stored"
        if pending[scope]:
            yield f"{name}: {pending[scope]:,} pending logs are not stored as counted"
