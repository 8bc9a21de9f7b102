"""Bugs put in on purpose, each by replacing one function, to show that the adversary finds them.

This is the only file of the adversary that knows the inside of the program, and is rewritten with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pytest

from late_exporter.ingest import catch_up
from late_exporter.ingest.batch_builder import BatchBuilder
from late_exporter.ingest.pending import PendingChecks
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.scan import ScanSchedule
from late_exporter.ingest.steps import Record
from late_exporter.ingest.sweep import Cursor
from late_exporter.ingest.sync import FeedSync
from late_exporter.model import Histogram, Increment, Series, SeriesValue
from late_exporter.store import Store
from late_exporter.store.records import Batch

PutIn: TypeAlias = Callable[[pytest.MonkeyPatch], None]


class Bug(NamedTuple):
    """A bug, and how to find it.

    Args:
        mode: Programs that find it.
        checks: Checks of which one must not hold.
        put_in: Replaces the function.
    """

    mode: str
    checks: frozenset[str]
    put_in: PutIn


def _accept_any_page(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cursor, "connects", lambda *_: True)


def _forget_gaps(patch: pytest.MonkeyPatch) -> None:
    build = FeedRecorder._build_batch  # noqa: SLF001

    def build_without_gaps(self: FeedRecorder, *rest: Any) -> Batch:
        batch = build(self, *rest)
        coverage = batch.coverage and msgspec.structs.replace(batch.coverage, gaps=())
        return msgspec.structs.replace(batch, coverage=coverage)

    patch.setattr(FeedRecorder, "_build_batch", build_without_gaps)


def _stop_at_any_known_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(catch_up, "_reaches", lambda page, _: bool(page.statuses))


def _look_up_no_pending_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PendingChecks, "settle", lambda *_: iter(()))


def _never_scan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ScanSchedule, "is_due", False)


def _count_once_per_status(patch: pytest.MonkeyPatch) -> None:
    project = BatchBuilder._project  # noqa: SLF001

    def project_per_status(self: BatchBuilder, *rest: Any, **options: Any) -> Iterator[Increment]:
        for increment in project(self, *rest, **options):
            yield msgspec.structs.replace(increment, once_per_log=False)

    patch.setattr(BatchBuilder, "_project", project_per_status)


def _count_all_after_a_switch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "newest_time", lambda *_, **__: None)
    patch.setattr(catch_up, "_require_recognised", lambda *_: None)


def _lose_histograms(patch: pytest.MonkeyPatch) -> None:
    series_page = Store.series_page

    def series_page_without_histograms(
        self: Store, workspace: str, after: str, limit: int
    ) -> tuple[Mapping[Series, SeriesValue], str]:
        page, last = series_page(self, workspace, after, limit)
        return {series: value for series, value in page.items() if not isinstance(value.value, Histogram)}, last

    patch.setattr(Store, "series_page", series_page_without_histograms)


def _ignore_deletions(patch: pytest.MonkeyPatch) -> None:
    record = FeedSync._record  # noqa: SLF001

    async def record_without_deletions(self: FeedSync, step: Record) -> None:
        await record(self, msgspec.structs.replace(step, deleted_keys=()))

    patch.setattr(FeedSync, "_record", record_without_deletions)


def _prune_visible_logs(patch: pytest.MonkeyPatch) -> None:
    build = FeedRecorder._build_batch  # noqa: SLF001

    def build_with_early_pruning(self: FeedRecorder, *rest: Any) -> Batch:
        batch = build(self, *rest)
        prune_before = batch.prune_before and batch.prune_before + 4 * 86_400_000
        return msgspec.structs.replace(batch, prune_before=prune_before)

    patch.setattr(FeedRecorder, "_build_batch", build_with_early_pruning)


MISSED = frozenset({"missed", "missed by poll", "history"})

BUGS: Mapping[str, Bug] = {
    "a page that starts too low is accepted": Bug("late", MISSED, _accept_any_page),
    "a gap is forgotten": Bug("polls", MISSED, _forget_gaps),
    "a catch-up stops at any known log": Bug("polls", MISSED, _stop_at_any_known_log),
    "pending logs are not looked up": Bug("polls", frozenset({"pending at rest", "requests"}), _look_up_no_pending_log),
    "no scan starts": Bug("polls", frozenset({"scan"}), _never_scan),
    "a pause counts once per status": Bug("polls", frozenset({"values"}), _count_once_per_status),
    "a switch counts everything again": Bug("switch", frozenset({"switch"}), _count_all_after_a_switch),
    "histograms are lost in a restart": Bug("polls", frozenset({"falls", "values"}), _lose_histograms),
    "deleted logs stay pending": Bug("zernio", frozenset({"pending at rest", "requests"}), _ignore_deletions),
    "visible logs are pruned": Bug("late", frozenset({"twice", "pending"}), _prune_visible_logs),
}
