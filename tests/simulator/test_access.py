"""Tests of API keys and of the rights of restricted ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from late_exporter.simulator import SimulatedApi, SimulatedWorld, SimulatorResponse

NOW = 1_795_521_600.0
FULL_KEY, RESTRICTED_KEY = "sk_" + "a1" * 32, "zrk_" + "a1" * 32
GROUPS = {
    "/v1/logs": "publishing",
    "/v1/posts": "publishing",
    "/v1/accounts": "accounts",
    "/v1/accounts/health": "accounts",
    "/v1/webhooks/settings": "webhooks",
    "/v1/billing": "billing",
}


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Return a world of one hour."""
    return SimulatedWorld(1, NOW, history=3600, with_activity=True)


def get(api: SimulatedApi, path: str, key: str) -> SimulatorResponse:
    """Send a request with a key."""
    return api.handle("GET", path, "", {"Authorization": f"Bearer {key}"})


def body(response: SimulatorResponse) -> Any:
    """Return the document of a response."""
    return msgspec.json.decode(response.body)


@pytest.mark.parametrize("group", sorted(set(GROUPS.values())))
def test_restricted_key(world: SimulatedWorld, group: str) -> None:
    """A restricted key reads the paths of its groups, and the errors of all others name the missing group."""
    api = SimulatedApi(world, clock=lambda: NOW, resource_groups={group}, generation="zernio")
    for path, path_group in GROUPS.items():
        response = get(api, path, RESTRICTED_KEY)
        if path_group == group:
            assert 200 == response.status, path
        else:
            document = body(response)
            assert 403 == response.status, path
            assert ("permission_error", "insufficient_permissions", path_group) == (
                document["type"],
                document["code"],
                document["required_group"],
            )
        assert 200 == get(api, path, FULL_KEY).status


def test_restricted_key_with_all_groups(world: SimulatedWorld) -> None:
    """A restricted key may have every group."""
    api = SimulatedApi(world, clock=lambda: NOW, generation="zernio")
    assert {200} == {get(api, path, RESTRICTED_KEY).status for path in GROUPS}


@pytest.mark.parametrize("generation", ["late", "zernio", "both"])
@pytest.mark.parametrize("path", ["/v1/posts/logs", "/v1/connections/logs", "/v1/posts/p1/logs", "/v1/nowhere"])
def test_undocumented_path(world: SimulatedWorld, generation: str, path: str) -> None:
    """A restricted key cannot use a path without a group, whether it exists or not."""
    api = SimulatedApi(world, clock=lambda: NOW, generation=generation)
    response = get(api, path, RESTRICTED_KEY)
    document = body(response)
    assert (403, "unclassified_resource") == (response.status, document["code"])
    assert "required_group" not in document
    assert get(api, path, FULL_KEY).status in {200, 404}


def test_refusals_take_slots(world: SimulatedWorld) -> None:
    """A request without the right counts towards the rate limit."""
    api = SimulatedApi(world, clock=lambda: NOW, resource_groups=(), rate_limit=2, generation="zernio")
    assert [403, 403, 429] == [get(api, "/v1/logs", RESTRICTED_KEY).status for _ in range(3)]
