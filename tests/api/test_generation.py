from __future__ import annotations

import asyncio

import pytest

from late_exporter.api.generation import AUTO, ApiGeneration
from late_exporter.errors import ApiError, ApiUnavailable, Unauthorized
from late_exporter.feeds import GENERATIONS
from late_exporter.protocols import ApiResponse
from tests.support.client import FakeClient, QueryParams
from tests.support.loggers import NullLogger

LATE, ZERNIO = (GENERATIONS[name]["publishing"] for name in ("late", "zernio"))


class FakeListApi(FakeClient):
    """API with some paths.

    Attributes:
        paths: Paths that exist.
        error: Raised by every request if set.
    """

    def __init__(self, *paths: str) -> None:
        super().__init__(self._respond)
        self.paths = set(paths)
        self.error: ApiError | None = None

    @property
    def requested_paths(self) -> list[str]:
        """Paths of all requests so far."""
        return [request.path for request in self.requests]

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        assert 1 == params["limit"]
        if self.error is not None:
            raise self.error
        return ApiResponse(b'{"logs": []}', None) if path in self.paths else None


def api_generation(configured: str = AUTO) -> ApiGeneration:
    """Return a generation without logs."""
    return ApiGeneration(configured, logger=NullLogger())


@pytest.mark.parametrize(
    ("paths", "expected", "configured"),
    [
        ([LATE.path], LATE, [LATE.path]),
        ([ZERNIO.path], ZERNIO, [LATE.path, ZERNIO.path]),
        ([LATE.path, ZERNIO.path], LATE, [LATE.path]),
    ],
)
async def test_the_generation_is_detected_once(paths: list[str], expected: object, configured: list[str]) -> None:
    """All feeds share one detection; an API with both generations is read with ids."""
    api, generation = FakeListApi(*paths), api_generation()
    found = await asyncio.gather(*(generation.resolve_feed("publishing", api, state_generation=None) for _ in range(3)))
    assert ([expected] * 3, configured) == (found, api.requested_paths)


async def test_neither_generation() -> None:
    """Without any list the base URL is wrong; the next call detects the generation again."""
    api, generation = FakeListApi(), api_generation()
    with pytest.raises(ApiUnavailable, match="neither /v1/posts/logs nor /v1/logs"):
        await generation.resolve_feed("publishing", api, state_generation=None)
    api.paths = {ZERNIO.path}
    assert ZERNIO is await generation.resolve_feed("publishing", api, state_generation=None)


async def test_a_failed_detection() -> None:
    """An error of the detection is raised, and the generation stays unknown."""
    api, generation = FakeListApi(LATE.path), api_generation()
    api.error = Unauthorized("401")
    with pytest.raises(Unauthorized):
        await generation.resolve_feed("publishing", api, state_generation="late")
    api.error = None
    assert LATE is await generation.resolve_feed("publishing", api, state_generation="late")


async def test_repeated_404_responses() -> None:
    """One 404 may be a deployment; three in a row detect the generation again."""
    api, generation = FakeListApi(LATE.path), api_generation()
    await generation.resolve_feed("publishing", api, state_generation=None)
    api.paths = {ZERNIO.path}
    for present, expected in [
        (False, LATE),
        (False, LATE),
        (True, LATE),
        (False, LATE),
        (False, LATE),
        (False, ZERNIO),
    ]:
        generation.report_list(exists=present)
        assert expected is await generation.resolve_feed("publishing", api, state_generation="late")


async def test_a_state_without_ids_cannot_go_back() -> None:
    """A state without ids stays with generation zernio; a configuration that forbids that is an error."""
    api = FakeListApi(LATE.path, ZERNIO.path)
    assert ZERNIO is await api_generation().resolve_feed("publishing", api, state_generation="zernio")
    assert [] == api.requested_paths
    with pytest.raises(ApiUnavailable, match=r"use --api\.generation zernio or auto, or another --state\.url"):
        await api_generation("late").resolve_feed("publishing", api, state_generation="zernio")


async def test_a_configured_generation_is_not_detected() -> None:
    """A configured generation is used, whatever the API has."""
    api, chosen = FakeListApi(LATE.path), api_generation("zernio")
    for _ in range(5):
        chosen.report_list(exists=False)
    assert ZERNIO is await chosen.resolve_feed("publishing", api, state_generation="late")
    assert [] == api.requested_paths


async def test_a_feed_without_a_list() -> None:
    """A feed that a generation does not have is an error."""
    with pytest.raises(ApiUnavailable, match="API generation late has no webhooks logs"):
        await api_generation("late").resolve_feed("webhooks", FakeListApi(), state_generation=None)
    assert GENERATIONS["zernio"]["webhooks"] is api_generation("late").initial_feed("webhooks", state_generation=None)
    assert ZERNIO is api_generation().initial_feed("publishing", state_generation="zernio")
    assert LATE is api_generation().initial_feed("publishing", state_generation=None)
