"""Compare a log list with the recorded logs, one by one, and render the result.

The list moves while it is read, and the exporter goes on recording, so logs are compared only up to
a time at which everything should have been recorded. Logs without a time are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import CounterMismatch
from late_exporter.model import PENDING, LogEntry
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import RecordedStatus


class Difference(msgspec.Struct, frozen=True):
    """A log that is not counted in its current status, and the statuses in which it is counted."""

    kind: str
    id: str
    created: str | None
    platform: str
    action: str
    status: str
    counted_statuses: Sequence[str]


class Audit(msgspec.Struct, kw_only=True):
    """State and result of the comparison of one log list.

    Args:
        coverage: Coverage last committed.
        cutoff: Creation time in milliseconds up to which logs are compared.
        since: Logs older than this are excluded, as are those below the coverage's retention floor.
        compares_pending: Whether a log that is recorded as pending is compared; without an exporter
            it may have settled since.
        compared_keys: Keys of the logs that are recorded, or should be: not those that no poll had
            time to record, nor those in gaps, which the exporter knows to be missing.
        unrecorded: Logs that are not recorded in their current status, by key.
    """

    coverage: Coverage
    cutoff: int
    since: int = 0
    compares_pending: bool = True
    compared_keys: set[str] = msgspec.field(default_factory=set)
    unrecorded: dict[str, Difference] = msgspec.field(default_factory=dict)

    @property
    def lower(self) -> int:
        return max(self.coverage.retention_floor, self.since)

    def compare(self, entries: Sequence[LogEntry], statuses: Mapping[str, frozenset[str]]) -> None:
        """Compare the logs of a page with the statuses that are recorded."""
        for entry in entries:
            if entry.is_own or entry.created is None or entry.created < self.lower:
                continue
            recorded = statuses.get(entry.key, frozenset())
            if entry.status in recorded:
                self.unrecorded.pop(
                    entry.key, None
                )  # Pages overlap, and it was recorded in between.
            elif self._may_be_unrecorded(entry.created, recorded):
                continue
            else:
                kind, created = (
                    "status" if recorded else "missing",
                    iso_time(entry.created) or str(entry.created),
                )
                self.unrecorded[entry.key] = Difference(
                    kind,
                    entry.key,
                    created,
                    entry.platform,
                    entry.action,
                    entry.status,
                    sorted(recorded),
                )
            self.compared_keys.add(entry.key)

    def _may_be_unrecorded(self, created: int, recorded: frozenset[str]) -> bool:
        is_in_gap = any(gap.lower <= created <= gap.upper.created for gap in self.coverage.gaps)
        return (
            is_in_gap
            or created > self.cutoff
            or (PENDING in recorded and not self.compares_pending)
        )

    def settle(self, recorded: Iterable[RecordedStatus]) -> None:
        """Remove logs that are recorded by now; one that was pending may have settled before it was recorded."""
        for key, status, _ in recorded:
            if key in self.unrecorded and self.unrecorded[key].status in (status, PENDING):
                del self.unrecorded[key]


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the audit of a feed, with the fields that JSON has."""

    workspace: str
    feed: str
    ok: bool = False
    error: str = ""
    since: str = ""
    until: str = ""
    polled: bool = False
    logs: int = 0
    differences: Sequence[Difference] = ()
    mismatches: Sequence[CounterMismatch] = ()


def render_json(reports: Sequence[AuditReport]) -> Mapping[str, Any]:
    return {"ok": all(report.ok for report in reports), "feeds": msgspec.to_builtins(reports)}


def render_text(reports: Sequence[AuditReport]) -> Iterator[str]:
    for report in reports:
        count = len(report.differences) + len(report.mismatches)
        verdict = report.error or (plural(count, "difference") if count else "no difference")
        yield f"{report.workspace} {report.feed}: {verdict}"
        if not report.error:
            yield from (f"  {line}" for line in _details(report))


def _details(report: AuditReport) -> Iterator[str]:
    yield f"{plural(report.logs, 'log')} from {report.since} to {report.until} compared"
    if not report.polled:
        yield "no exporter is polling: logs that arrived or settled since its last poll are left out"
    for log in report.differences:
        statuses = (
            f"counted as {', '.join(log.counted_statuses)}"
            if log.counted_statuses
            else "not counted"
        )
        yield f"{log.kind:<7}  {log.created}  {log.platform}  {log.action}  {log.status}, {statuses}: {log.id}"
    if report.differences:
        yield "The next reconciliation of a running exporter should count them; audit again after it."
    yield from map(_mismatch_text, report.mismatches)


def _mismatch_text(mismatch: CounterMismatch) -> str:
    surplus = mismatch.actual - mismatch.expected
    comparison = f"{abs(surplus):,} {'more' if surplus > 0 else 'fewer'} than counted"
    if mismatch.family:
        reason = "Logs were counted twice." if surplus > 0 else "Logs are missing in this metric."
        return f"{mismatch.family} is {mismatch.actual:,}, {comparison}. {reason}"
    reason = (
        "These logs were never counted."
        if surplus > 0
        else "Missing records would be counted again."
    )
    return f"{plural(mismatch.actual, 'log')} stored or pruned, {comparison}. {reason}"
