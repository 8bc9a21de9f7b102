"""Cardinality limits for labels whose values come from the API."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType

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

KNOWN_VALUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "platform": frozenset(PLATFORMS),
        "action": frozenset(ACTIONS),
        "status": frozenset({*STATUSES, *HEALTH_STATUSES, *POST_STATUSES}),
        "event": frozenset(EVENTS),
        "method": frozenset(METHODS),
        "code": frozenset(CODES),
        "account_id": frozenset[str](),
        "field": DOCUMENTED_PATHS,
    }
)
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
        self._accepted_values: dict[tuple[str, str], set[str]] = {}
        self._known_platforms: dict[str, set[str]] = {}

    def restore(self, series: Iterable[Series]) -> None:
        """Accept the label values of stored series, so that a restart changes no label."""
        for name, labels in series:
            family = self._families.get(name)
            if family is None or not (family.feeds or name == SCHEMA_DRIFT):
                continue
            for label, value in zip(family.labels, labels, strict=False):
                if value not in KNOWN_VALUES.get(label, (value,)) and value not in (UNKNOWN, OTHER):
                    self._accepted_values.setdefault((labels[0], label), set()).add(value)
            if name == LOGS:
                self._known_platforms.setdefault(labels[0], set()).add(labels[1])

    def remove_workspace(self, workspace: str) -> None:
        self._accepted_values = {
            key: values for key, values in self._accepted_values.items() if key[0] != workspace
        }
        self._known_platforms.pop(workspace, None)

    def platforms(self, workspace: str) -> AbstractSet[str]:
        """Return the platforms with publishing logs in a workspace."""
        return self._known_platforms.get(workspace, frozenset())

    def limit_value(self, workspace: str, label: str, value: str) -> str:
        """Return the value, or ``other`` if the label has reached its limit."""
        if label not in KNOWN_VALUES or value in KNOWN_VALUES[label] or value in (UNKNOWN, OTHER):
            return value
        accepted_values = self._accepted_values.setdefault((workspace, label), set())
        if value not in accepted_values and len(accepted_values) >= self._limits[label]:
            return OTHER
        accepted_values.add(value)
        return value

    def apply(self, increments: Iterable[Increment]) -> Iterator[Increment]:
        """Yield the increments with limited labels and the buckets of the catalogue.

        Values that are replaced are counted.
        """
        for increment in increments:
            yield from self._limit(increment)

    def _limit(self, increment: Increment) -> Iterator[Increment]:
        family = self._families[increment.family]
        original = increment.labels
        is_per_account = "account_id" in family.labels
        if is_per_account and not self._limits["account_id"]:
            return
        limited: list[str] = []
        for label, value in zip(family.labels, original, strict=False):
            # Interned, because most values are those of many series.
            limited.append(sys.intern(self.limit_value(original[0], label, value)))
            if limited[-1] != value:
                yield IncCounter(LABEL_OVERFLOW, (original[0], family.name, label))
        labels = tuple(limited)
        if is_per_account and labels[2] == OTHER and family.kind == "gauge":
            return
        if isinstance(increment, ObserveHistogram | ObserveLog):
            yield msgspec.structs.replace(increment, labels=labels, bounds=family.buckets)
        else:
            yield msgspec.structs.replace(increment, labels=labels)
