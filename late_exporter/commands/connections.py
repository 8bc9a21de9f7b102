"""Connect a command to the API of its workspaces, and choose the lists that it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.app.connector import Connector, open_client
from late_exporter.commands.output import warn
from late_exporter.config.quoting import quote
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError, ApiUnavailable, ConfigError
from late_exporter.feeds.feed import Feed
from late_exporter.model import DAY_MS
from late_exporter.store.records import Coverage


@asynccontextmanager
async def connect_workspaces(context: CommandContext) -> AsyncIterator[Mapping[str, LateClient]]:
    """Connect to the workspace of ``--workspace``, or to all; raise ConfigError."""
    settings, selected = context.settings, context.flags.workspace
    workspaces = [each for each in settings.workspaces if selected in (None, each.name)]
    if selected is not None and not workspaces:
        names = ", ".join(each.name for each in settings.workspaces)
        raise ConfigError(f"--workspace{quote(selected)}: no such workspace; choose from {names}")
    async with AsyncExitStack() as stack:
        connector = Connector(await open_client(settings, stack))
        yield {each.name: connector.connect(settings, each) for each in workspaces}


@contextmanager
def report_failure(workspace: str, unread: list[str]) -> Iterator[None]:
    """Print an error of the API of a workspace and add the workspace to ``unread``: others may work."""
    try:
        yield
    except ApiError as exc:
        warn(f"error: {workspace}: {exc}")
        unread.append(workspace)


async def recorded_feed(name: str, client: LateClient, coverage: Coverage) -> Feed:
    """Return the feed that the state was counted from; raise ApiError if another one is configured."""
    feed = await find_feed(name, client, recorded=coverage.generation)
    if feed.generation != coverage.generation:
        raise ApiUnavailable(
            f"the state was counted from API generation {coverage.generation}, but --api.generation is "
            f"{feed.generation}; start the exporter once to switch the state"
        )
    return feed


def require_retained(since: float | None, feed: Feed) -> None:
    """Raise ConfigError if the API does not keep logs for that many seconds."""
    if since is not None and since * 1000 > feed.retention:
        raise ConfigError(
            f"--since: must be at most {feed.retention // DAY_MS}d, because generation {feed.generation} of the API "
            "keeps logs no longer"
        )
