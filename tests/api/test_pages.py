from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from late_exporter.api.pages import fetch_page, is_post_id
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiUnavailable
from late_exporter.feeds import FEEDS, GENERATIONS
from tests.support.api import FakeHttpApi
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import VirtualClock
from tests.support.world import World

PUBLISHING = FEEDS["publishing"]
ZERNIO = GENERATIONS["zernio"]["publishing"]


@pytest.fixture
def api() -> FakeHttpApi:
    """An API without logs."""
    return FakeHttpApi(World(VirtualClock()))


async def parameters(api: FakeHttpApi, **options: int | Mapping[str, str]) -> QueryParams:
    """Request a page and return the parameters that the API received."""
    await fetch_page(api.client, PUBLISHING, **options)  # type: ignore[arg-type]
    return api.requests[-1].params


async def test_a_page_is_requested_over_the_whole_retention(api: FakeHttpApi) -> None:
    """The first page has the largest size and reaches as far back as the API keeps logs."""
    assert await parameters(api) == {"days": "7", "limit": "100", "skip": "0"}
    assert (await parameters(api, skip=98))["skip"] == "98"


@pytest.mark.parametrize(
    ("millis", "expected"),
    [
        (1_795_514_403_250, "2026-11-24T10:00:03.250Z"),
        (10**18, "9999-12-31T23:59:59.999Z"),
    ],
)
async def test_a_time_is_sent_to_the_millisecond(api: FakeHttpApi, millis: int, expected: str) -> None:
    """A time beyond the calendar is sent as its end."""
    params = await parameters(api, created_after=millis, created_before=millis)
    assert (expected, expected) == (params["from"], params["to"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b?c#d %", True),
        ("", False),
        ("..", False),
        ("a\nb", False),
        ("x" * 201, False),
    ],
)
def test_post_ids(text: str, *, expected: bool) -> None:
    """An id that is empty, too long, unprintable or only dots is rejected."""
    assert is_post_id(text) == expected


def profile_client(*profiles: object, field: str = "profile_id") -> FakeClient:
    """Return a client of the profile p1 whose list has a log of each of some profiles."""
    rows = [{"action": "post.published", "created_at": "2026-11-24T10:00:00Z", field: value} for value in profiles]
    client = FakeClient(lambda _path, _params: ApiResponse(json.dumps({"logs": rows}).encode(), None))
    client.profile_id = "p1"
    return client


@pytest.mark.parametrize("field", ["profile_id", "profileId", "unrelated"])
async def test_a_list_is_limited_to_the_profile_of_the_workspace(field: str) -> None:
    """The request names the profile; logs that name it, or none, are accepted."""
    client = profile_client("p1", None, "", 7, field=field)
    assert len((await fetch_page(client, ZERNIO, skip=98))[0].entries) == 4
    assert client.requests[0].params["profileId"] == "p1"
    client.profile_id = None
    await fetch_page(client, ZERNIO)
    assert "profileId" not in client.requests[1].params


async def test_generation_late_has_no_profiles(api: FakeHttpApi) -> None:
    """A profile is an error that names the remedy, and no request is sent."""
    api.client.profile_id = "p1"
    with pytest.raises(ApiUnavailable, match="generation late have no filter by profile: remove profile_id, use a key"):
        await fetch_page(api.client, PUBLISHING)
    assert api.requests == []
