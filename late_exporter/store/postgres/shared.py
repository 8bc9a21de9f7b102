"""A store in a PostgreSQL database that several replicas share."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

from late_exporter.errors import StoreError, StoreFenced
from late_exporter.model import CommitResult, FeedCommit, Scope
from late_exporter.store.membership import ClaimedFeed
from late_exporter.store.postgres.database import REPLICA_NAME, DeadlineConnection
from late_exporter.store.postgres.feed_rows import FeedRow
from late_exporter.store.postgres.restored import end_regressed
from late_exporter.store.postgres.store import PostgresStore


class SharedPostgresStore(PostgresStore):
    """A store of one of several replicas, which has claimed some workspaces of the state.

    Attributes:
        fenced_workspaces: Workspaces of commits that failed because another process owns them.
    """

    session_name = REPLICA_NAME
    fenced_message = "another replica owns the workspace, so nothing was counted here"

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self.fenced_workspaces: deque[str] = deque()
        self._revisions: dict[int, int] = {}  # of feeds that this process has written, by their ids
        super().__init__(url, password_file)

    def adopt(self, feeds: Sequence[ClaimedFeed]) -> None:
        self.forget({scope.workspace for scope, *_ in feeds})
        if any(feed.revision < self._revisions.get(feed.scope_id, 0) for feed in feeds):
            end_regressed(self._database)
        for scope, token, scope_id, revision, log_count in feeds:
            self._add_row(scope, FeedRow(token, scope_id, revision, log_count))

    def forget(self, workspaces: Collection[str]) -> None:
        for scope in [scope for scope in self._rows if scope.workspace in workspaces]:
            row = self._rows.pop(scope)
            self._revisions[row.scope_id] = row.revision
        for workspace in workspaces:
            self._log_counts.pop(workspace, None)

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        results = super().commit_all(commits)
        if len(commits) == 1 and isinstance(results[0], StoreFenced):  # A group that fails is committed one by one.
            self.fenced_workspaces.append(commits[0].scope.workspace)
        return results

    def _claim_all(self, connection: DeadlineConnection) -> None:
        del connection  # Workspaces are claimed one by one, by the membership.

    def _create_row(self, scope: Scope) -> FeedRow:
        raise StoreFenced(f"{self._database.name}: {scope.workspace}: {self.fenced_message}")
