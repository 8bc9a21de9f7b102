"""What an audit has found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from late_exporter.ingest.audit import CounterMismatch, Difference, count_extra, count_missing
from late_exporter.model import FeedAccounting

__all__ = ["AuditReport", "render_json", "render_text"]

MAX_LINES = 50


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit of a feed has found.

    Args:
        since, until: The logs compared were created between these; milliseconds.
        error: Why nothing could be compared; empty where it could.
        polled: An exporter was polling meanwhile.
        reconciled: A whole reconcile walk has passed between the two looks.
        logs: Compared.
        requests, seconds: What it took.
        tally: The books of the state.
        too_recent: Logs too new to be judged.
        in_gap: Logs that the exporter itself knows to be missing, and will read.
        deleted: Logs on record that the API no longer shows.
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
    imbalances: Sequence[CounterMismatch] = ()
    tally: FeedAccounting = FeedAccounting(observation_count=0, stored_count=0, pruned_count=0, series_values={})
    too_recent: int = 0
    in_gap: int = 0
    deleted: int = 0

    @property
    def ok(self) -> bool:
        """Whether all could be compared and nothing differs."""
        return not self.error and not self.differences and not self.imbalances


def render_text(reports: Sequence[AuditReport]) -> Iterator[str]:
    """The reports for people, line by line."""
    for number, report in enumerate(reports):
        if number:
            yield ""
        yield f"{report.workspace} {report.feed}: {_verdict(report)}"
        if not report.error:
            yield from (f"  {line}" for line in _details(report))


def _verdict(report: AuditReport) -> str:
    if report.error:
        return report.error
    if report.ok:
        return "no difference"
    found = len(report.differences) + len(report.imbalances)
    return "1 difference" if found == 1 else f"{found:,} differences"


def _details(report: AuditReport) -> Iterator[str]:
    logs, requests, tally = _count(report.logs, "log"), _count(report.requests, "request"), report.tally
    yield (
        f"{logs} from {_moment(report.since)} to {_moment(report.until)} compared, {requests}, {report.seconds:.1f} s"
    )
    yield f"{tally.observation_count:,} counted in all: {tally.stored_count:,} on record, {tally.pruned_count:,} forgotten by age"
    yield from _remarks(report)
    yield from _rows(report.differences)
    yield from _hint(report)
    for imbalance in report.imbalances:
        yield _mismatch_text(imbalance)


def _remarks(report: AuditReport) -> Iterator[str]:
    """What is no difference, and good to know."""
    if not report.polled:
        yield "no exporter polls: what came or settled since its last poll is left out"
    if report.in_gap:
        yield f"{_count(report.in_gap, 'log')} in a gap that the exporter knows of and will read"
    if report.too_recent:
        yield f"{_count(report.too_recent, 'log')} too new to be judged"
    if report.deleted:
        yield f"{_count(report.deleted, 'log')} on record that the API no longer shows: deleted there"


def _rows(differences: Sequence[Difference]) -> Iterator[str]:
    """A line a difference, in columns, and how many more there are."""
    rows = [_cells(difference) for difference in differences[:MAX_LINES]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
    if len(differences) > MAX_LINES:
        yield f"and {len(differences) - MAX_LINES:,} more; --format json names them all"


def _cells(difference: Difference) -> tuple[str, ...]:
    entry, counted = difference.entry, sorted(difference.recorded_statuses)
    return (
        "status" if counted else "missing",
        _moment(entry.created),
        entry.platform,
        entry.action,
        entry.status,
        f"counted as {', '.join(counted)}" if counted else "not counted",
        entry.key,
    )


def _hint(report: AuditReport) -> Iterator[str]:
    if not report.differences:
        return
    if report.reconciled:
        yield "A whole reconcile walk has passed them by: this is a bug, please report it with these lines."
    elif report.polled:
        yield "The next reconcile walk should count them; audit again after it, or with a longer --wait."
    else:
        yield "The exporter should count them once it runs; audit again after its first reconcile walk."


def _mismatch_text(imbalance: CounterMismatch) -> str:
    off = imbalance.actual - imbalance.expected
    many, number = ("more", off) if off > 0 else ("less", -off)
    if imbalance.family:
        what = "were counted twice" if off > 0 else "are not counted"
        return f"{imbalance.family} says {imbalance.actual:,}, {number:,} {many} than were counted: they {what}."
    what = "were never counted" if off > 0 else "are lost, and count twice when met again"
    return f"Records and forgotten make {imbalance.actual:,}, {number:,} {many} than were counted: they {what}."


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _moment(created: int | None) -> str:
    """A time in UTC, as the API writes it."""
    if created is None:
        return "-"
    try:
        return datetime.fromtimestamp(created / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(created)


def render_json(reports: Sequence[AuditReport]) -> str:
    """The reports for programs: one object, whose fields the README names."""
    return msgspec.json.encode(
        {
            "ok": all(report.ok for report in reports),
            "missing": sum(count_missing(report.differences, report.imbalances) for report in reports),
            "extra": sum(count_extra(report.imbalances) for report in reports),
            "feeds": [_to_dict(report) for report in reports],
        }
    ).decode()


def _to_dict(report: AuditReport) -> dict[str, Any]:
    return {
        "workspace": report.workspace,
        "feed": report.feed,
        "ok": report.ok,
        "error": report.error,
        "since": _moment(report.since),
        "until": _moment(report.until),
        "polled": report.polled,
        "reconciled": report.reconciled,
        "logs": report.logs,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
        "counted": report.tally.observation_count,
        "stored": report.tally.stored_count,
        "pruned": report.tally.pruned_count,
        "too_recent": report.too_recent,
        "in_gap": report.in_gap,
        "deleted": report.deleted,
        "differences": [
            {
                "kind": "status" if difference.recorded_statuses else "missing",
                "id": difference.entry.key,
                "created": _moment(difference.entry.created) if difference.entry.created is not None else None,
                "platform": difference.entry.platform,
                "action": difference.entry.action,
                "status": difference.entry.status,
                "counted": sorted(difference.recorded_statuses),
            }
            for difference in report.differences
        ],
        "imbalances": [
            {"metric": imbalance.family or "records", "expected": imbalance.expected, "found": imbalance.actual}
            for imbalance in report.imbalances
        ],
    }
