"""How logs are counted together."""

from __future__ import annotations

import pytest

from late_exporter.metrics.counting import observe_log
from late_exporter.model import LogEntry
from late_exporter.series import (
    Exemplar,
    IncCounter,
    ObserveHistogram,
    ObserveLog,
    SetCurrent,
)
from late_exporter.store.batches import effective_increments
from late_exporter.store.records import Batch

NOW = 1_763_993_002_000


def test_increments_without_logs_apply_unchanged() -> None:
    """Increments of the exporter itself come first, and in their order, which decides the value of a gauge."""
    own = [SetCurrent("g", (), value=1.0), IncCounter("c", (), amount=0), SetCurrent("g", (), value=2.0)]
    assert [(each,) for each in own] == list(effective_increments(Batch(committed_at=0.0, increments=own), [], {}))


@pytest.mark.parametrize(("length", "count"), [(58, 1), (59, 0)])
def test_exemplars(length: int, count: int) -> None:
    """An exemplar has both ids if they are short enough, and no time of the future."""
    log = LogEntry(key="k" * 57, status="success", post_id="p" * length, created=NOW + 5, duration=7)
    increment = ObserveLog("f", (), number="duration", has_exemplar=True)
    exemplar = Exemplar((("log_id", log.key), ("post_id", log.post_id or "")), NOW / 1000)
    assert ObserveHistogram("f", (), micros=7, exemplar=exemplar if count else None) == observe_log(increment, log, NOW)
