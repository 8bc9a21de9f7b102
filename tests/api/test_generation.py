from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from late_exporter.api.client import AUTO
from late_exporter.api.generation import find_feed
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiError, ApiUnavailable, BadRequest
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from tests.support.client import FakeClient, QueryParams
from tests.support.world import iso_time

LATE, ZERNIO = (GENERATIONS[name]["publishing"] for name in ("late", "zernio"))
NOW = 1_764_000_000
DAY = 86_400


def late_list(*ages: float) -> bytes:
    """Return a list of generation late with logs of some ages in seconds."""
    return logs(*({"_id": f"{age}", "createdAt": iso_time(NOW - age)} for age in ages))


def zernio_list(*ages: float) -> bytes:
    """Return a list of generation zernio with logs of some ages in seconds."""
    return logs(*({"action": "post.published", "created_at": iso_time(NOW - age)} for age in ages))


def logs(*rows: Mapping[str, Any]) -> bytes:
    return json.dumps({"logs": rows}).encode()


Answer = bytes | ApiError | None


class FakeListApi(FakeClient):
    """API whose lists answer as ``late`` and ``zernio`` say: a body, an error, or None for 404."""

    def __init__(self, *, late: Answer, zernio: Answer, configured: str = AUTO) -> None:
        super().__init__(self._respond)
        self.late, self.zernio = late, zernio
        self.configured_generation = configured

    @property
    def requested_paths(self) -> list[str]:
        """Paths of all requests so far."""
        return [request.path for request in self.requests]

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        assert params["limit"] == 1
        answer = self.zernio if path == ZERNIO.path else self.late
        if isinstance(answer, ApiError):
            raise answer
        return None if answer is None else ApiResponse(answer, float(NOW))


@pytest.mark.parametrize(
    ("late", "zernio", "expected"),
    [
        (late_list(60), zernio_list(1), LATE),
        (late_list(601 + 60), zernio_list(60), ZERNIO),
        (late_list(599 + 60), zernio_list(60), LATE),
        (late_list(), zernio_list(), ZERNIO),
        (late_list(), zernio_list(8 * DAY), ZERNIO),
        (late_list(60), zernio_list(-DAY), LATE),
        (late_list(60), None, LATE),
        (logs({"createdAt": iso_time(NOW)}), zernio_list(60), ZERNIO),
    ],
)
async def test_the_newest_logs_decide_between_two_lists(late: bytes, zernio: bytes | None, expected: Feed) -> None:
    """Without a state, the old list is read if it has logs and is as new as the documented one."""
    api = FakeListApi(late=late, zernio=zernio)
    assert expected is await find_feed("publishing", api)
    assert api.requested_paths == [ZERNIO.path, LATE.path]


@pytest.mark.parametrize(
    ("configured", "recorded", "expected"),
    [
        (AUTO, "late", LATE),
        (AUTO, "zernio", ZERNIO),
        ("late", None, LATE),
        ("zernio", "late", ZERNIO),
    ],
)
async def test_a_generation_that_is_known_costs_no_request(configured: str, recorded: str, expected: Feed) -> None:
    """The configuration decides, then the state."""
    api = FakeListApi(late=None, zernio=None, configured=configured)
    assert expected is await find_feed("publishing", api, recorded=recorded)
    assert api.requests == []


async def test_without_any_list_the_error_names_both_answers() -> None:
    """The next call examines both lists again."""
    api = FakeListApi(late=BadRequest("400: Invalid post ID", status=400), zernio=None)
    message = (
        "no log list can be read: generation zernio: 404: the API has no /v1/logs; generation late: 400: Invalid post "
        "ID; check --api.base-url, the rights of the key and the status of the API"
    )
    with pytest.raises(ApiUnavailable) as raised:
        await find_feed("publishing", api)
    assert str(raised.value) == message
    api.zernio = zernio_list(1)
    assert ZERNIO is await find_feed("publishing", api)


async def test_a_feed_without_a_list() -> None:
    """A feed of one generation is read there without a detection, and is an error in the other one."""
    api = FakeListApi(late=None, zernio=None)
    assert GENERATIONS["zernio"]["webhooks"] is await find_feed("webhooks", api)
    assert api.requests == []
    api.configured_generation = "late"
    with pytest.raises(ApiUnavailable, match=r"API generation late has no webhooks logs; remove it from --poll\.feeds"):
        await find_feed("webhooks", api)


async def test_a_profile_is_read_from_the_documented_list() -> None:
    """The old list cannot be limited to a profile, so it is not requested."""
    api = FakeListApi(late=late_list(1), zernio=zernio_list(1))
    api.profile_id = "p1"
    assert ZERNIO is await find_feed("publishing", api)
    assert api.requested_paths == [ZERNIO.path]
