"""Match stored logs to logs of a page whose keys come from another API generation.

Generation ``late`` identifies logs by id; ``zernio`` has no ids, but may introduce them. Both report creation time,
fingerprint and status, so stored logs are matched by these. Each stored log is matched at most once. The rules are
explained in docs/design/generation-matching.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

import msgspec

from late_exporter.model import PENDING, FormerLog, LogEntry
from late_exporter.store.uncommitted import TIME_PREFIX_LENGTH, UncommittedLogs

LOG_KEY_PATTERN = re.compile(r"(\d{13}-)([0-9a-f]{12})?([@#=+])(.*)", re.DOTALL)
"""Creation time, fingerprint if known, form and rest of a key that sorts by time.

The form is ``@`` for an id of generation ``late``, ``#`` for an id of ``zernio``, ``+`` for a digest and an ordinal,
and ``=`` for those of an earlier version, whose digest includes fields that may change.
"""

_TIME_PATTERN = re.compile(r"\d{13}-([0-9a-f]{12})?[@#=+]")
"""Beginning of the keys that match LOG_KEY_PATTERN."""

DIGEST = "+"
FORMER_DIGEST = "="
DIGEST_FORMS = (DIGEST, FORMER_DIGEST)

MIN_CONFLICTS = 3
"""Creation times with conflicting status fingerprints that show that the two generations report them differently."""

MIN_CHANGED_TIMES = 3
"""Creation times with other stored logs than on the page that show that the API shows fields in another form."""

StoredLogs: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""Stored logs by key: status fingerprint, None if unknown, by status."""


class _KeyParts(NamedTuple):
    time: str
    fingerprint: str | None
    form: str
    rest: str


class _Candidate(NamedTuple):
    """A log of the page and a stored log that may be the same one."""

    entry: LogEntry
    entry_key: _KeyParts
    stored_key: str
    stored_parts: _KeyParts
    statuses: Mapping[str, str | None]

    @property
    def is_comparable(self) -> bool:
        """Return whether the keys are of other forms or a log has lost its account, and all else agrees."""
        entry_key, stored = self.entry_key, self.stored_parts
        if stored.form == entry_key.form:
            return self.has_same_id or self.has_lost_account
        return stored.fingerprint in (entry_key.fingerprint or self.entry.fingerprint, None)

    @property
    def has_same_id(self) -> bool:
        has_ids = self.stored_parts.form not in DIGEST_FORMS and self.entry_key.form not in DIGEST_FORMS
        return has_ids and self.stored_parts.rest == self.entry_key.rest

    @property
    def has_lost_account(self) -> bool:
        """Return whether the entry has no account, and all else in the keys is the same."""
        entry_key, stored = self.entry_key, self.stored_parts
        return (
            self.entry.account_id is None
            and entry_key.form == stored.form == DIGEST
            and entry_key.fingerprint != stored.fingerprint
            and entry_key.rest.rpartition(".")[0] == stored.rest.rpartition(".")[0]
        )

    @property
    def has_same_form(self) -> bool:
        return self.entry_key.form == self.stored_parts.form == DIGEST

    @property
    def has_same_status(self) -> bool:
        """Return whether the stored log can be in the status of the entry: a final log does not return to pending."""
        status = self.entry.status
        return status in self.statuses and (status != PENDING or self.was_pending)

    @property
    def has_same_status_fingerprint(self) -> bool:
        return self.has_same_status and self.statuses[self.entry.status] == self.entry.status_fingerprint != ""

    @property
    def was_pending(self) -> bool:
        return self.statuses.keys() == {PENDING}

    @property
    def agrees_with_fingerprint(self) -> bool:
        """Return whether nothing contradicts the match: of an unknown fingerprint, the status has to be the same.

        Only logs with the same fingerprint, or without one, are candidates.
        """
        return self.stored_parts.fingerprint is not None or self.has_same_status

    def conflicts(self, page_fingerprints: AbstractSet[tuple[str, str]]) -> bool:
        """Return whether the stored status fingerprint is neither the entry's nor on the page.

        Args:
            page_fingerprints: Time and status fingerprint of all logs of the page.
        """
        stored = self.statuses.get(self.entry.status)
        if stored is None or stored == self.entry.status_fingerprint:
            return False
        return (self.stored_parts.time, stored) not in page_fingerprints


_Rule: TypeAlias = Callable[[_Candidate], bool]


def interim_key(key: str, created: int | None, fingerprint: str | None) -> str:
    """Return the key of a log of generation ``late`` from a switch until it is matched."""
    return f"{created or 0:013d}-{fingerprint or ''}@{key}"


def time_prefix(key: str) -> str | None:
    """Return the prefix that all keys of the same creation time share; None if the key does not sort by time."""
    # Called for each new log of a page: building all parts takes three times as long.
    return key[:TIME_PREFIX_LENGTH] if _TIME_PATTERN.match(key) else None


def has_ordinal(key: str) -> bool:
    """Return whether a key ends in an ordinal among alike logs."""
    # Called for each log of each page, for which a regular expression is too slow.
    return key[26:27] == DIGEST and key[13:14] == "-" and key[:13].isdigit()


