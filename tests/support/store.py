"""A store that records commits and fails on demand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from late_exporter.errors import StoreError
from late_exporter.model import (
    Batch,
    CommitResult,
    FeedAccounting,
    FeedCommit,
    FeedState,
    Scope,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store import Outbox, SeriesCursor, Store

LogStatus: TypeAlias = tuple[str, str]
"""Key and status of a log: an observation."""


def commit_batch(store: Store, scope: Scope, batch: Batch) -> CommitResult:
    """Store a batch of one feed and return the result; raise its error."""
    (result,) = store.commit_all([FeedCommit(scope, batch)])
    if isinstance(result, StoreError):
        raise result
    return result


@dataclass
class StoreProxy:
    """A store that records what was committed.

    Args:
        failures: Commits that fail, by number counted from the next one: ``before`` or ``after`` they are durable.
        failing: Names of methods that fail.
        group_sizes: Number of batches of each call of ``commit_all``.
    """

    store: Store
    counted: list[tuple[Scope, LogStatus]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    batches: list[Batch] = field(default_factory=list)
    group_sizes: list[int] = field(default_factory=list)

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise StoreError(f"{method}: disk I/O error")

    @property
    def outbox(self) -> Outbox:
        return self.store.outbox

    def series_values(self) -> Mapping[Series, SeriesValue]:
        return self.store.series_values()

    def series_page(
        self, after: SeriesCursor, *, limit: int, workspaces: Collection[str]
    ) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        self._check("series_page")
        return self.store.series_page(after, limit=limit, workspaces=workspaces)

    def feed_state(self, scope: Scope) -> FeedState:
        return self.store.feed_state(scope)

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        return self.store.feed_states(scopes)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self._check("lookup")
        return self.store.lookup(scope, keys)

    def renew_identity(self, scope: Scope, generation: str) -> FeedState:
        self._check("renew_identity")
        return self.store.renew_identity(scope, generation)

    def accounting(self, scope: Scope) -> FeedAccounting:
        self._check("accounting")
        return self.store.accounting(scope)

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        """Commit; each may fail before or after its batch is durable."""
        self.group_sizes.append(len(commits))
        failures = [self._next_failure() for _ in commits]
        durable = [commit for commit, failure in zip(commits, failures, strict=True) if failure in ("", "after")]
        results = iter(self.store.commit_all(durable))
        return [
            self._record(commit, next(results), failure) if failure in ("", "after") else StoreError(failure)
            for commit, failure in zip(commits, failures, strict=True)
        ]

    def _next_failure(self) -> str:
        """Return the error of the next commit if it fails before it is durable; ``after`` if it fails later."""
        if "commit" in self.failing:
            return "commit: disk I/O error"
        failure = self.failures.pop(0, "")
        self.failures = {number - 1: moment for number, moment in self.failures.items()}
        return "the state: database or disk is full" if failure == "before" else failure

    def _record(self, commit: FeedCommit, result: CommitResult | StoreError, failure: str) -> CommitResult | StoreError:
        if isinstance(result, StoreError):
            return result
        self.batches.append(commit.batch)
        self.counted += [(commit.scope, (each.entry.key, each.entry.status)) for each in result.observations]
        return StoreError("the state: disk I/O error") if failure == "after" else result

    def mark_served(self, series: Sequence[Series]) -> Sequence[Series]:
        self._check("mark_served")
        return self.store.mark_served(series)

    def size(self, workspace: str) -> tuple[int, int]:
        self._check("size")
        return self.store.size(workspace)

    def close(self) -> None:
        self.store.close()
