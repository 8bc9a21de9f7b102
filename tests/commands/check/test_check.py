from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from late_exporter.api.client import ApiKey, LateClient, RateLimiter
from late_exporter.commands.check import (
    Finding,
    Level,
    check_addresses,
    check_api,
    check_generation,
    check_key_file,
    check_state,
    check_web,
    format_findings,
    recorded_generations,
)
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.feeds import FEEDS
from late_exporter.model import Batch, Coverage, IncCounter, LogEntry, Observation, Scope
from late_exporter.simulator import SimulatedApi
from late_exporter.store import open_store
from late_exporter.web.server import bind_socket
from tests.support.clock import DAY, VirtualClock
from tests.support.world import World

KEY = "sk_" + "0" * 64


@pytest.fixture
def world() -> World:
    """Some logs."""
    world = World(VirtualClock(time.time()))
    world.publish(1234, over=DAY)
    return world


async def check_world(
    world: World,
    *,
    interval: float = 30.0,
    skew: float = 0.0,
    limit: int = 600,
    status: int = 0,
    generation: str = "late",
    asked: str = "auto",
    counted: str | None = None,
    names: Sequence[str] = tuple(FEEDS),
) -> Mapping[str, Finding]:
    """What is found at the API, by subject."""
    service = SimulatedApi(world.archives, clock=time.time, rate_limit=limit, generation=generation)

    def answer(request: httpx.Request) -> httpx.Response:
        answered = service.handle("GET", request.url.path, request.url.query.decode(), dict(request.headers.items()))
        return httpx.Response(
            status or answered.status, headers=answered.headers, stream=httpx.ByteStream(answered.body)
        )

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LateClient(
            http, base_url="http://127.0.0.1/api", key=ApiKey(KEY), rate_limiter=RateLimiter(1.0), timeout=5.0
        )
        spoken = await check_generation("acme", client, names, configured=asked, recorded=counted)
        found = await check_api(
            "acme", client, spoken.feeds, interval=interval, share=0.5, clock=lambda: time.time() + skew
        )
    found = [*spoken.findings, *found]
    assert {"acme"} == {finding.workspace for finding in found}
    return {finding.subject: finding for finding in found}


async def test_a_good_key(world: World) -> None:
    """Every endpoint, the quota with the plan, and the clock have a line."""
    found = await check_world(world)
    assert {Level.OK} == {finding.level for finding in found.values()}
    assert "1,234 logs" == found["/v1/posts/logs"].message
    assert "595 of 600 requests left this minute, the limit of the plan Accelerate; polls take about 6" == (
        found["quota"].message
    )
    assert "that of the API" == found["clock"].message


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        ("late", "late, GET /v1/posts/logs; no GET /v1/logs"),
        ("zernio", "zernio, GET /v1/logs; no GET /v1/posts/logs"),
        ("both", "late, GET /v1/posts/logs; zernio, GET /v1/logs"),
    ],
)
async def test_generations(world: World, generation: str, words: str) -> None:
    """Both are asked for, and the endpoints of the one that is read are looked at."""
    found = await check_world(world, generation=generation)
    assert (Level.OK, words) == level_and_words(found["generation"])
    assert ("/v1/posts/logs" in found) == (generation != "zernio")
    if generation == "zernio":
        assert "1,234 logs" == found["/v1/logs?type=publishing"].message
        assert "0 logs" == found["/v1/logs?type=connections"].message


@pytest.mark.parametrize(
    ("options", "level", "words", "advice"),
    [
        ({"generation": "zernio", "asked": "late"}, Level.ERROR, "404: zernio, GET /v1/logs; no GET", "auto"),
        ({"generation": "late", "counted": "zernio"}, Level.ERROR, "404: late, GET /v1/posts/logs; no", "--state.url"),
        ({"asked": "late", "counted": "zernio"}, Level.ERROR, "the state was counted from zernio", "or auto, or"),
        ({"generation": "zernio", "counted": "late"}, Level.OK, "will recognize its logs in zernio", ""),
        ({"generation": "both", "counted": "zernio"}, Level.OK, "zernio, GET /v1/logs; late, GET", ""),
        ({"names": ["webhooks"]}, Level.ERROR, "late has no webhooks logs", "take it out of --poll.feeds"),
        ({"generation": "late", "counted": "late"}, Level.OK, "late, GET /v1/posts/logs", ""),
    ],
    ids=str,
)
async def test_generations_that_do_not_fit(
    world: World, options: Mapping[str, Any], level: Level, words: str, advice: str
) -> None:
    """What the API, the state and the configuration speak has to be the same, or to be recognized."""
    finding = (await check_world(world, **options))["generation"]
    assert level == finding.level
    assert words in finding.message
    assert advice in finding.hint


@pytest.mark.parametrize(("limit", "plan"), [(60, "Free"), (120, "Build"), (1200, "Unlimited"), (777, "")])
async def test_plans(world: World, limit: int, plan: str) -> None:
    """The plan is known by its limit; another limit has no name."""
    words = (await check_world(world, limit=limit))["quota"].message
    assert (f"plan {plan}" if plan else "left this minute; polls") in words
    assert bool(plan) == ("plan" in words)


async def test_a_quota_that_is_too_small(world: World) -> None:
    """Where steady polls alone do not fit into the share, the advice is what to turn."""
    quota = (await check_world(world, interval=5.0, limit=60))["quota"]
    assert Level.WARNING == quota.level
    assert quota.message.endswith("polls take about 36, more than the 30 they may")
    assert "--poll.interval" in quota.hint


