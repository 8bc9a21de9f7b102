"""The outbox of log events, on both backends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from late_exporter.model import LogEntry
from late_exporter.store import Store, open_store
from late_exporter.store.records import Backlog, Batch, FeedCommit, Observation
from tests.support.store import OTHER, SCOPE, commit_batch


def batch(*keys: str, at: float = 1.0, has_events: bool = True) -> Batch:
    """Return a batch of logs, by default with events."""
    observations = [
        Observation(
            LogEntry(key=key, status="failed", created=60_000),
            (),
            f'{{"id":"{key}"}}'.encode() if has_events else None,
        )
        for key in keys
    ]
    return Batch(committed_at=at, observations=observations)


def queued(store: Store, limit: int = 100) -> list[tuple[str, bytes]]:
    """Return the workspace and body of the oldest events."""
    return [(each.workspace, each.body) for each in store.outbox.read(limit)]


def numbers(store: Store) -> Sequence[int]:
    """Return the numbers of all events."""
    return [each.number for each in store.outbox.read(1000)]


def test_events_are_queued_once_with_their_observations(store: Store) -> None:
    """A new observation queues its event; one that is stored already, or has no event, queues none."""
    commit_batch(store, SCOPE, batch("a", "b", "a", at=2.0))
    commit_batch(store, SCOPE, batch("b", "c", at=3.5))
    commit_batch(store, OTHER, batch("d", has_events=False))
    assert [("acme", b'{"id":"a"}'), ("acme", b'{"id":"b"}'), ("acme", b'{"id":"c"}')] == queued(store)
    assert 4 == sum(store.feed_state(scope).log_count for scope in (SCOPE, OTHER))


def test_events_of_several_feeds_are_read_in_their_order(store: Store) -> None:
    """The oldest events come first, whatever their workspace."""
    store.feed_states([SCOPE, OTHER])
    store.commit_all([FeedCommit(SCOPE, batch("a")), FeedCommit(OTHER, batch("b"))])
    commit_batch(store, SCOPE, batch("c"))
    assert ["acme", "umbrella", "acme"] == [workspace for workspace, _ in queued(store)]
    assert [b'{"id":"a"}', b'{"id":"b"}'] == [body for _, body in queued(store, limit=2)]


def test_delivered_events_are_deleted(store: Store) -> None:
    """Deleting events leaves the others; doing it again changes nothing, and numbers are not used for other events."""
    commit_batch(store, SCOPE, batch("a", "b", "c"))
    first, second, _ = numbers(store)
    for _ in range(2):
        store.outbox.delete([first, second])
        assert [b'{"id":"c"}'] == [body for _, body in queued(store)]
    commit_batch(store, SCOPE, batch("d"))
    store.outbox.delete([first, second])
    assert 2 == len(numbers(store))
    commit_batch(store, SCOPE, batch(*map(str, range(150))))
    store.outbox.delete(numbers(store))
    assert [] == numbers(store)


def test_the_oldest_events_beyond_a_limit_are_dropped(store: Store) -> None:
    """The newest events stay, and those dropped are counted by workspace."""
    commit_batch(store, SCOPE, batch("a", "b"))
    commit_batch(store, OTHER, batch("c", "d"))
    assert {} == store.outbox.delete_oldest(4)
    assert {"acme": 2, "umbrella": 1} == store.outbox.delete_oldest(1)
    assert [("umbrella", b'{"id":"d"}')] == queued(store)
    assert {} == store.outbox.delete_oldest(1)


def test_backlogs(store: Store) -> None:
    """A backlog is the number of events of a workspace, and when the oldest of them was queued."""
    assert {} == store.outbox.backlogs()
    commit_batch(store, SCOPE, batch("a", at=5.0))
    commit_batch(store, SCOPE, batch("b", at=3.0))
    commit_batch(store, OTHER, batch("c", at=7.0))
    assert {"acme": Backlog(2, 3000), "umbrella": Backlog(1, 7000)} == store.outbox.backlogs()


def test_events_survive_a_restart(url: str) -> None:
    """They are there once their workspace is loaded: others deliver those of their own."""
    with closing(open_store(url)) as store:
        commit_batch(store, SCOPE, batch("a", "b"))
        commit_batch(store, OTHER, batch("c"))
    with closing(open_store(url)) as store:
        assert [] == queued(store)
        store.feed_state(OTHER)
        assert [b'{"id":"c"}'] == [body for _, body in queued(store, limit=1)]
        assert ({"umbrella": Backlog(1, 1000)}, {"umbrella": 1}) == (
            store.outbox.backlogs(),
            store.outbox.delete_oldest(0),
        )
        store.feed_state(SCOPE)
        assert [b'{"id":"a"}', b'{"id":"b"}'] == [body for _, body in queued(store)]
