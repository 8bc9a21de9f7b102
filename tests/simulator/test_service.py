"""The simulated API's endpoints, asked without a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from late_exporter.errors import ConfigError
from late_exporter.simulator import INCIDENTS, LogList, SimulatedApi, SimulatedWorld, SimulatorResponse, StaticLogs

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = "sk_" + "0123456789abcdef" * 4


class Clock:
    """The simulated API's time."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon until it is set."""
    return Clock()


@pytest.fixture
def archives() -> StaticLogs:
    """Twelve publishing logs, one in twelve hours, and three of connections."""
    return StaticLogs(LogList([publishing(number) for number in range(12)]), LogList(connections()))


@pytest.fixture
def service(archives: StaticLogs, clock: Clock) -> SimulatedApi:
    """A service of the bare archives."""
    return SimulatedApi(archives, clock=clock)


def publishing(number: int) -> dict[str, Any]:
    """The publishing log of that number, counted from the oldest."""
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
    """Three connection logs, oldest first."""
    events = ("connect_success", "disconnect", "reconnect_failed")
    return [
        {"_id": f"c{number}", "platform": "twitter", "eventType": event, "createdAt": f"2026-11-24T0{number}:00:00Z"}
        for number, event in enumerate(events)
    ]


def get(service: SimulatedApi, path: str, query: str = "", key: str = KEY, method: str = "GET") -> SimulatorResponse:
    """Ask with a key."""
    return service.handle(method, path, query, {"Authorization": f"Bearer {key}"})


def body(response: SimulatorResponse) -> Any:
    """The document in an answer."""
    return msgspec.json.decode(response.body)


def numbers(response: SimulatorResponse) -> list[int]:
    """Which publishing logs an answer holds."""
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
def test_publishing_filters(service: SimulatedApi, query: str, expected: list[int]) -> None:
    """Every documented filter of the publishing logs narrows the list, newest first."""
    assert expected == numbers(get(service, "/v1/posts/logs", query))


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
def test_connection_filters(service: SimulatedApi, query: str, expected: list[str]) -> None:
    """Every documented filter of the connection logs narrows the list, newest first."""
    response = get(service, "/v1/connections/logs", query)
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
def test_validation(service: SimulatedApi, path: str, query: str, wrong: dict[str, str]) -> None:
    """A parameter out of bounds is refused and named."""
    response = get(service, path, query)
    assert 400 == response.status
    assert {"error": "Invalid query", "code": "VALIDATION_ERROR", "details": wrong} == body(response)


@pytest.mark.parametrize("name", ["platform", "action", "eventType"])
def test_unknown_names(service: SimulatedApi, name: str) -> None:
    """A value outside the vocabulary is refused, and all mistakes are told at once."""
    path = "/v1/connections/logs" if name == "eventType" else "/v1/posts/logs"
    response = get(service, path, f"{name}=myspace&days=9")
    assert 400 == response.status
    assert {name, "days"} == set(body(response)["details"])


@pytest.mark.parametrize(
    ("limit", "skip", "pages", "more"),
    [(5, 0, 3, True), (5, 5, 3, True), (5, 10, 3, False), (6, 6, 2, False), (100, 0, 1, False), (1, 99, 12, False)],
)
def test_pagination(service: SimulatedApi, limit: int, skip: int, pages: int, *, more: bool) -> None:
    """The pagination says how many match, how many pages that is, and whether more follow."""
    response = get(service, "/v1/posts/logs", f"limit={limit}&skip={skip}")
    expected = {"total": 12, "limit": limit, "skip": skip, "pages": pages, "hasMore": more}
    assert expected == body(response)["pagination"]


def test_empty_list(clock: Clock) -> None:
    """An empty list has no pages."""
    response = get(SimulatedApi(StaticLogs(), clock=clock), "/v1/posts/logs")
    expected = {"total": 0, "limit": 50, "skip": 0, "pages": 0, "hasMore": False}
    assert {"logs": [], "pagination": expected} == body(response)


def test_post_logs(service: SimulatedApi) -> None:
    """A post's logs come newest first, with the post's id as text."""
    response = body(get(service, "/v1/posts/post1/logs"))
    assert ["post1"] * 3 == [row["postId"] for row in response["logs"]]
    assert [11, 6, 1] == [int(row["_id"], 16) for row in response["logs"]]
    assert (3, "post1") == (response["count"], response["postId"])
    assert [11] == numbers(get(service, "/v1/posts/post1/logs", "limit=1"))


