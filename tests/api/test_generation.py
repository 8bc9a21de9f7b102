from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from late_exporter.api.generation import (
    AUTO,
    EXAMINATION_INTERVAL,
    GenerationDetector,
)
from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    BadRequest,
    RateLimited,
)
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.protocols import ApiResponse
from tests.support.client import FakeClient, QueryParams
from tests.support.loggers import NullLogger
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

    def __init__(self, *, late: Answer, zernio: Answer) -> None:
        super().__init__(self._respond)
        self.late, self.zernio = late, zernio
        self.monotonic = 0.0

    @property
    def requested_paths(self) -> list[str]:
        """Paths of all requests so far."""
        return [request.path for request in self.requests]

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        assert 1 == params["limit"]
        answer = self.zernio if path == ZERNIO.path else self.late
        if isinstance(answer, ApiError):
            raise answer
        return None if answer is None else ApiResponse(answer, float(NOW))

    def generation(self, configured: str = AUTO) -> GenerationDetector:
        """Return a generation before its first request."""
        return GenerationDetector(configured, logger=NullLogger(), monotonic=lambda: self.monotonic)

    async def resolve(self, generation: GenerationDetector, state: str | None = None) -> Feed:
        """Return the publishing feed."""
        return await generation.resolve_feed("publishing", self, state_generation=state)


@pytest.mark.parametrize(
    ("late", "zernio", "state", "expected"),
    [
        (late_list(60), zernio_list(1), None, LATE),
        (late_list(601 + 60), zernio_list(60), None, ZERNIO),
        (late_list(599 + 60), zernio_list(60), None, LATE),
        (late_list(), zernio_list(), None, ZERNIO),
        (late_list(), zernio_list(), "late", LATE),
        (late_list(), zernio_list(8 * DAY), "late", ZERNIO),
        (late_list(60), zernio_list(-DAY), "late", LATE),
        (logs({"createdAt": iso_time(NOW)}), zernio_list(60), None, ZERNIO),
    ],
)
async def test_the_newest_logs_decide_between_two_lists(
    late: bytes, zernio: bytes, state: str | None, expected: Feed
) -> None:
    """The old list is read while it is as new as the documented one; what the state was counted from decides ties."""
    api = FakeListApi(late=late, zernio=zernio)
    assert expected is await api.resolve(api.generation(), state)


async def test_without_any_list_the_error_names_both_answers() -> None:
    """The next call examines both lists again."""
    api = FakeListApi(late=BadRequest("400: Invalid post ID", status=400), zernio=None)
    generation = api.generation()
    message = (
        "no log list can be read: /v1/logs?type=publishing 404: the API has no /v1/logs; /v1/posts/logs 400: Invalid "
        "post ID; check --api.base-url, the rights of the key and the status of the API"
    )
    with pytest.raises(ApiUnavailable) as raised:
        await api.resolve(generation)
    assert message == str(raised.value)
    api.zernio = zernio_list(1)
    assert ZERNIO is await api.resolve(generation)


async def test_a_single_refused_examination_changes_nothing() -> None:
    """A list that polls can read stays in use; whatever an examination answers is not an error of a poll."""
    api = FakeListApi(late=late_list(1), zernio=zernio_list(1))
    generation = api.generation()
    await api.resolve(generation)
    answers: list[Answer] = [None, ApiUnavailable("500", status=500), RateLimited("429", until=1.0)]
    for answer in answers:
        api.late = answer
        api.monotonic += EXAMINATION_INTERVAL
        await generation.examine_if_due(LATE, api, state_generation="late")
        assert LATE is await api.resolve(generation, "late")
    request_count = len(api.requests)
    await generation.examine_if_due(LATE, api, state_generation="late")
    assert request_count == len(api.requests)


async def test_a_list_that_stays_empty_costs_no_request_per_poll() -> None:
    """Both lists are asked once, and the empty one is read on if the other one has no logs either."""
    api = FakeListApi(late=late_list(1), zernio=None)
    generation = api.generation()
    await api.resolve(generation)
    generation.note_answer(LATE)
    api.late, api.zernio = late_list(), zernio_list()
    assert generation.note_answer(LATE, is_empty=True)
    request_count = len(api.requests)
    for _ in range(3):
        assert LATE is await api.resolve(generation, "late")
        assert not generation.note_answer(LATE, is_empty=True)
    assert request_count + 2 == len(api.requests)


async def test_a_feed_without_a_list() -> None:
    """A feed of one generation is read there without a detection, and is an error in the other one."""
    api = FakeListApi(late=None, zernio=None)
    webhooks = GENERATIONS["zernio"]["webhooks"]
    assert webhooks is await api.generation().resolve_feed("webhooks", api, state_generation=None)
    await api.generation().examine_if_due(webhooks, api, state_generation=None)
    assert [] == api.requests
    with pytest.raises(ApiUnavailable, match=r"API generation late has no webhooks logs; remove it from --poll\.feeds"):
        await api.generation("late").resolve_feed("webhooks", api, state_generation=None)


async def test_a_profile_is_read_from_the_documented_list() -> None:
    """The old list cannot be limited to a profile, so it is not requested."""
    api = FakeListApi(late=late_list(1), zernio=zernio_list(1))
    api.profile_id = "p1"
    assert ZERNIO is await api.resolve(api.generation())
    assert [ZERNIO.path] == api.requested_paths
