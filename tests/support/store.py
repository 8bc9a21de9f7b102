"""A store that records commits and fails on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from late_exporter.errors import StoreError
from late_exporter.model import Batch, CommitResult, FeedCommit, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store import Store
from tests.support.exporter import Counted, ObservedStore


def commit_batch(store: Store, scope: Scope, batch: Batch) -> CommitResult:
    """Store a batch of one feed and return the result; raise its error."""
    (result,) = store.commit_all([FeedCommit(scope, batch)])
    if isinstance(result, StoreError):
        raise result
    return result


def stored_series(store: Store, workspace: str = "acme") -> Mapping[Series, SeriesValue]:
    """Return the values of all series of a workspace."""
    return store.series_page(workspace, "", 1_000_000)[0]


class StoreProxy(ObservedStore):
    """A store of tests of what is inside.

    Attributes:
        failing: Names of methods that fail; ``commit`` is that of all commits.
        batches: All committed batches.
        group_sizes: Number of batches of each call of ``commit_all``.
    """

    def __init__(self, store: Store, counted: list[Counted] | None = None) -> None:
        super().__init__(store, [] if counted is None else counted)
        self.failing: set[str] = set()
        self.batches: list[Batch] = []
        self.group_sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name in self.failing:
            raise StoreError(f"{name}: disk I/O error")
        return super().__getattr__(name)

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        """Commit; each may fail before or after its batch is durable."""
        self.is_full = "commit" in self.failing
        self.group_sizes.append(len(commits))
        return super().commit_all(commits)

    def _observe(
        self, commit: FeedCommit, result: CommitResult | StoreError, failure: str
    ) -> CommitResult | StoreError:
        if not isinstance(result, StoreError):
            self.batches.append(commit.batch)
        return super()._observe(commit, result, failure)
