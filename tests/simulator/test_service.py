"""Tests of the endpoints of the simulated API, without a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from late_exporter.errors import ConfigError
from late_exporter.simulator import INCIDENTS, LogList, SimulatedApi, SimulatedWorld, SimulatorResponse, StaticLogs
from tests.support.clock import VirtualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = "sk_" + "0123456789abcdef" * 4


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands at noon until it is set."""
    return VirtualClock(NOON.timestamp())


@pytest.fixture
def static_logs() -> StaticLogs:
    """Return twelve publishing logs of twelve hours, and three connection logs."""
    return StaticLogs(LogList([publishing(number) for number in range(12)]), LogList(connections()))


@pytest.fixture
def api(static_logs: StaticLogs, clock: VirtualClock) -> SimulatedApi:
    """Return an API of static logs."""
    return SimulatedApi(static_logs, clock=clock.time)


def publishing(number: int) -> dict[str, Any]:
    """Return a publishing log by its number, from the oldest."""
    return {
        "_id": f"{number:024x}",
        "postId": {"_id": f"post{number % 5}", "content": f"Brötchen {number}", "status": "published"},
        "platform": ("twitter", "tiktok")[number % 2],
        "accountUsername": "@baeckerei",
        "action": "retry" if number == 3 else "publish",
        "status": "pending" if number == 11 else "failed" if number == 3 else "success",
        "request": {"contentPreview": f"Brötchen {number}"},
        "response": {"errorMessage": "Rate limit exceeded"} if number == 3 else None,
        "createdAt": (NOON - timedelta(hours=12 * (12 - number))).isoformat().replace("+00:00", "Z"),
    }


def connections() -> list[dict[str, Any]]:
    """Return three connection logs, oldest first."""
    events = ("connect_success", "disconnect", "reconnect_failed")
    return [
        {"_id": f"c{number}", "platform": "twitter", "eventType": event, "createdAt": f"2026-11-24T0{number}:00:00Z"}
        for number, event in enumerate(events)
    ]


def get(api: SimulatedApi, path: str, query: str = "", key: str = KEY, method: str = "GET") -> SimulatorResponse:
    """Send a request with a key."""
    return api.handle(method, path, query, {"Authorization": f"Bearer {key}"})


def body(response: SimulatorResponse) -> Any:
    """Return the document of a response."""
    return msgspec.json.decode(response.body)


def numbers(response: SimulatorResponse) -> list[int]:
    """Return the numbers of the publishing logs of a response."""
    return [int(row["_id"], 16) for row in body(response)["logs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("status=all&platform=all&action=all", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("status=pending", [11]),
        ("status=failed", [3]),
        ("status=skipped", []),
        ("platform=tiktok&limit=3", [11, 9, 7]),
        ("platform=tiktok&status=failed", [3]),
        ("platform=twitter&status=failed", []),
        ("action=retry", [3]),
        ("days=1", [11, 10]),
        ("days=2&platform=twitter", [10, 8]),
        ("search=BR%C3%96TCHEN%201", [11, 10, 1]),
        ("search=rate+limit", [3]),
        ("search=post4", [9, 4]),
        ("search=nothing", []),
        ("limit=2&skip=3", [8, 7]),
        ("skip=50", []),
        ("unknown=1&limit=1", [11]),
    ],
)
def test_publishing_filters(api: SimulatedApi, query: str, expected: list[int]) -> None:
    """Every documented filter of the publishing logs works, newest first."""
    assert expected == numbers(get(api, "/v1/posts/logs", query))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["c2", "c1", "c0"]),
        ("eventType=disconnect", ["c1"]),
        ("eventType=all&status=all", ["c2", "c1", "c0"]),
        ("status=success", ["c0"]),
        ("status=failed&platform=twitter", ["c2"]),
        ("platform=tiktok", []),
    ],
)
def test_connection_filters(api: SimulatedApi, query: str, expected: list[str]) -> None:
    """Every documented filter of the connection logs works, newest first."""
    response = get(api, "/v1/connections/logs", query)
    assert expected == [row["_id"] for row in body(response)["logs"]]


