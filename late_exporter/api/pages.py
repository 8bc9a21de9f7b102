"""Request the pages of a log list, and the logs of one post."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from late_exporter.api.client import LateClient
from late_exporter.api.plausibility import check_ids, check_order, check_profile
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiUnavailable, BadPayload, EndpointNotFound
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time
from late_exporter.model import DAY_MS, LATE, PAGE_SIZE, LogPage

MAX_ID_LENGTH = 200

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
    """Request one page of a log list, of all days unless ``filters`` has ``days``.

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
                "the lists of generation late have no filter by profile: remove profile_id,"
                " use a key that is limited to the profile, or use --api.generation zernio",
                status=404,
            )
        params["profileId"] = client.profile_id
    for name, millis in (("from", created_after), ("to", created_before)):
        if millis is not None:
            params[name] = iso_time(min(millis, LAST_TIME), precise=True)

    response = await client.get(feed.path, params, path_template=feed.path)
    try:
        page = feed.parse(response.body)
        check_ids(page, feed, response.body)
        check_profile(page, client.profile_id)
        check_order(page)
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
    try:
        response = await client.get(path, {"limit": PAGE_SIZE}, path_template=path_template)
    except EndpointNotFound:
        response = NO_LOGS
    page = feed.parse(response.body)
    check_ids(page, feed, response.body)
    return page, response


def is_post_id(text: str) -> bool:
    """Return whether a user's text is usable as the id of a post in a path."""
    # Dots move through a path even if they are quoted.
    return bool(text.strip(".")) and len(text) <= MAX_ID_LENGTH and text.isprintable()