def without_ordinal(key: str) -> str:
    """Return what the keys of alike logs have in common, or the whole key if it has no ordinal."""
    return key.rpartition(".")[0] if has_ordinal(key) else key


def match_logs(
    entries: Sequence[LogEntry],
    stored_logs: StoredLogs,
    *,
    has_pending: bool,
    fingerprints_agree: bool = False,
    partial_times: AbstractSet[str] = frozenset(),
) -> dict[str, LogEntry]:
    """Return the entries that are stored under another key or status, by the stored key.

    The rules are applied from the most to the least reliable. If both generations report the same status fingerprints,
    a stored log with a different one is another log, unless that fingerprint is also on the page: identical logs may
    have been swapped.

    Args:
        entries: Logs of one page.
        stored_logs: All stored logs with the keys or the creation times of the entries.
        has_pending: Whether logs can change their status; if not, the fingerprint is as good as the status.
        fingerprints_agree: Whether both generations are known to report the same status fingerprints.
        partial_times: Prefixes of the creation times of which the page may lack logs. Only sure rules apply to them,
            because a stored log may belong to a log that the page lacks.
    """
    matcher = _PageMatcher(entries, stored_logs, partial_times)
    matcher.match_former_logs(entries)
    matcher.match(lambda pair: pair.has_same_id, is_sure=True)
    if has_pending:
        _match_statuses(matcher, entries, fingerprints_agree=fingerprints_agree)
    else:
        matcher.match(lambda pair: pair.agrees_with_fingerprint)
    matcher.match_changed_fields()
    return matcher.matches


def _match_statuses(matcher: _PageMatcher, entries: Sequence[LogEntry], *, fingerprints_agree: bool) -> None:
    """Match the logs of a feed that may be pending."""
    same = matcher.match(lambda pair: pair.has_same_status_fingerprint, is_sure=True)
    fingerprints_agree |= any(entry.status != PENDING for entry in same)
    present = {(time, entry.status_fingerprint) for entry in entries if (time := time_prefix(entry.key))}
    if fingerprints_agree or len(matcher.times(lambda pair: pair.conflicts(present))) < MIN_CONFLICTS:
        matcher.match(lambda pair: pair.has_same_status and not pair.conflicts(present))
    else:
        matcher.match(lambda pair: pair.has_same_status)
    matcher.match(lambda pair: pair.was_pending and pair.entry.status != PENDING)
    matcher.match(lambda pair: pair.was_pending)


def undecided_times(
    entries: Sequence[LogEntry],
    stored_logs: StoredLogs,
    matches: Mapping[str, LogEntry],
    *,
    has_pending: bool,
    partial_times: AbstractSet[str],
    uncommitted: UncommittedLogs,
) -> set[str]:
    """Return the prefixes of the partial times at which a new log would match if the page had all logs of the time.

    Args:
        entries: Logs of one page.
        stored_logs: As for ``match_logs``.
        matches: Result of ``match_logs``.
        has_pending: As for ``match_logs``.
        partial_times: As for ``match_logs``.
        uncommitted: Logs that were read, and so decided on, but are not committed yet.
    """
    matched_logs = {(entry.key, entry.status) for entry in matches.values()}

    def may_match(pair: _Candidate) -> bool:
        entry = pair.entry
        is_decided = (entry.key, entry.status) in matched_logs or entry.status in uncommitted.statuses_of(entry.key)
        if pair.entry_key.time not in partial_times or entry.is_own or is_decided or pair.stored_key in matches:
            return False
        return pair.has_same_status or pair.was_pending if has_pending else pair.agrees_with_fingerprint

    return _PageMatcher(entries, stored_logs).times(may_match)


def split_logs(
    entries: Sequence[LogEntry], stored_logs: StoredLogs, matches: Mapping[str, LogEntry]
) -> dict[tuple[str, str], LogEntry]:
    """Return the entries that are stored as a status of another log, by the stored key and that status.

    An earlier version numbered alike logs per status, so that one stored log can be several logs in different statuses.

    Args:
        entries: Logs of one page.
        stored_logs: As for ``match_logs``.
        matches: Result of ``match_logs``.
    """
    matched_keys = {entry.key for entry in matches.values()}
    splits: dict[tuple[str, str], LogEntry] = {}
    for entry in entries:
        if entry.status in stored_logs.get(entry.key, ()) or entry.key in matched_keys or not has_ordinal(entry.key):
            continue
        for stored_key, owner in matches.items():
            parts = _parse_key(stored_key)
            split = (stored_key, entry.status)
            if (
                parts is not None
                and parts.form == FORMER_DIGEST
                and _identity(owner)[0] == _identity(entry)[0]
                and entry.status != owner.status
                and entry.status in stored_logs[stored_key]
                and split not in splits
            ):
                splits[split] = entry
                break
    return splits


