"""Read from the API for a command: the workspaces, pages of logs, status feeds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_page
from late_exporter.api.responses import ApiResponse
from late_exporter.app.connector import Connector, open_clients
from late_exporter.commands.output import warn
from late_exporter.config.messages import quote
from late_exporter.config.settings import CommandContext, Workspace
from late_exporter.errors import ApiError, BadRequest, ConfigError, Unauthorized
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.status_feeds.accounts import MAX_HEALTH_ROWS
from late_exporter.feeds.status_feeds.refresh import (
    AccountList,
    RefreshContext,
    Report,
    StatusFeed,
)
from late_exporter.format import plural
from late_exporter.ingest.status_poller import fetch_status
from late_exporter.ingest.steps import perform
from late_exporter.ingest.sweep import FetchPage, Sweep, second_below
from late_exporter.model import DAY_MS, LogPage

CLEAR_LINE = "\r\x1b[K"
NO_ACCOUNTS = AccountList()

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a page is requested again that has failed, once another one could be read."""


def selected_workspaces(context: CommandContext) -> list[Workspace]:
    """Return the workspace of ``--workspace``, or all; raise ConfigError if there is none."""
    workspaces = context.settings.workspaces
    selected = context.flags.workspace
    if selected is None:
        return list(workspaces)
    matches = [each for each in workspaces if each.name == selected]
    if not matches:
        names = ", ".join(each.name for each in workspaces)
        raise ConfigError(f"--workspace{quote(selected)}: no such workspace; choose from {names}")
    return matches


@asynccontextmanager
async def connect_workspaces(context: CommandContext) -> AsyncIterator[Mapping[str, LateClient]]:
    """Connect to the selected workspaces; raise ConfigError."""
    workspaces = selected_workspaces(context)
    async with AsyncExitStack() as stack:
        connector = Connector(await open_clients(context.settings, stack))
        yield {each.name: connector.connect(context.settings, each) for each in workspaces}


@contextmanager
def report_failure(workspace: str, unread: list[str]) -> Iterator[None]:
    """Print an error of the API and add the workspace to ``unread``: others may work."""
    try:
        yield
    except ApiError as exc:
        warn(f"error: {workspace}: {exc}")
        unread.append(workspace)


def require_retained(since: float | None, feed: Feed) -> None:
    """Raise ConfigError if the API does not keep logs for that many seconds."""
    if since is not None and since * 1000 > feed.retention:
        raise ConfigError(
            f"--since: must be at most {feed.retention // DAY_MS}d, because generation "
            f"{feed.generation} of the API keeps logs no longer"
        )


async def refresh_status(
    client: LateClient,
    feed: StatusFeed,
    now: float,
    *,
    max_accounts: int = MAX_HEALTH_ROWS,
    accounts: AccountList = NO_ACCOUNTS,
) -> Sequence[Report]:
    """Return what a status feed reports at a Unix time; raise ApiError.

    Args:
        client: API client of the workspace.
        feed: The status feed.
        now: Unix time of the API.
        max_accounts: Maximum number of accounts to read.
        accounts: The accounts, as far as they are known.
    """
    context = RefreshContext(
        workspace="",
        now=int(now * 1000),
        max_accounts=max_accounts,
        has_profile=client.profile_id is not None,
        accounts=accounts,
    )
    return await perform(feed.refresh(context), partial(fetch_status, client, feed))


@dataclass
class ListReader:
    """Reads a log list from new to old, by the same sweep as polls.

    Args:
        client: API client of the workspace.
        feed: Feed of the list.
        title: What the progress of the reader is shown with.
        filters: Parameters of every request.
        sleep: Wait for some seconds.
    """

    client: LateClient
    feed: Feed
    title: str
    filters: Mapping[str, str | int] | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    read_count: int = field(default=0, init=False)
    _last: tuple[LogPage, ApiResponse] = field(init=False)

    async def pages(self, lower: int) -> AsyncIterator[tuple[LogPage, ApiResponse]]:
        """Yield the pages down to a time in milliseconds, each with its response.

        The API leaves out older logs if it can filter by time.
        """
        by_time = self.feed.supports_time_filter
        after = second_below(lower) if by_time else None
        sweep = Sweep(None, lower, by_time=by_time, after=after)
        while not sweep.is_complete:
            self._show_progress(f"{self.title}: {plural(self.read_count, 'log')} read")
            try:
                await perform(sweep.read(), self._fetch)
            finally:
                self._show_progress("")
            yield self._last

    async def _fetch(self, request: FetchPage) -> LogPage:
        """Return a page; the client itself waits if the API asks to."""
        if request.in_parts:  # Only counting needs all logs of a time.
            return self._last[0]
        for pause in PAUSES if self.read_count else ():
            try:
                return await self._fetch_once(request)
            except (Unauthorized, BadRequest):
                raise
            except ApiError:
                await self.sleep(pause)
        return await self._fetch_once(request)

    async def _fetch_once(self, request: FetchPage) -> LogPage:
        self._last = await fetch_page(
            self.client,
            self.feed,
            skip=request.place.skip,
            filters=self.filters,
            created_after=request.after,
            created_before=request.place.before,
        )
        page, _ = self._last
        self.read_count += len(page.entries)
        return page

    def _show_progress(self, text: str) -> None:
        """Draw a line that shows how far the reader is, if somebody looks."""
        if sys.stderr.isatty():
            sys.stderr.write(f"{CLEAR_LINE}{text}")
            sys.stderr.flush()