@pytest.mark.parametrize(
    ("path", "query", "wrong"),
    [
        ("/v1/posts/logs", "limit=0", {"limit": "must be an integer between 1 and 100"}),
        ("/v1/posts/logs", "limit=101", {"limit": "must be an integer between 1 and 100"}),
        ("/v1/posts/logs", "limit=ten", {"limit": "must be an integer between 1 and 100"}),
        ("/v1/posts/logs", "skip=-1", {"skip": "must be an integer at least 0"}),
        ("/v1/posts/logs", "days=8", {"days": "must be an integer between 1 and 7"}),
        ("/v1/posts/logs", "days=0", {"days": "must be an integer between 1 and 7"}),
        ("/v1/posts/logs", "status=done", {"status": "must be one of: success, failed, pending, skipped, all"}),
        ("/v1/connections/logs", "status=pending", {"status": "must be one of: success, failed, all"}),
        ("/v1/connections/logs", "limit=1.5", {"limit": "must be an integer between 1 and 100"}),
        ("/v1/posts/post0/logs", "limit=1000", {"limit": "must be an integer between 1 and 100"}),
    ],
)
def test_validation(api: SimulatedApi, path: str, query: str, wrong: dict[str, str]) -> None:
    """A parameter out of bounds is rejected by name."""
    response = get(api, path, query)
    assert 400 == response.status
    assert {
        "error": "Invalid query",
        "type": "invalid_request_error",
        "code": "VALIDATION_ERROR",
        "param": next(iter(wrong)),
        "details": wrong,
    } == body(response)


@pytest.mark.parametrize("name", ["platform", "action", "eventType"])
def test_unknown_names(api: SimulatedApi, name: str) -> None:
    """Unknown values are rejected, all in one response."""
    path = "/v1/connections/logs" if name == "eventType" else "/v1/posts/logs"
    response = get(api, path, f"{name}=myspace&days=9")
    assert 400 == response.status
    assert {name, "days"} == set(body(response)["details"])


@pytest.mark.parametrize(
    ("limit", "skip", "pages", "more"),
    [(5, 0, 3, True), (5, 5, 3, True), (5, 10, 3, False), (6, 6, 2, False), (100, 0, 1, False), (1, 99, 12, False)],
)
def test_pagination(api: SimulatedApi, limit: int, skip: int, pages: int, *, more: bool) -> None:
    """The pagination has the number of matches and pages, and whether more follow."""
    response = get(api, "/v1/posts/logs", f"limit={limit}&skip={skip}")
    expected = {"total": 12, "limit": limit, "skip": skip, "pages": pages, "hasMore": more}
    assert expected == body(response)["pagination"]


def test_empty_list(clock: VirtualClock) -> None:
    """An empty list has no pages."""
    response = get(SimulatedApi(StaticLogs(), clock=clock.time), "/v1/posts/logs")
    expected = {"total": 0, "limit": 50, "skip": 0, "pages": 0, "hasMore": False}
    assert {"logs": [], "pagination": expected} == body(response)


def test_post_logs(api: SimulatedApi) -> None:
    """A post's logs are newest first, with the post's id as text."""
    response = body(get(api, "/v1/posts/post1/logs"))
    assert ["post1"] * 3 == [row["postId"] for row in response["logs"]]
    assert [11, 6, 1] == [int(row["_id"], 16) for row in response["logs"]]
    assert (3, "post1") == (response["count"], response["postId"])
    assert [11] == numbers(get(api, "/v1/posts/post1/logs", "limit=1"))


@pytest.mark.parametrize("path", ["/v1/posts/none/logs", "/v1/posts", "/v1/posts/a/b/logs", "/api", "/v2/posts/logs"])
def test_not_found(api: SimulatedApi, path: str) -> None:
    """An unknown path or post is answered as documented."""
    response = get(api, path)
    assert (404, {"error": "Not found", "type": "not_found", "code": "not_found"}) == (response.status, body(response))