@pytest.mark.parametrize("path", ["/v1/posts/none/logs", "/v1/posts", "/v1/posts/a/b/logs", "/api", "/v2/posts/logs"])
def test_not_found(service: SimulatedApi, path: str) -> None:
    """What is not there is answered as documented."""
    response = get(service, path)
    assert (404, {"error": "Not found"}) == (response.status, body(response))


OLD = ("/v1/posts/logs", "/v1/connections/logs", "/v1/posts/post0/logs")
NEW = "/v1/logs"


@pytest.mark.parametrize(("generation", "old", "new"), [("late", 200, 404), ("zernio", 404, 200), ("both", 200, 200)])
def test_generations(service: SimulatedApi, generation: str, old: int, new: int) -> None:
    """Each generation has its own endpoints, and one can follow another while the API is up."""
    assert "late" == service.generation
    service.generation = generation
    assert [old, old, old, new] == [get(service, path).status for path in (*OLD, NEW)]
    assert 401 == get(service, NEW, key="sk_wrong").status
    assert {405 if new == 200 else 404} == {get(service, NEW, method="POST").status}


def test_unknown_generation(archives: StaticLogs, clock: Clock) -> None:
    """A generation that never was is refused, and the one before stays."""
    service = SimulatedApi(archives, clock=clock, generation="zernio")
    with pytest.raises(ConfigError, match="unknown generation 'meta': use one of late, zernio, both"):
        service.generation = "meta"
    assert "zernio" == service.generation


def test_generation_over_http(admin: Callable[..., tuple[int, Any]]) -> None:
    """The generation can be asked for and changed over HTTP."""
    assert (200, {"generation": "late"}) == admin("GET", "/_simulator/generation")
    assert (200, {"generation": "zernio"}) == admin("POST", "/_simulator/generation", "name=zernio")
    assert "zernio" == admin("GET", "/_simulator")[1]["generation"]
    assert 401 == admin("GET", NEW)[0]


def test_below_api(service: SimulatedApi) -> None:
    """The base URL can end in /api, as the real one does."""
    assert get(service, "/v1/posts/logs").body == get(service, "/api/v1/posts/logs").body


def test_wrong_method(service: SimulatedApi) -> None:
    """Logs can only be read."""
    assert 405 == get(service, "/v1/posts/logs", method="POST").status


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": KEY}, {"Authorization": "Bearer sk_short"}, {"authorization": "Bearer  " + KEY}],
)
def test_unauthorized(service: SimulatedApi, headers: dict[str, str]) -> None:
    """Without a well-formed key there is no answer, and no quota is used."""
    response = service.handle("GET", "/v1/posts/logs", "", headers)
    assert (401, {"error": "Unauthorized"}) == (response.status, body(response))
    assert "600" == response.headers["X-RateLimit-Remaining"]


def test_given_keys(archives: StaticLogs, clock: Clock) -> None:
    """Where keys are given, only these are let in."""
    service = SimulatedApi(archives, clock=clock, keys={"sk_mine"})
    assert 200 == get(service, "/v1/posts/logs", key="sk_mine").status
    assert 401 == get(service, "/v1/posts/logs", key=KEY).status


def test_rate_limit(archives: StaticLogs, clock: Clock) -> None:
    """The quota of a key shrinks by one a request, then 429 until the minute turns."""
    service = SimulatedApi(archives, clock=clock, rate_limit=2)
    clock.now += 45
    answers = [get(service, "/v1/posts/logs") for _ in range(3)]
    assert [(200, "1"), (200, "0"), (429, "0")] == [
        (response.status, response.headers["X-RateLimit-Remaining"]) for response in answers
    ]
    assert {"error": "Rate limit exceeded. Please try again later."} == body(answers[2])
    reset = int(answers[2].headers["X-RateLimit-Reset"])
    assert NOON.timestamp() + 60 == reset
    clock.now = reset - 0.01
    assert 429 == get(service, "/v1/posts/logs").status
    clock.now = reset
    assert 200 == get(service, "/v1/posts/logs").status


def test_rate_limit_is_a_keys_own(archives: StaticLogs, clock: Clock) -> None:
    """One key's requests leave another key's quota alone."""
    service = SimulatedApi(archives, clock=clock, rate_limit=1)
    assert [200, 429] == [get(service, "/v1/posts/logs").status for _ in range(2)]
    assert 200 == get(service, "/v1/posts/logs", key="sk_" + "f" * 64).status


@pytest.mark.parametrize("path", ["/v1/posts/logs", "/v1/posts/none/logs", "/nowhere"])
def test_headers(service: SimulatedApi, path: str) -> None:
    """Every answer carries the quota and the API's date."""
    assert {
        "Content-Type": "application/json",
        "Date": "Tue, 24 Nov 2026 12:00:00 GMT",
        "X-RateLimit-Limit": "600",
        "X-RateLimit-Remaining": "599",
        "X-RateLimit-Reset": "1795521660",
    } == get(service, path).headers


