"""Request the pages of a log list, and the logs of one post."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import quote

from late_exporter.api.client import LateClient
from late_exporter.errors import ApiUnavailable, BadPayload, EndpointNotFound
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time
from late_exporter.model import DAY_MS, LATE, MINUTE_MS, PAGE_SIZE, LogPage
from late_exporter.protocols import ApiResponse

MAX_ID_LENGTH = 200

MIN_ORDERED_ROWS, MAX_DELAY = 10, 15 * MINUTE_MS
"""Rows from which the order of a page is judged, and milliseconds by which a row may be out of place."""

LAST_TIME = 253_402_300_799_999
"""The end of the year 9999 in milliseconds, which is as far as ISO 8601 reaches."""

NO_LOGS = ApiResponse(b'{"logs": []}', None)
"""Stands for the response about a post that does not exist."""


async def fetch_page(
    client: LateClient,
    feed: Feed,
    *,
    skip: int = 0,
    filters: Mapping[str, str | int] | None = None,
    created_after: int | None = None,
    created_before: int | None = None,
) -> tuple[LogPage, ApiResponse]:
    """Request one page of a log list, from all days that the API keeps unless ``filters`` has ``days``.

    If the workspace is limited to a profile, so is the list.

    ``created_after`` and ``created_before`` are times in milliseconds and need
    ``feed.supports_time_filter``.

    Raises:
        EndpointNotFound: The API does not have this list.
        ApiError: The request failed, or the response is not a list of logs.
    """
    params: dict[str, str | int] = {
        **feed.query,
        "days": feed.retention // DAY_MS,
        "limit": PAGE_SIZE,
        "skip": skip,
    }
    params.update(filters or {})
    if client.profile_id is not None:
        if feed.generation == LATE:
            raise ApiUnavailable(
                "API generation late has no profiles: remove profile_id and use a key that is limited to the profile, "
                "or use --api.generation zernio",
                status=404,
            )
        params["profileId"] = client.profile_id
    for name, millis in (("from", created_after), ("to", created_before)):
        if millis is not None:
            params[name] = iso_time(min(millis, LAST_TIME), precise=True)
    response = await client.get(feed.path, params, path_template=feed.path)
    if response is None:
        raise EndpointNotFound(f"404: the API has no {feed.path}", status=404)
    try:
        page = feed.parse(response.body)
        if client.profile_id is not None:
            _check_profiles(page, client.profile_id)
        _check_order(page)
    except BadPayload as exc:
        # The frames of an error and its cause have the body, and live on until it is handled.
        del response
        raise exc.without_frames() from None
    return page, response


async def fetch_post(client: LateClient, feed: Feed, post_id: str) -> tuple[LogPage, ApiResponse]:
    """Request the newest logs of one post; there are none if there is no such post.

    Raises:
        ApiError: The request failed, or the response is not a list of logs.
    """
    path_template = feed.post_path or ""
    path = path_template.replace("{postId}", quote(post_id, safe=""))
    response = await client.get(path, {"limit": PAGE_SIZE}, path_template=path_template) or NO_LOGS
    return feed.parse(response.body), response


def is_post_id(text: str) -> bool:
    """Return whether a user's text is usable as the id of a post in a path."""
    # Dots move through a path even if they are quoted.
    return bool(text.strip(".")) and len(text) <= MAX_ID_LENGTH and text.isprintable()


def _check_profiles(page: LogPage, profile_id: str) -> None:
    """Raise BadPayload if the API ignored ``profileId``, so that logs of other profiles would count."""
    other = next(
        (entry.profile_id for entry in page.entries if entry.profile_id not in (None, profile_id)),
        None,
    )
    if other is not None:
        raise BadPayload(
            f"the API does not filter by profile: it returned a log of profile {other}, but profile_id is "
            f"{profile_id}; check profile_id, or remove it and use a key that is limited to the profile"
        )


def _check_order(page: LogPage) -> None:
    """Raise BadPayload if a page is not sorted from new to old, so that polls would not find new logs.

    The order is not documented, and every example is newest first. Some rows may be out of place:
    those that were written late, in a list in order of insertion.
    """
    times = page.times
    if len(times) < MIN_ORDERED_ROWS or list(times) == sorted(times, reverse=True):
        return
    late_count = sum(following - created > MAX_DELAY for created, following in pairwise(times))
    if late_count > len(times) / 4 or list(times) == sorted(times):
        raise BadPayload("the list is not sorted from new to old, so new logs cannot be found")
