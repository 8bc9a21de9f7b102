"""The pollers of one workspace, and its health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from late_exporter import log
from late_exporter.config.settings import Workspace
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.status_poller import StatusPoller
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.protocols import Client
from late_exporter.status import FeedHealth, PlatformHealth, WorkspaceHealth, WorkspaceStatus


@dataclass
class WorkspacePollers:
    """A workspace, its API client, its pollers, and their tasks while they run."""

    workspace: Workspace
    client: Client
    pollers: list[Poller]
    status: StatusPoller
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, group: asyncio.TaskGroup) -> None:
        loops = [*(poller.run() for poller in self.pollers), self.status.run(), self.status.expire()]
        self.tasks = [group.create_task(loop) for loop in loops]

    async def catch_up(self) -> bool:
        """Poll until nothing is left to read, and refresh the status feeds once; return whether all polls succeeded."""
        results = await asyncio.gather(*(poller.catch_up() for poller in self.pollers))
        await self.status.refresh()
        for poller in self.pollers:
            await poller.save_requests()
        return all(result.error is None for result in results)

    async def save_deferred(self) -> None:
        """Commit increments that wait for a poll, because no other poll follows."""
        for poller in self.pollers:
            if poller.recorder.unsaved_increments:  # All feeds share it.
                await poller.save_requests()

    async def stop(self) -> None:
        """Stop polling, once commits in progress are complete."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def health(self, registry: SeriesRegistry, now: float) -> WorkspaceHealth:
        """Return the health of the workspace, without secrets; ``now`` is in Unix seconds."""
        name = self.workspace.name
        recent_since, platforms = _with_recent(self.pollers, registry.platform_health(name), now)
        return WorkspaceHealth(
            name=name,
            base_url=self.workspace.base_url,
            generation=", ".join(sorted({poller.recorder.feed.generation for poller in self.pollers})),
            feeds=tuple(_redact(poller.health) for poller in self.pollers),
            quota=self.client.quota,
            platforms=platforms,
            recent_since=recent_since,
            failing_accounts=registry.failing_accounts(name),
            status=_redact_status(self.status.health),
        )

    def unsynced_feeds(self) -> Iterator[FeedHealth]:
        """Yield the feeds whose first sync is not complete."""
        return (_redact(health) for health in (poller.health for poller in self.pollers) if not health.is_synced)


def _with_recent(
    pollers: Iterable[Poller], platforms: Sequence[PlatformHealth], now: float
) -> tuple[float | None, tuple[PlatformHealth, ...]]:
    """Return the start of the last hour as far as it is known, and platforms with their counts in it and since when."""
    for poller in pollers:
        recent = poller.recorder.recent_attempts
        if recent is not None:
            replace = msgspec.structs.replace
            history_since = (poller.recorder.complete_since or 0) / 1000
            return recent.known_since(now), tuple(
                replace(
                    platform,
                    recent=recent.counts(platform.name, now),
                    counted_since=platform.counted_since or history_since,
                )
                for platform in platforms
            )
    return None, tuple(platforms)


def _redact(health: FeedHealth) -> FeedHealth:
    replace = msgspec.structs.replace
    recent_polls, recent_failures = (
        tuple(replace(poll, error=log.redact(poll.error)) for poll in polls)
        for polls in (health.recent_polls, health.recent_failures)
    )
    return replace(health, error=log.redact(health.error), recent_polls=recent_polls, recent_failures=recent_failures)


def _redact_status(status: WorkspaceStatus) -> WorkspaceStatus:
    replace = msgspec.structs.replace
    return replace(status, feeds=tuple(replace(feed, error=log.redact(feed.error)) for feed in status.feeds))
