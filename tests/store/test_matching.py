from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from late_exporter.model import LogEntry
from late_exporter.store.matching import StoredLogs, interim_key, match_logs, time_prefix, undecided_times
from late_exporter.store.uncommitted import NO_UNCOMMITTED_LOGS, UncommittedLogs

TIME = f"{1_730_455_200_000:013d}-"
FINGERPRINT, OTHER = "0123456789ab", "ba9876543210"


def late_key(name: str, fingerprint: str = FINGERPRINT) -> str:
    """Return the interim key of a log of generation late."""
    return interim_key(name, 1_730_455_200_000, fingerprint)


def zernio_log(number: int, status: str = "success", fingerprint: str = FINGERPRINT) -> LogEntry:
    """Return a log without an id."""
    return LogEntry(key=f"{TIME}{fingerprint}=fine.{number}", status=status)


def with_id(name: str, status: str = "success") -> LogEntry:
    """Return a log with an id."""
    return LogEntry(key=f"{TIME}{FINGERPRINT}#{name}", status=status)


ONE, TWO = zernio_log(0), zernio_log(1)
PENDING, SUCCESS, FAILED, RECONNECTED = (
    MappingProxyType({status: None}) for status in ("pending", "success", "failed", "reconnect_success")
)
OTHER_DIGEST, SAME_DIGEST = {"success": "a"}, {"success": "d"}
THIRD = {"success": "t"}
CONFLICTING = [
    LogEntry(key=f"{at:013d}-{FINGERPRINT}=fine.0", status="success", status_fingerprint=f"x{at}") for at in range(3)
]
MANY = {interim_key(f"i{at}", at, FINGERPRINT): {"success": f"y{at}"} for at in range(3)}
LOST = zernio_log(0, "failed")
BOTH_WAYS = {late_key("i1"): {"success": None}, late_key("i2"): {"failed": None}}
PENDING_ENTRY = zernio_log(0, "pending")
NEW = LogEntry(key=zernio_log(1).key, status="success", status_fingerprint="o")
STORED_ENTRY = LogEntry(key=zernio_log(2).key, status="success", status_fingerprint="t")
SWAPPED = {late_key("i2"): SAME_DIGEST, late_key("i3"): THIRD, STORED_ENTRY.key: SUCCESS}
EXACT = LogEntry(key=ONE.key, status="success", status_fingerprint="d")
BOTH = (late_key("i1"), late_key("i2"))

TABLE = [
    ("the same status", [ONE], {late_key("i1"): SUCCESS}, {late_key("i1"): ONE}),
    ("the same status after another one", [ONE], {late_key("i1"): {**PENDING, **SUCCESS}}, {late_key("i1"): ONE}),
    ("only as many as are stored", [ONE, TWO], {late_key("i1"): SUCCESS}, {late_key("i1"): ONE}),
    ("all that are stored", [ONE, TWO], dict.fromkeys(BOTH, SUCCESS), dict(zip(BOTH, (ONE, TWO), strict=True))),
    ("a pending log that became final", [ONE], {late_key("i1"): PENDING}, {late_key("i1"): ONE}),
    (
        "the final log rather than the pending one",
        [ONE],
        {late_key("i1"): PENDING, late_key("i2"): SUCCESS},
        {late_key("i2"): ONE},
    ),
    (
        "the same status fingerprint first",
        [EXACT],
        {late_key("i1"): OTHER_DIGEST, late_key("i2"): SAME_DIGEST},
        {late_key("i2"): EXACT},
    ),
    (
        "no log with a conflicting fingerprint",
        [EXACT, NEW],
        {late_key("i2"): SAME_DIGEST, late_key("i3"): THIRD},
        {late_key("i2"): EXACT},
    ),
    ("a swapped log", [EXACT, NEW, STORED_ENTRY], SWAPPED, {late_key("i2"): EXACT, late_key("i3"): NEW}),
    ("no return to pending", [PENDING_ENTRY], {late_key("i1"): {**PENDING, **SUCCESS}}, {}),
    ("by status if fingerprints differ", CONFLICTING, MANY, dict(zip(MANY, CONFLICTING, strict=True))),
    ("no match if few fingerprints differ", CONFLICTING[:2], MANY, {}),
    ("two logs that differ in status only", [ONE, LOST], BOTH_WAYS, {late_key("i1"): ONE, late_key("i2"): LOST}),
    ("another status", [ONE], {late_key("i1"): FAILED}, {}),
    ("another fingerprint", [ONE], {late_key("i1", OTHER): SUCCESS}, {}),
    ("no fingerprint", [ONE], {late_key("i1", ""): SUCCESS}, {late_key("i1", ""): ONE}),
    (
        "a log with a fingerprint first",
        [ONE],
        {late_key("i0", ""): SUCCESS, late_key("i1"): SUCCESS},
        {late_key("i1"): ONE},
    ),
    (
        "the same id",
        [with_id("i2")],
        {late_key("i1"): SUCCESS, late_key("i2"): FAILED},
        {late_key("i2"): with_id("i2")},
    ),
    ("an id that is new in the API", [with_id("x1")], {ONE.key: SUCCESS}, {ONE.key: with_id("x1")}),
    ("no log that is on the page", [ONE, with_id("x1")], {ONE.key: SUCCESS}, {}),
    ("no key of the same kind", [TWO], {ONE.key: SUCCESS}, {}),
    ("another time", [ONE], {interim_key("i1", 7, FINGERPRINT): SUCCESS}, {}),
]