def matched_statuses(entry: LogEntry, stored_key: str, statuses: Iterable[str], *, has_pending: bool) -> dict[str, str]:
    """Return the statuses of a stored log once it was matched to an entry, by the stored ones."""
    if entry.former is not None and stored_key == entry.former.key:
        return {status: entry.status if status == entry.former.status else status for status in statuses}
    return {status: status if has_pending else entry.status for status in statuses}


class _PageMatcher:
    """Pairs the entries of a page that have no stored key with stored logs that are not on the page."""

    def __init__(
        self, entries: Sequence[LogEntry], stored_logs: StoredLogs, partial_times: AbstractSet[str] = frozenset()
    ) -> None:
        page_keys = {entry.key for entry in entries}
        self._stored_logs = stored_logs
        self._partial_times = partial_times
        self._unmatched_logs = {
            key: parts
            for key in sorted(stored_logs, key=_with_fingerprint_first)
            if key not in page_keys and (parts := _parse_key(key))
        }
        self._unmatched_entries = {
            (entry.key, entry.status): entry for entry in entries if entry.status not in stored_logs.get(entry.key, ())
        }
        self._known_count = sum(entry.status in stored_logs.get(entry.key, ()) for entry in entries)
        self.matches: dict[str, LogEntry] = {}

    def match_former_logs(self, entries: Sequence[LogEntry]) -> None:
        """Match logs that an earlier version of the exporter stored under the key it gave them.

        Logs that are identical by now, and were not for that version, are interchangeable.
        """
        former_logs: dict[tuple[str, str], list[FormerLog]] = {}
        for entry in entries:
            if entry.former is not None:
                former_logs.setdefault(_identity(entry), []).append(entry.former)
        for entry in list(self._unmatched_entries.values()) if former_logs else ():
            candidates = [*([entry.former] if entry.former else []), *former_logs.get(_identity(entry), ())]
            for former in candidates:
                if former.key in self._stored_logs and former.key not in self.matches:
                    self.matches[former.key] = msgspec.structs.replace(entry, former=former)
                    self._unmatched_logs.pop(former.key, None)
                    del self._unmatched_entries[entry.key, entry.status]
                    break

    def match_changed_fields(self) -> None:
        """Match logs by time and status if the API has begun to show the fields in their keys in another form.

        Otherwise all logs of the list would count again. A few may be new logs at the times of deleted ones, and at a
        partial time the stored logs may be those that the page lacks.
        """

        def is_unknown(pair: _Candidate) -> bool:
            return pair.entry.key not in self._stored_logs  # as opposed to a known log that has another status now

        times = self.times(is_unknown, by_fields=False) - self._partial_times
        changed_count = sum(time_prefix(entry.key) in times for entry in self._unmatched_entries.values())
        if len(times) >= MIN_CHANGED_TIMES and changed_count > self._known_count:
            self.match(lambda pair: is_unknown(pair) and pair.has_same_status, is_sure=True, by_fields=False)
            self.match(
                lambda pair: is_unknown(pair) and pair.was_pending and pair.entry.status != PENDING, by_fields=False
            )

    def match(self, rule: _Rule, *, is_sure: bool = False, by_fields: bool = True) -> Sequence[LogEntry]:
        matched_entries = []
        for entry in list(self._unmatched_entries.values()):
            if not is_sure and time_prefix(entry.key) in self._partial_times:
                continue
            pair = next((pair for pair in self._candidates(entry, by_fields=by_fields) if rule(pair)), None)
            if pair is not None:
                self.matches[pair.stored_key] = entry
                del self._unmatched_logs[pair.stored_key], self._unmatched_entries[entry.key, entry.status]
                matched_entries.append(entry)
        return matched_entries

    def times(self, rule: _Rule, *, by_fields: bool = True) -> set[str]:
        """Return the prefixes of the creation times with a candidate that satisfies a rule."""
        pairs = (
            pair for entry in self._unmatched_entries.values() for pair in self._candidates(entry, by_fields=by_fields)
        )
        return {pair.entry_key.time for pair in pairs if rule(pair)}

    def _candidates(self, entry: LogEntry, *, by_fields: bool) -> Iterator[_Candidate]:
        """Yield the pairs of an entry that are comparable, or those of the same form if not ``by_fields``."""
        entry_key = _parse_key(entry.key)
        if entry_key is None:
            return
        for key, parts in self._unmatched_logs.items():
            if parts.time != entry_key.time:
                continue
            pair = _Candidate(entry, entry_key, key, parts, self._stored_logs[key])
            if pair.is_comparable if by_fields else pair.has_same_form:
                yield pair


def _parse_key(key: str) -> _KeyParts | None:
    match = LOG_KEY_PATTERN.fullmatch(key)
    return _KeyParts(*match.groups()) if match else None


def _identity(entry: LogEntry) -> tuple[str, str]:
    """Return what identical logs of a page have in common: the key without the ordinal, and the status."""
    return without_ordinal(entry.key), entry.status


def _with_fingerprint_first(key: str) -> tuple[bool, str]:
    parts = _parse_key(key)
    return parts is None or parts.fingerprint is None, key