@pytest.mark.parametrize(("skew", "words"), [(300.0, "300 s ahead of the API's"), (-90.0, "90 s behind the API's")])
async def test_a_clock_that_is_wrong(world: World, skew: float, words: str) -> None:
    """A clock that differs by minutes is worth a warning."""
    clock = (await check_world(world, skew=skew))["clock"]
    assert Level.WARNING == clock.level
    expected, told = words.split(maxsplit=1), clock.message.split(maxsplit=1)
    assert abs(int(expected[0]) - int(told[0])) <= 2
    assert expected[1] == told[1]


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "may read logs"), (403, "may read logs"), (429, "other programs"), (502, "a proxy")]
)
async def test_an_api_that_refuses(world: World, status: int, advice: str) -> None:
    """Every endpoint that does not answer is an error, with what to look at; who is to wait asks nothing more."""
    found = await check_world(world, status=status)
    for path in ("/v1/posts/logs", "/v1/connections/logs")[: 1 if status == 429 else 2]:
        assert Level.ERROR == found[path].level
        assert str(status) in found[path].message
        assert advice in found[path].hint


def test_key_files(tmp_path: Path) -> None:
    """A key that every user can read is worth a warning, one that is gone an error, and none at all no line."""
    path = tmp_path / "key"
    path.write_text(KEY)
    found: list[Finding] = []
    for mode in (0o600, 0o640, 0o644):
        path.chmod(mode)
        found += check_key_file("acme", path)
    path.unlink()
    found += check_key_file("acme", path)
    assert [Level.OK, Level.OK, Level.WARNING, Level.ERROR] == [finding.level for finding in found]
    assert f"chmod o= {path}" == found[2].hint
    assert [] == list(check_key_file("acme", None))
    assert KEY not in "".join(map(str, found))


def test_states(tmp_path: Path) -> None:
    """A state that is there, in use, or to be made is fine; nothing is made or changed by looking."""
    url = f"sqlite:///{tmp_path}/state.db"
    assert (Level.OK, f"{tmp_path}/state.db: will be made") == level_and_words(check_state(url))
    assert [] == list(tmp_path.iterdir())
    store = open_store(url)
    entry = LogEntry(key="log1", status="success", created=1)
    increment = IncCounter("late_publishing_logs_total", ("acme", "tiktok", "publish", "success"))
    store.commit(Scope("acme", "publishing"), Batch(committed_at=1.0, observations=[Observation(entry, (increment,))]))
    assert (Level.OK, f"{tmp_path}/state.db, in use by an exporter: 1 log") == level_and_words(check_state(url))
    store.close()
    assert (Level.OK, f"{tmp_path}/state.db: 1 log") == level_and_words(check_state(url))
    assert (Level.WARNING, "in memory") == level_and_words(check_state("sqlite://"))


def test_generations_of_a_state(tmp_path: Path) -> None:
    """A workspace that has once been counted from zernio stays with it; where there is no state nothing is known."""
    url = f"sqlite:///{tmp_path}/state.db"
    assert {} == recorded_generations(url)
    store = open_store(url)
    for workspace, feed, generation in (
        ("acme", "connections", "zernio"),
        ("acme", "publishing", "late"),
        ("brand", "publishing", "late"),
    ):
        coverage = Coverage(retention_floor=0, complete_since=0, generation=generation)
        store.commit(Scope(workspace, feed), Batch(committed_at=1.0, coverage=coverage))
    assert {"acme": "zernio", "brand": "late"} == recorded_generations(url)
    store.close()


def test_a_state_that_cannot_be_used(tmp_path: Path) -> None:
    """A file of others is an error that names it."""
    path = tmp_path / "state.db"
    path.write_text("something else")
    finding = check_state(f"sqlite:///{path}")
    assert Level.ERROR == finding.level
    assert str(path) in finding.message
    assert "something else" == path.read_text()


def level_and_words(finding: Finding) -> tuple[Level, str]:
    """What is found."""
    return finding.level, finding.message


def test_web() -> None:
    """Passwords in the clear are worth a warning, and what has no effect is told."""
    assert ["plain HTTP, no password"] == [finding.message for finding in check_web(None, WebConfig())]
    config = WebConfig(users={"bob": b"", "alice": b""}, rate=RequestRate(1, 1), warnings=("http2: no",))
    found = list(check_web(Path("web.yml"), config))
    assert ["web.yml: plain HTTP, passwords of alice, bob", "http2: no"] == [finding.message for finding in found[:2]]
    assert [Level.OK, Level.WARNING, Level.WARNING] == [finding.level for finding in found]
    assert "in the clear" in found[2].message


def test_addresses(tmp_path: Path) -> None:
    """A free address is free again afterwards, and one that others hold is an error that names it."""
    path = UnixPath(tmp_path / "socket")
    with bind_socket(Address("127.0.0.1", 0)) as bound:
        held = Address(*bound.getsockname())
        bound.listen(0)
        found = list(check_addresses([Address("127.0.0.1", 0), path, held], secure=False))
    assert [Level.OK, Level.OK, Level.ERROR] == [finding.level for finding in found]
    assert str(held) in found[2].message
    assert [] == list(tmp_path.iterdir())


def test_lines() -> None:
    """Columns stand below each other, and the advice comes last."""
    findings: Sequence[Finding] = [
        Finding(level=Level.OK, subject="quota", message="597 left", workspace="acme"),
        Finding(level=Level.WARNING, subject="state", message="in memory", hint="name a file"),
    ]
    assert ["ok       acme quota  597 left", "warning  state       in memory; name a file"] == format_findings(findings)