OLD = ("/v1/posts/logs", "/v1/connections/logs", "/v1/posts/post0/logs")
NEW = "/v1/logs"


@pytest.mark.parametrize(("generation", "old", "new"), [("late", 200, 404), ("zernio", 404, 200), ("both", 200, 200)])
def test_generations(api: SimulatedApi, generation: str, old: int, new: int) -> None:
    """Each generation has its own endpoints, and the generation can change while the API runs."""
    assert "late" == api.generation
    api.generation = generation
    assert [old, old, old, new] == [get(api, path).status for path in (*OLD, NEW)]
    assert 401 == get(api, NEW, key="sk_wrong").status
    assert {405 if new == 200 else 404} == {get(api, NEW, method="POST").status}


def test_unknown_generation(static_logs: StaticLogs, clock: VirtualClock) -> None:
    """An unknown generation is rejected and changes nothing."""
    api = SimulatedApi(static_logs, clock=clock.time, generation="zernio")
    with pytest.raises(ConfigError, match="unknown generation 'meta': use one of late, zernio, both"):
        api.generation = "meta"
    assert "zernio" == api.generation


def test_generation_over_http(admin: Callable[..., tuple[int, Any]]) -> None:
    """The generation can be read and changed over HTTP."""
    assert (200, {"generation": "late"}) == admin("GET", "/_simulator/generation")
    assert (200, {"generation": "zernio"}) == admin("POST", "/_simulator/generation", "name=zernio")
    assert "zernio" == admin("GET", "/_simulator")[1]["generation"]
    assert 401 == admin("GET", NEW)[0]


def test_below_api(api: SimulatedApi) -> None:
    """The base URL may end in /api, like the real one."""
    assert get(api, "/v1/posts/logs").body == get(api, "/api/v1/posts/logs").body


def test_wrong_method(api: SimulatedApi) -> None:
    """Logs are read-only."""
    assert 405 == get(api, "/v1/posts/logs", method="POST").status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer sk_short"},
        {"Authorization": "Bearer " + KEY.upper()},
        {"Authorization": "Bearer rk_" + KEY},
        {"authorization": "Bearer  " + KEY},
    ],
)
def test_unauthorized(api: SimulatedApi, headers: dict[str, str]) -> None:
    """Without a well-formed key a request is rejected and uses no quota."""
    response = api.handle("GET", "/v1/posts/logs", "", headers)
    expected = {"error": "Unauthorized", "type": "authentication_error", "code": "unauthorized"}
    assert (401, expected) == (response.status, body(response))
    assert "600" == response.headers["X-RateLimit-Remaining"]


def test_accepted_keys(static_logs: StaticLogs, clock: VirtualClock) -> None:
    """With a list of keys only those are accepted."""
    api = SimulatedApi(static_logs, clock=clock.time, keys={"sk_mine"})
    assert 200 == get(api, "/v1/posts/logs", key="sk_mine").status
    assert 401 == get(api, "/v1/posts/logs", key=KEY).status


def test_rate_limit(static_logs: StaticLogs, clock: VirtualClock) -> None:
    """Each request takes a slot of its key for 60 seconds; without a free one the answer is 429 until one frees."""
    api = SimulatedApi(static_logs, clock=clock.time, rate_limit=2)
    answers = []
    for seconds in (45.5, 10, 10):
        clock.advance(seconds)
        answers.append(get(api, "/v1/posts/logs"))
    assert [(200, "1"), (200, "0"), (429, "0")] == [
        (response.status, response.headers["X-RateLimit-Remaining"]) for response in answers
    ]
    error = {"error": "Rate limit exceeded. Please try again later.", "type": "rate_limit_error"}
    assert {**error, "code": "rate_limit_exceeded"} == body(answers[2])
    reset = int(answers[2].headers["X-RateLimit-Reset"])
    assert ["40"] == [response.headers["Retry-After"] for response in answers if "Retry-After" in response.headers]
    assert NOON.timestamp() + 106 == reset, "the first slot frees, not the whole window"
    clock.now = NOON.timestamp() + 105.4
    assert 429 == get(api, "/v1/posts/logs").status
    clock.now = reset
    assert [200, 429] == [get(api, "/v1/posts/logs").status for _ in range(2)]


