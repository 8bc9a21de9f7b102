"""Cardinality limits for labels whose values come from the API."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.feeds import DOCUMENTED_PATHS
from late_exporter.feeds.vocabulary import (
    ACTIONS,
    EVENTS,
    FAILURE_CATEGORIES,
    HEALTH_STATUSES,
    METHODS,
    PLATFORMS,
    POST_STATUSES,
    STATUSES,
)
from late_exporter.metrics.catalogue import LABEL_OVERFLOW, LOGS, SCHEMA_DRIFT
from late_exporter.model import UNKNOWN, IncCounter, Increment, ObserveHistogram, ObserveLog, Series

CODES = (
    "MEDIA_UPLOAD_FAILED", "PERMISSION_DENIED", "RATE_LIMITED", "TOKEN_EXPIRED",
    "oauth_denied", "token_exchange_failed", *FAILURE_CATEGORIES,
)  # fmt: skip


OTHER = "other"

KNOWN_VALUES: Mapping[str, frozenset[str]] = {
    "platform": frozenset(PLATFORMS),
    "action": frozenset(ACTIONS),
    "status": frozenset({*STATUSES, *HEALTH_STATUSES, *POST_STATUSES}),
    "event": frozenset(EVENTS),
    "method": frozenset(METHODS),
    "code": frozenset(CODES),
    "account_id": frozenset(),
    "field": DOCUMENTED_PATHS,
}
"""Labels whose values come from the API, with the documented values.

These never count towards the limit.
"""


class LabelLimiter:
    """Bound the number of values per label and workspace: values beyond the limit become ``other``.

    Args:
        families: Catalogue of the metric families.
        max_values: Maximum number of undocumented values per label and workspace.
        max_accounts: Maximum number of values of ``account_id`` per workspace; 0 drops the metrics
            of accounts.
    """

    def __init__(
        self, families: Mapping[str, Family], *, max_values: int = 50, max_accounts: int = 500
    ) -> None:
        self._families = families
        self._limits = {
            label: max_accounts if label == "account_id" else max_values for label in KNOWN_VALUES
        }
        self._accepted_values = defaultdict[tuple[str, str], set[str]](set)
        self._known_platforms = defaultdict[str, set[str]](set)

    def restore(self, series: Iterable[Series]) -> None:
        """Accept the label values of stored series, so that a restart changes no label."""
        for name, labels in series:
            family = self._families.get(name)
            if family is None or not (family.feeds or name == SCHEMA_DRIFT):
                continue
            for label, value in zip(family.labels, labels, strict=False):
                if _is_limited(label, value):
                    self._accepted_values[labels[0], label].add(value)
            if name == LOGS:
                self._known_platforms[labels[0]].add(labels[1])

    def remove_workspace(self, workspace: str) -> None:
        for label in KNOWN_VALUES:
            self._accepted_values.pop((workspace, label), None)
        self._known_platforms.pop(workspace, None)

    def platforms(self, workspace: str) -> AbstractSet[str]:
        """Return the platforms with publishing logs in a workspace."""
        return self._known_platforms.get(workspace, frozenset())

    def limit_value(self, workspace: str, label: str, value: str) -> str:
        """Return the value, or ``other`` if the label has reached its limit."""
        if not _is_limited(label, value):
            return value
        accepted_values = self._accepted_values[workspace, label]
        if value not in accepted_values and len(accepted_values) >= self._limits[label]:
            return OTHER
        accepted_values.add(value)
        return value

    def apply(self, increments: Iterable[Increment]) -> Iterator[Increment]:
        """Yield the increments with limited labels and the buckets of the catalogue.

        Values that are replaced are counted.
        """
        for increment in increments:
            family = self._families[increment.family]
            is_per_account = "account_id" in family.labels
            if is_per_account and not self._limits["account_id"]:
                continue
            workspace = increment.labels[0]
            limited: list[str] = []
            for label, value in zip(family.labels, increment.labels, strict=False):
                # Interned, because most values are those of many series.
                limited.append(sys.intern(self.limit_value(workspace, label, value)))
                if limited[-1] != value:
                    yield IncCounter(LABEL_OVERFLOW, (workspace, family.name, label))
            if is_per_account and limited[2] == OTHER and family.kind == "gauge":
                continue
            changes: dict[str, object] = {"labels": tuple(limited)}
            if isinstance(increment, ObserveHistogram | ObserveLog):
                changes["bounds"] = family.buckets
            yield msgspec.structs.replace(increment, **changes)


def _is_limited(label: str, value: str) -> bool:
    """Return whether a value counts towards the limit of its label, if it has one."""
    return value not in KNOWN_VALUES.get(label, (value,)) and value not in (UNKNOWN, OTHER)
