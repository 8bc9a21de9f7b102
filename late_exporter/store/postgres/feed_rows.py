"""What this process knows of the stored feeds, and the transactions whose outcome it does not know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from late_exporter.model import Batch, CommitResult
from late_exporter.series import Increment, Series
from late_exporter.store.postgres.database import DeadlineConnection


class UnconfirmedWrite(msgspec.Struct, frozen=True):
    """A transaction that ended without an answer: the connection was lost.

    Args:
        number: Random number by which the state shows whether the transaction is durable.
        revision: Revision of the feed after it.
        increments: All increments of its batch.
        result: Result of the commit, with those of earlier ones that were not returned.
    """

    number: int
    revision: int
    increments: Sequence[Increment]
    result: CommitResult


class FeedRow(msgspec.Struct):
    """One feed in the state, as this process left it.

    Args:
        token: Fencing token, which every transaction requires.
        revision: Number of its last transaction, which the next one requires.
        log_count: Number of stored logs.
        unconfirmed: Transactions of which it is unknown whether they are durable.
        durable: A durable commit whose result was not returned yet.
    """

    token: int
    scope_id: int
    revision: int
    log_count: int = 0
    unconfirmed: list[UnconfirmedWrite] = msgspec.field(default_factory=list)
    durable: UnconfirmedWrite | None = None

    @property
    def unshown_series(self) -> Collection[Series]:
        """Series that the durable transaction has changed; other feeds may have changed them since."""
        return () if self.durable is None else self.durable.result.series_values.keys()

    def settle(self, number: int | None, revision: int) -> None:
        """Take note of the last transaction in the state: its number, and the revision that it left."""
        for write in self.unconfirmed:
            if write.number == number and write.revision == revision:
                self.confirm(write)
                break

    def confirm(self, write: UnconfirmedWrite) -> None:
        """Take note that a transaction is durable."""
        self.revision, self.unconfirmed, self.durable = write.revision, [], write


class FeedWrite(NamedTuple):
    """What a transaction writes to one feed.

    Args:
        increments: All increments of the batch.
        result: Result of the commit if it is durable.
        send: Function that sends the statements, and returns what their answers can be read from.
    """

    row: FeedRow
    increments: Sequence[Increment]
    result: CommitResult
    send: Callable[[DeadlineConnection], Any]


def without_applied(batch: Batch, earlier: UnconfirmedWrite | None) -> Batch:
    """Return a batch without the increments of an earlier one that was reported as failed but is durable.

    The recorder puts what it could not save at the beginning of the next batch.
    """
    increments = list(batch.increments)
    for applied in earlier.increments if earlier else ():
        if not increments or increments[0] != applied:
            break
        del increments[0]
    return msgspec.structs.replace(batch, increments=increments)


def merge(earlier: UnconfirmedWrite | None, result: CommitResult) -> CommitResult:
    """Return a result with the observations of an earlier commit which was reported as failed but is durable."""
    if earlier is None:
        return result
    return msgspec.structs.replace(result, observations=[*earlier.result.observations, *result.observations])