def test_changed_rate_limit(static_logs: StaticLogs, clock: VirtualClock) -> None:
    """A lower limit applies at once, and the next slot frees when the requests are below it."""
    api = SimulatedApi(static_logs, clock=clock.time, rate_limit=9)
    for _ in range(4):
        get(api, "/v1/posts/logs")
        clock.advance(1)
    api.rate_limit = 2
    refused = get(api, "/v1/posts/logs")
    assert (429, "2", "0", "58") == (
        refused.status,
        *(refused.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining")),
        refused.headers["Retry-After"],
    )


def test_rate_limit_is_a_keys_own(static_logs: StaticLogs, clock: VirtualClock) -> None:
    """One key's requests do not use another key's quota."""
    api = SimulatedApi(static_logs, clock=clock.time, rate_limit=1)
    assert [200, 429] == [get(api, "/v1/posts/logs").status for _ in range(2)]
    assert 200 == get(api, "/v1/posts/logs", key="sk_" + "f" * 64).status


@pytest.mark.parametrize("path", ["/v1/posts/logs", "/v1/posts/none/logs", "/nowhere"])
def test_headers(api: SimulatedApi, path: str) -> None:
    """Every response has the quota, the API's date and an id of its own."""
    headers, further = get(api, path).headers, get(api, path).headers
    assert headers.pop("X-Request-Id") != further["X-Request-Id"]
    assert {
        "Content-Type": "application/json",
        "Date": "Tue, 24 Nov 2026 12:00:00 GMT",
        "X-RateLimit-Limit": "600",
        "X-RateLimit-Remaining": "599",
        "X-RateLimit-Reset": "1795521660",
    } == headers


def test_odd_rows_are_served(clock: VirtualClock) -> None:
    """Rows of any shape are served unchanged, with any filter."""
    odd = {"_id": 5, "postId": 7, "status": ["success"], "platform": {"a": 1}, "request": "text", "createdAt": None}
    api = SimulatedApi(StaticLogs(LogList([odd]), LogList([{"eventType": None}])), clock=clock.time)
    assert [odd] == body(get(api, "/v1/posts/logs"))["logs"]
    assert [] == body(get(api, "/v1/posts/logs", "search=text&platform=tiktok"))["logs"]
    assert [] == body(get(api, "/v1/connections/logs", "status=failed"))["logs"]


@pytest.fixture
def world(clock: VirtualClock) -> SimulatedWorld:
    """Return a world that began an hour ago."""
    return SimulatedWorld(1, clock.now, history=3600)


@pytest.fixture
def admin(world: SimulatedWorld, clock: VirtualClock) -> Callable[..., tuple[int, Any]]:
    """Return a function that sends a request without a key, and returns status and document."""
    api = SimulatedApi(world, clock=clock.time)

    def ask(method: str, path: str, query: str = "") -> tuple[int, Any]:
        response = api.handle(method, path, query, {})
        return response.status, body(response)

    return ask


def test_world_advances(world: SimulatedWorld, clock: VirtualClock) -> None:
    """A response has all logs up to its time."""
    api = SimulatedApi(world, clock=clock.time)
    before = body(get(api, "/v1/posts/logs"))["pagination"]["total"]
    clock.advance(3600)
    assert body(get(api, "/v1/posts/logs"))["pagination"]["total"] > before


def test_overview(admin: Callable[..., tuple[int, Any]], world: SimulatedWorld) -> None:
    """The overview has generation, time, totals, and active and available incidents."""
    assert (
        200,
        {
            "generation": "late",
            "time": "2026-11-24T12:00:00.000Z",
            "totals": {"publishing": len(world.publishing), "connections": len(world.connections)},
            "customer": {"rate": 0, "calls": 0, "refused": 0},
            "incidents": [],
            "allowed": list(INCIDENTS),
        },
    ) == admin("GET", "/_simulator")


def test_incident_by_hand(admin: Callable[..., tuple[int, Any]]) -> None:
    """An incident can be started and stopped over HTTP."""
    incident = {
        "name": "platform-outage",
        "platform": "tiktok",
        "since": "2026-11-24T12:00:00.000Z",
        "until": "2026-11-24T13:30:00.000Z",
        "account_id": None,
    }
    path = "/_simulator/incidents/platform-outage"
    assert (200, {"incidents": [incident]}) == admin("POST", path, "platform=tiktok&duration=1h30m")
    assert [incident] == admin("GET", "/_simulator")[1]["incidents"]
    assert (200, {"stopped": [incident]}) == admin("DELETE", path)
    assert [] == admin("GET", "/_simulator")[1]["incidents"]


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("POST", "/_simulator/incidents/platform-outage", "duration=soon", 400),
        ("POST", "/_simulator/incidents/platform-outage", "duration=366d", 400),
        ("POST", "/_simulator/incidents/platform-outage", "for=1h", 400),
        ("POST", "/_simulator/incidents/platform-outage", "platform=myspace", 400),
        ("POST", "/_simulator/incidents/suspended", "platform=tiktok", 400),
        ("POST", "/_simulator/incidents/flood", "", 404),
        ("GET", "/_simulator/incidents/slow-video", "", 405),
        ("POST", "/_simulator", "", 405),
        ("DELETE", "/_simulator/generation", "", 405),
        ("POST", "/_simulator/generation", "", 400),
        ("POST", "/_simulator/generation", "name=meta", 400),
        ("GET", "/_simulator/else", "", 404),
    ],
)
def test_admin_errors(admin: Callable[..., tuple[int, Any]], method: str, path: str, query: str, status: int) -> None:
    """Unknown paths and invalid parameters of the admin endpoints are rejected."""
    assert status == admin(method, path, query)[0]