def test_odd_rows_are_served(clock: Clock) -> None:
    """Rows of any shape are served as they are, whatever the filters."""
    odd = {"_id": 5, "postId": 7, "status": ["success"], "platform": {"a": 1}, "request": "text", "createdAt": None}
    service = SimulatedApi(StaticLogs(LogList([odd]), LogList([{"eventType": None}])), clock=clock)
    assert [odd] == body(get(service, "/v1/posts/logs"))["logs"]
    assert [] == body(get(service, "/v1/posts/logs", "search=text&platform=tiktok"))["logs"]
    assert [] == body(get(service, "/v1/connections/logs", "status=failed"))["logs"]


@pytest.fixture
def world(clock: Clock) -> SimulatedWorld:
    """A world that began an hour ago."""
    return SimulatedWorld(1, clock.now, history=3600)


@pytest.fixture
def admin(world: SimulatedWorld, clock: Clock) -> Callable[..., tuple[int, Any]]:
    """Asks the world's service for a path without a key; the answer's status and document."""
    service = SimulatedApi(world, clock=clock)

    def ask(method: str, path: str, query: str = "") -> tuple[int, Any]:
        response = service.handle(method, path, query, {})
        return response.status, body(response)

    return ask


def test_world_lives(world: SimulatedWorld, clock: Clock) -> None:
    """What has happened since the last request is in the next answer."""
    service = SimulatedApi(world, clock=clock)
    before = body(get(service, "/v1/posts/logs"))["pagination"]["total"]
    clock.now += 3600
    assert body(get(service, "/v1/posts/logs"))["pagination"]["total"] > before


def test_overview(admin: Callable[..., tuple[int, Any]], world: SimulatedWorld) -> None:
    """The console tells generation, time, totals, incidents and what incidents there are."""
    assert (
        200,
        {
            "generation": "late",
            "time": "2026-11-24T12:00:00.000Z",
            "totals": {"publishing": len(world.publishing), "connections": len(world.connections)},
            "incidents": [],
            "allowed": list(INCIDENTS),
        },
    ) == admin("GET", "/_simulator")


def test_incident_by_hand(admin: Callable[..., tuple[int, Any]]) -> None:
    """An incident can be started and stopped over HTTP."""
    incident = {
        "name": "platform-outage",
        "platform": "tiktok",
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
        ("POST", "/_simulator/incidents/platform-outage", "platform=myspace", 400),
        ("POST", "/_simulator/incidents/flood", "", 404),
        ("GET", "/_simulator/incidents/slow-video", "", 405),
        ("POST", "/_simulator", "", 405),
        ("DELETE", "/_simulator/generation", "", 405),
        ("POST", "/_simulator/generation", "", 400),
        ("POST", "/_simulator/generation", "name=meta", 400),
        ("GET", "/_simulator/else", "", 404),
    ],
)
def test_console_refusals(
    admin: Callable[..., tuple[int, Any]], method: str, path: str, query: str, status: int
) -> None:
    """What the console does not know or understand is refused."""
    assert status == admin(method, path, query)[0]


def test_unknown_incident_names_the_known(admin: Callable[..., tuple[int, Any]]) -> None:
    """Who asks for an unknown incident learns which there are."""
    _, document = admin("POST", "/_simulator/incidents/flood")
    assert {"error": "Unknown incident 'flood'", "details": {"allowed": list(INCIDENTS)}} == document


def test_no_incidents_without_a_world(service: SimulatedApi) -> None:
    """Bare archives have an overview but no incidents."""
    assert {
        "generation": "late",
        "totals": {"publishing": 12, "connections": 3},
        "allowed": list(INCIDENTS),
    } == body(service.handle("GET", "/_simulator", "", {}))
    assert 404 == service.handle("POST", "/_simulator/incidents/slow-video", "", {}).status


def test_welcome(service: SimulatedApi) -> None:
    """The front page says in plain text what this is and what to curl, needs no key and uses no quota."""
    response = service.handle("GET", "/", "", {"host": "localhost:8077"})
    assert "text/plain; charset=utf-8" == response.headers["Content-Type"]
    text = response.body.decode()
    assert "simulated Late API" in text
    assert "curl http://localhost:8077/_simulator" in text
    assert all(name in text for name in INCIDENTS)
    assert 200 == service.handle("GET", "/-/healthy", "", {}).status
