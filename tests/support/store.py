"""A store that records commits and fails on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from late_exporter.errors import StoreError
from late_exporter.model import Batch, CommitResult, FeedCommit, Scope
from late_exporter.store import Store
from late_exporter.store.copying import TABLES, copy_rows
from late_exporter.store.maintenance import open_admin, open_snapshot
from tests.support.exporter import Counted, ObservedStore


def commit_batch(store: Store, scope: Scope, batch: Batch) -> CommitResult:
    """Store a batch of one feed and return the result; raise its error."""
    (result,) = store.commit_all([FeedCommit(scope, batch)])
    if isinstance(result, StoreError):
        raise result
    return result


def copy_state(source: str, target: str, workspace: str | None = None, new_name: str | None = None) -> int:
    """Copy workspaces between the states at two URLs; return the number of rows."""
    with open_admin(target).writing() as rows, open_snapshot(source) as snapshot:
        return copy_rows(snapshot, rows, workspace, new_name)


def all_rows(url: str) -> dict[str, list[Sequence[Any]]]:
    """Return everything that the state at a URL contains, by table."""
    with open_snapshot(url) as snapshot:
        return {table: [*snapshot.rows(table)] for table in TABLES}


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