def test_rejected_incident_does_not_start(admin: Callable[..., tuple[int, Any]]) -> None:
    """An incident that would last for thousands of years is rejected, and all endpoints continue to work."""
    path = "/_simulator/incidents/account-cooldown"
    error = "must be a duration such as 90s, 30m or 1h30m, at most 365d"
    assert {"duration": error} == admin("POST", path, "duration=999999d999999d999999d999999d")[1]["details"]
    assert [] == admin("GET", "/_simulator")[1]["incidents"]
    assert (200, {"stopped": []}) == admin("DELETE", path)


def test_unknown_incident_names_the_known(admin: Callable[..., tuple[int, Any]]) -> None:
    """The error of an unknown incident lists the available ones."""
    _, document = admin("POST", "/_simulator/incidents/flood")
    assert ("Unknown incident 'flood'", {"allowed": list(INCIDENTS)}) == (document["error"], document["details"])


def test_no_incidents_without_a_world(api: SimulatedApi) -> None:
    """Static logs have an overview but no incidents."""
    assert {
        "generation": "late",
        "totals": {"publishing": 12, "connections": 3},
        "customer": {"rate": 0, "calls": 0, "refused": 0},
        "allowed": list(INCIDENTS),
    } == body(api.handle("GET", "/_simulator", "", {}))
    assert 404 == api.handle("POST", "/_simulator/incidents/slow-video", "", {}).status


def test_welcome(api: SimulatedApi) -> None:
    """The start page is plain text with curl commands, needs no key and uses no quota."""
    response = api.handle("GET", "/", "", {"host": "localhost:8077"})
    assert "text/plain; charset=utf-8" == response.headers["Content-Type"]
    text = response.body.decode()
    assert "simulated Zernio API" in text
    assert "curl http://localhost:8077/_simulator" in text
    assert all(name in text for name in INCIDENTS)
    assert b"late-exporter is healthy\n" == api.handle("GET", "/-/healthy", "", {}).body