@pytest.mark.parametrize(("entries", "logs", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_logs_that_can_be_pending(entries: list[LogEntry], logs: StoredLogs, expected: dict[str, LogEntry]) -> None:
    """Each stored log is matched at most once, by the most reliable rule."""
    assert expected == match_logs(entries, logs, has_pending=True)


PARTIAL_TABLE = [
    ("the same fingerprint", EXACT, {late_key("i2"): SAME_DIGEST}, {late_key("i2"): EXACT}, False),
    ("the same id", with_id("i1"), {late_key("i1"): FAILED}, {late_key("i1"): with_id("i1")}, False),
    ("another fingerprint", EXACT, {late_key("i2"): OTHER_DIGEST}, {}, True),
    ("no fingerprint", EXACT, {late_key("i2"): SUCCESS}, {}, True),
    ("the outcome of a pending log", EXACT, {late_key("i2"): PENDING}, {}, True),
    ("another status", EXACT, {late_key("i2"): FAILED}, {}, False),
    ("another account", EXACT, {late_key("i2", OTHER): SUCCESS}, {}, False),
]


@pytest.mark.parametrize(
    ("entry", "logs", "expected", "is_undecided"),
    [row[1:] for row in PARTIAL_TABLE],
    ids=[row[0] for row in PARTIAL_TABLE],
)
def test_logs_of_a_partial_time(
    entry: LogEntry, logs: StoredLogs, expected: dict[str, LogEntry], *, is_undecided: bool
) -> None:
    """Only sure rules apply; if another rule could, the page must have all logs of the time."""
    times = {TIME}
    assert expected == match_logs([entry], logs, has_pending=True, partial_times=times)
    options: dict[str, Any] = {"has_pending": True, "partial_times": times}
    read_logs = UncommittedLogs()
    read_logs.add([entry])
    assert ({TIME} if is_undecided else set()) == undecided_times(
        [entry], logs, expected, **options, uncommitted=NO_UNCOMMITTED_LOGS
    )
    assert set() == undecided_times([entry], logs, expected, **options, uncommitted=read_logs)
    own = msgspec.structs.replace(entry, is_own=True)
    assert set() == undecided_times([own], logs, expected, **options, uncommitted=NO_UNCOMMITTED_LOGS)


def test_final_logs_of_a_partial_time() -> None:
    """A fingerprint alone is no sure rule."""
    logs = {late_key("i1"): RECONNECTED}
    assert {} == match_logs([ONE], logs, has_pending=False, partial_times={TIME})
    assert {TIME} == undecided_times(
        [ONE], logs, {}, has_pending=False, partial_times={TIME}, uncommitted=NO_UNCOMMITTED_LOGS
    )
    assert set() == undecided_times(
        [ONE], logs, {}, has_pending=False, partial_times=set(), uncommitted=NO_UNCOMMITTED_LOGS
    )


def test_an_outcome_takes_a_pending_log_before_a_pending_log_with_other_details_does() -> None:
    """A log that is still pending may be new, its outcome may not."""
    new = LogEntry(key=zernio_log(1).key, status="pending", status_fingerprint="n")
    stored = {late_key("i1"): {"pending": "p"}}
    assert {late_key("i1"): EXACT} == match_logs([new, EXACT], stored, has_pending=True)
    assert {late_key("i1"): new} == match_logs([new], stored, has_pending=True)


def test_fields_in_another_form() -> None:
    """Logs at three or more times are matched by time and status if none of them is stored; fewer may be new.

    At a partial time a stored log may be one that the page lacks, so a page of partial times shows nothing.
    """
    times = [f"{number:013d}-" for number in range(1, 5)]
    entries = [LogEntry(key=f"{time}{OTHER}+fine.0", status="success") for time in times]
    stored = {f"{time}{FINGERPRINT}+rough.0": SUCCESS for time in times}
    matches = dict(zip(stored, entries, strict=True))
    assert matches == match_logs(entries, stored, has_pending=True, partial_times=set(times[:1]))
    assert {} == match_logs(entries, stored, has_pending=True, partial_times=set(times[:2]))
    assert {} == match_logs(entries, dict.fromkeys(stored, FAILED), has_pending=True)
    known = dict.fromkeys((entry.key for entry in entries), PENDING)
    assert {} == match_logs(entries, {**stored, **known}, has_pending=True), "known logs that have settled"


def test_logs_of_another_generation_keep_their_rules() -> None:
    """Three logs whose details differ from the stored ones are others, if both generations report details alike."""
    assert {} == match_logs(CONFLICTING, MANY, has_pending=True, fingerprints_agree=True)


def test_final_logs_are_matched_by_their_fingerprint() -> None:
    """A reconnection matches a connection, because zernio does not distinguish them."""
    assert {late_key("i1"): ONE} == match_logs([ONE], {late_key("i1"): RECONNECTED}, has_pending=False)
    assert {} == match_logs([ONE], {late_key("i1", ""): RECONNECTED}, has_pending=False)


def test_time_prefix() -> None:
    """Only keys that sort by time have a prefix; logs without a time share 0."""
    assert TIME == time_prefix(ONE.key) == time_prefix(late_key("i1")) == time_prefix(late_key("a@b#c=d", ""))
    assert f"{0:013d}-" == time_prefix(interim_key("i1", None, None))
    assert time_prefix("675f1c0a9e2b5af0012ab34cd") is None
