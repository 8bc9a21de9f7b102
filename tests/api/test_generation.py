from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from late_exporter.api.generation import AUTO, ApiGeneration
from late_exporter.errors import ApiError, ApiUnavailable, Unauthorized
from late_exporter.feeds import GENERATIONS
from late_exporter.status import Quota
from tests.support.worlds import Call, NullLogger, Reply

LATE, ZERNIO = (GENERATIONS[name]["publishing"] for name in ("late", "zernio"))


class Api:
    """An API that has some paths."""

    quota: Quota | None = None
    rate_limit = 60
    key_reload_count = 0

    def __init__(self, *paths: str) -> None:
        self.paths = set(paths)
        self.asked: list[str] = []
        self.error: ApiError | None = None

    def key_file_changed(self) -> bool:
        """Never."""
        return False

    def pop_request_log(self) -> tuple[Sequence[Call], float]:
        """Nothing."""
        return (), 0.0

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        """An empty list, or 404."""
        await asyncio.sleep(0)
        assert (path, 1) == (path_template, params["limit"])
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        return Reply(b'{"logs": []}', None) if path in self.paths else None


def dialect(asked: str = AUTO) -> ApiGeneration:
    """One that nobody listens to."""
    return ApiGeneration(asked, logger=NullLogger())


@pytest.mark.parametrize(
    ("paths", "expected", "asked"),
    [
        ([LATE.path], LATE, [LATE.path]),
        ([ZERNIO.path], ZERNIO, [LATE.path, ZERNIO.path]),
        ([LATE.path, ZERNIO.path], LATE, [LATE.path]),
    ],
)
async def test_it_is_asked_once(paths: list[str], expected: object, asked: list[str]) -> None:
    """All who read from a place share one answer; where both generations are spoken, the one with ids is chosen."""
    api, spoken = Api(*paths), dialect()
    found = await asyncio.gather(*(spoken.resolve_feed("publishing", api, state_generation=None) for _ in range(3)))
    assert ([expected] * 3, asked) == (found, api.asked)


async def test_an_api_that_has_neither() -> None:
    """Where there is no list at all the address is wrong; it is asked again the next time."""
    api, spoken = Api(), dialect()
    with pytest.raises(ApiUnavailable, match="neither /v1/posts/logs nor /v1/logs"):
        await spoken.resolve_feed("publishing", api, state_generation=None)
    api.paths = {ZERNIO.path}
    assert ZERNIO is await spoken.resolve_feed("publishing", api, state_generation=None)


async def test_a_refused_key_tells_nothing() -> None:
    """An error is the poll's, and what the API speaks is still unknown."""
    api, spoken = Api(LATE.path), dialect()
    api.error = Unauthorized("401")
    with pytest.raises(Unauthorized):
        await spoken.resolve_feed("publishing", api, state_generation="late")
    api.error = None
    assert LATE is await spoken.resolve_feed("publishing", api, state_generation="late")


async def test_repeated_404s_ask_again() -> None:
    """One list that is gone may be a deployment; three in a row are a switch."""
    api, spoken = Api(LATE.path), dialect()
    await spoken.resolve_feed("publishing", api, state_generation=None)
    api.paths = {ZERNIO.path}
    for present, expected in [
        (False, LATE),
        (False, LATE),
        (True, LATE),
        (False, LATE),
        (False, LATE),
        (False, ZERNIO),
    ]:
        spoken.report_list(exists=present)
        assert expected is await spoken.resolve_feed("publishing", api, state_generation="late")


async def test_a_state_without_ids_cannot_go_back() -> None:
    """What was counted without ids is read without ids, whatever else the API speaks; who forbids that is told."""
    api = Api(LATE.path, ZERNIO.path)
    assert ZERNIO is await dialect().resolve_feed("publishing", api, state_generation="zernio")
    assert [] == api.asked
    with pytest.raises(ApiUnavailable, match=r"use --api\.generation zernio or auto, or another --state\.url"):
        await dialect("late").resolve_feed("publishing", api, state_generation="zernio")


async def test_a_choice_is_not_asked_for() -> None:
    """A generation that the user has chosen is believed, and kept whatever is gone."""
    api, chosen = Api(LATE.path), dialect("zernio")
    for _ in range(5):
        chosen.report_list(exists=False)
    assert ZERNIO is await chosen.resolve_feed("publishing", api, state_generation="late")
    assert [] == api.asked


async def test_a_feed_that_a_generation_does_not_have() -> None:
    """The further types of logs are told to be missing from the older generation."""
    with pytest.raises(ApiUnavailable, match="generation late of the API has no webhooks logs"):
        await dialect("late").resolve_feed("webhooks", Api(), state_generation=None)
    assert GENERATIONS["zernio"]["webhooks"] is dialect("late").initial_feed("webhooks", state_generation=None)
    assert ZERNIO is dialect().initial_feed("publishing", state_generation="zernio")
    assert LATE is dialect().initial_feed("publishing", state_generation=None)
