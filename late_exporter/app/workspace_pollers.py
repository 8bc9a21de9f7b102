"""The pollers of one workspace, their tasks, and their health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import replace

from late_exporter.api.client import LateClient
from late_exporter.health import Failure, PlatformHealth, RecentCounts, WorkspaceHealth
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.schedule import ApiClock, PollConfig
from late_exporter.ingest.status_poller import StatusConfig, StatusPace, StatusPoller
from late_exporter.metrics.platforms import failing_accounts, platform_health, unhealed_failures
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.store.records import PendingLog


class ApiConnection(NamedTuple):
    """Everything that the pollers of a workspace need.

    Args:
        pace: Pace of the status feeds that share its key.
        poll: Configuration of its log feeds.
        status: Configuration of its status feeds.
        source: Settings that it is made of; if they change, another connection is needed.
    """

    client: LateClient
    pace: StatusPace
    poll: PollConfig = PollConfig()
    status: StatusConfig = StatusConfig()
    source: object = None


@dataclass
class WorkspacePollers:
    """Pollers of a workspace, one per feed, their connection, and their tasks."""

    name: str
    connection: ApiConnection
    clock: ApiClock
    by_feed: Mapping[str, Poller]
    status: StatusPoller
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Poller]:
        return iter(self.by_feed.values())

    def reconfigure(self, connection: ApiConnection) -> None:
        """Use another connection and other intervals; must not be called while the tasks run."""
        self.connection = connection
        for poller in self:
            poller.reconfigure(connection.client, connection.poll)
        self.status.reconfigure(connection.client, connection.status, connection.pace)

    def start(self, group: asyncio.TaskGroup) -> None:
        loops = [*(poller.run() for poller in self), self.status.run()]
        self.tasks = [group.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Stop polling, once commits in progress are complete."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def catch_up(self) -> bool:
        """Poll until nothing is left to read, and refresh the status feeds once.

        Return whether all polls succeeded.
        """
        results = await asyncio.gather(*(poller.catch_up() for poller in self))
        await self.status.refresh()
        for poller in self:
            await poller.commit_increments()
        return all(result.error is None for result in results)

    @property
    def failures(self) -> Sequence[Failure]:
        """Return the last failed attempts to publish."""
        return [failure for poller in self for failure in poller.recorder.state.failures]

    def health(self, registry: SeriesRegistry) -> WorkspaceHealth:
        """Return the health of the workspace."""
        now = self.clock.time()
        platforms = platform_health(registry, self.name)
        recent_since: float | None = None
        daily_attempts = 0.0
        other_attempts = RecentCounts()
        for poller in self:
            recent_attempts = poller.recorder.recent_attempts
            if recent_attempts is not None:
                recent_since = recent_attempts.known_since(now)
                history_since = (poller.recorder.complete_since or 0) / 1000
                platforms = recent_attempts.add_counts(platforms, now, history_since)
                daily_attempts = recent_attempts.per_day(platforms, now)
                other_attempts = recent_attempts.other_counts(now)
                pending_logs = poller.recorder.state.pending_logs
                platforms = _with_oldest_posts(platforms, pending_logs.values())
        return WorkspaceHealth(
            name=self.name,
            base_url=self.connection.client.base_url,
            generation=", ".join(sorted({poller.recorder.feed.generation for poller in self})),
            feeds=tuple(poller.health for poller in self),
            quota=self.connection.client.quota,
            quota_wait=self.connection.client.quota_wait(),
            platforms=platforms,
            recent_since=recent_since,
            failing_accounts=failing_accounts(registry, self.name),
            unhealed_failures=unhealed_failures(registry, self.name, self.failures, now),
            daily_attempts=daily_attempts,
            other_attempts=other_attempts,
            status=self.status.health,
            clock_offset=self.clock.host_offset or 0.0,
        )


def _with_oldest_posts(
    platforms: Iterable[PlatformHealth], pending_logs: Iterable[PendingLog]
) -> tuple[PlatformHealth, ...]:
    """Return the health of platforms with the posts of their oldest pending logs."""
    from_new_to_old = sorted(pending_logs, key=attrgetter("created"), reverse=True)
    oldest = {log.platform: log.post_id for log in from_new_to_old}
    return tuple(replace(each, oldest_post=oldest.get(each.name) or "") for each in platforms)
