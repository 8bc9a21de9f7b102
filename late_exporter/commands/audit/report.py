"""Render the results of an audit as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from late_exporter.commands.audit.comparison import Difference
from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import CounterMismatch, count_extra, count_missing
from late_exporter.store.records import FeedAccounting

MAX_LINES = 50  # differences that are listed as text; JSON has all of them


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the audit of a feed.

    Args:
        error: Reason why nothing could be compared, or an empty string.
        since: Creation time of the oldest logs compared, in milliseconds.
        until: Creation time of the newest logs compared, in milliseconds.
        polled: Whether an exporter was polling during the audit.
        reconciled: Whether a reconciliation completed after the comparison.
        differences: Logs that are not counted in the status that the API shows.
        mismatches: Counters that do not add up.
        too_recent: Number of logs that no poll could have counted yet.
        in_gap: Number of logs in gaps, which the exporter will read.
        deleted: Number of stored logs that the API no longer shows.
    """

    workspace: str
    feed: str
    error: str = ""
    since: int = 0
    until: int = 0
    polled: bool = False
    reconciled: bool = False
    logs: int = 0
    requests: int = 0
    seconds: float = 0.0
    differences: Sequence[Difference] = ()
    mismatches: Sequence[CounterMismatch] = ()
    accounting: FeedAccounting = FeedAccounting(observation_count=0, stored_count=0, pruned_count=0, series_values={})
    too_recent: int = 0
    in_gap: int = 0
    deleted: int = 0

    @property
    def ok(self) -> bool:
        return not self.error and not self.differences and not self.mismatches


def render_text(reports: Sequence[AuditReport]) -> Iterator[str]:
    for index, report in enumerate(reports):
        if index:
            yield ""
        yield f"{report.workspace} {report.feed}: {_verdict(report)}"
        if not report.error:
            yield from (f"  {line}" for line in _details(report))


def _verdict(report: AuditReport) -> str:
    if report.error:
        return report.error
    if report.ok:
        return "no difference"
    return plural(len(report.differences) + len(report.mismatches), "difference")


def _details(report: AuditReport) -> Iterator[str]:
    accounting = report.accounting
    yield (
        f"{plural(report.logs, 'log')} from {_time_text(report.since)} to {_time_text(report.until)} compared, "
        f"{plural(report.requests, 'request')}, {report.seconds:.1f} s"
    )
    yield (
        f"{accounting.observation_count:,} counted in total: {accounting.stored_count:,} stored, "
        f"{accounting.pruned_count:,} pruned"
    )
    yield from _notes(report)
    yield from _difference_lines(report.differences)
    yield from _hint(report)
    for mismatch in report.mismatches:
        yield _mismatch_text(mismatch)


def _notes(report: AuditReport) -> Iterator[str]:
    if not report.polled:
        yield "no exporter is polling: logs that arrived or settled since its last poll are left out"
    if report.in_gap:
        yield f"{plural(report.in_gap, 'log')} in a gap that the exporter will read"
    if report.too_recent:
        yield f"{plural(report.too_recent, 'log')} too recent to compare"
    if report.deleted:
        yield f"{plural(report.deleted, 'stored log')} deleted by the API"


def _difference_lines(differences: Sequence[Difference]) -> Iterator[str]:
    rows = [_cells(difference) for difference in differences[:MAX_LINES]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
    if len(differences) > MAX_LINES:
        yield f"and {len(differences) - MAX_LINES:,} more; use --format json to list them all"


def _cells(difference: Difference) -> tuple[str, ...]:
    entry, recorded_statuses = difference.entry, sorted(difference.recorded_statuses)
    return (
        "status" if recorded_statuses else "missing",
        _time_text(entry.created),
        entry.platform,
        entry.action,
        entry.status,
        f"counted as {', '.join(recorded_statuses)}" if recorded_statuses else "not counted",
        entry.key,
    )


def _hint(report: AuditReport) -> Iterator[str]:
    if not report.differences:
        return
    if report.reconciled:
        yield "A complete reconciliation did not count them: this is a bug, please report it with these lines."
    elif report.polled:
        yield "The next reconciliation should count them; audit again after it, or with a longer --wait."
    else:
        yield "The exporter should count them once it runs; audit again after its first reconciliation."


def _mismatch_text(mismatch: CounterMismatch) -> str:
    surplus = mismatch.actual - mismatch.expected
    comparison = f"{abs(surplus):,} {'more' if surplus > 0 else 'fewer'} than counted"
    if mismatch.family:
        reason = "Logs were counted twice." if surplus > 0 else "Logs are missing in this metric."
        return f"{mismatch.family} is {mismatch.actual:,}, {comparison}. {reason}"
    reason = "These logs were never counted." if surplus > 0 else "Missing records would be counted again."
    return f"{plural(mismatch.actual, 'log')} stored or pruned, {comparison}. {reason}"


def _time_text(created: int | None) -> str:
    return "-" if created is None else iso_time(created) or str(created)


def render_json(reports: Sequence[AuditReport]) -> str:
    return msgspec.json.encode(
        {
            "ok": all(report.ok for report in reports),
            "missing": sum(count_missing(len(report.differences), report.mismatches) for report in reports),
            "extra": sum(count_extra(report.mismatches) for report in reports),
            "feeds": [_to_dict(report) for report in reports],
        }
    ).decode()


def _to_dict(report: AuditReport) -> dict[str, Any]:
    return {
        "workspace": report.workspace,
        "feed": report.feed,
        "ok": report.ok,
        "error": report.error,
        "since": _time_text(report.since),
        "until": _time_text(report.until),
        "polled": report.polled,
        "reconciled": report.reconciled,
        "logs": report.logs,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
        "counted": report.accounting.observation_count,
        "stored": report.accounting.stored_count,
        "pruned": report.accounting.pruned_count,
        "too_recent": report.too_recent,
        "in_gap": report.in_gap,
        "deleted": report.deleted,
        "differences": [
            {
                "kind": "status" if difference.recorded_statuses else "missing",
                "id": difference.entry.key,
                "created": None if difference.entry.created is None else _time_text(difference.entry.created),
                "platform": difference.entry.platform,
                "action": difference.entry.action,
                "status": difference.entry.status,
                "counted": sorted(difference.recorded_statuses),
            }
            for difference in report.differences
        ],
        "imbalances": [
            {"metric": mismatch.family or "records", "expected": mismatch.expected, "found": mismatch.actual}
            for mismatch in report.mismatches
        ],
    }
