from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.quota import RateLimiter
from late_exporter.commands.check.api import check_api, check_quota
from late_exporter.commands.check.finding import Finding, Level, format_findings
from late_exporter.commands.check.generation import check_generation, recorded_generations
from late_exporter.commands.check.local import check_addresses, check_key_file, check_state, check_web
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.feeds import FEEDS
from late_exporter.model import Batch, Coverage, IncCounter, LogEntry, Observation, Scope
from late_exporter.simulator import SimulatedApi
from late_exporter.status import Quota
from late_exporter.store import open_store
from late_exporter.web.server import bind_socket
from tests.support.client import FakeClient
from tests.support.clock import DAY, VirtualClock
from tests.support.world import World

KEY = "sk_" + "0" * 64


@pytest.fixture
def world() -> World:
    """Return a world with some logs."""
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
    configured: str = "auto",
    recorded: str | None = None,
    names: Sequence[str] = tuple(FEEDS),
) -> Mapping[str, Finding]:
    """Return the findings about the API by subject."""
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
        generation_check = await check_generation(
            "acme", client, names, configured_generation=configured, state_generation=recorded
        )
        findings = await check_api(
            "acme", client, generation_check.feeds, interval=interval, quota_share=0.5, clock=lambda: time.time() + skew
        )
    findings = [*generation_check.findings, *findings]
    assert {"acme"} == {finding.workspace for finding in findings}
    return {finding.subject: finding for finding in findings}


async def test_a_good_key_has_no_warnings(world: World) -> None:
    """Every endpoint, the quota with its tier, and the clock have a finding."""
    findings = await check_world(world)
    assert {Level.OK} == {finding.level for finding in findings.values()}
    assert "1,234 logs" == findings["/v1/posts/logs"].message
    assert (
        "595 of 600 requests left this minute, the limit for 3 to 2,000 connected accounts; polling takes about 6"
    ) == findings["quota"].message
    assert "agrees with the API" == findings["clock"].message


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ("late", "late, GET /v1/posts/logs; no GET /v1/logs"),
        ("zernio", "zernio, GET /v1/logs; no GET /v1/posts/logs"),
        ("both", "late, GET /v1/posts/logs; zernio, GET /v1/logs"),
    ],
)
async def test_every_generation_is_requested(world: World, generation: str, message: str) -> None:
    """The endpoints of the generation in use are checked."""
    findings = await check_world(world, generation=generation)
    assert (Level.OK, message) == level_and_message(findings["generation"])
    assert ("/v1/posts/logs" in findings) == (generation != "zernio")
    if generation == "zernio":
        assert "1,234 logs" == findings["/v1/logs?type=publishing"].message
        assert "0 logs" == findings["/v1/logs?type=connections"].message


@pytest.mark.parametrize(
    ("options", "level", "message", "hint"),
    [
        ({"generation": "zernio", "configured": "late"}, Level.ERROR, "404: zernio, GET /v1/logs; no GET", "auto"),
        ({"generation": "late", "recorded": "zernio"}, Level.ERROR, "404: late, GET /v1/posts/logs; no", "--state.url"),
        ({"configured": "late", "recorded": "zernio"}, Level.ERROR, "the state was counted from zernio", "or auto, or"),
        ({"generation": "zernio", "recorded": "late"}, Level.OK, "will match its logs to those of zernio", ""),
        ({"generation": "both", "recorded": "zernio"}, Level.OK, "zernio, GET /v1/logs; late, GET", ""),
        ({"names": ["webhooks"]}, Level.ERROR, "late has no webhooks logs", "remove it from --poll.feeds"),
        ({"generation": "late", "recorded": "late"}, Level.OK, "late, GET /v1/posts/logs", ""),
    ],
    ids=str,
)
async def test_generations_must_fit_the_state_and_the_configuration(
    world: World, options: Mapping[str, Any], level: Level, message: str, hint: str
) -> None:
    """A mismatch is an error with a hint, except for the switch to zernio."""
    finding = (await check_world(world, **options))["generation"]
    assert level == finding.level
    assert message in finding.message
    assert hint in finding.hint


@pytest.mark.parametrize(("limit", "accounts"), [(60, "up to 2"), (1200, "more than 2,000"), (120, ""), (777, "")])
async def test_the_tier_follows_from_the_limit(world: World, limit: int, accounts: str) -> None:
    """A limit of the price list is explained, another one is not."""
    message = (await check_world(world, limit=limit))["quota"].message
    tier = f", the limit for {accounts} connected accounts" if accounts else ""
    assert f"requests left this minute{tier}; polling" in message


@pytest.mark.parametrize(
    ("customer_requests", "level", "words"),
    [
        (0, Level.OK, "connected accounts; polling takes about 6"),
        (40, Level.OK, "; others use about 40 per minute; polling takes about 6"),
        (50, Level.WARNING, "; others use about 50 per minute; polling takes about 6, more than the 4 that they leave"),
        (70, Level.WARNING, "more than the 0 that they leave"),
    ],
)
def test_what_others_leave_must_be_enough_for_polling(customer_requests: int, level: Level, words: str) -> None:
    """A customer that needs the quota itself is a warning, before polls are late."""
    client = FakeClient()
    client.quota = Quota(60, 5, 0.0, customer_requests)
    (finding,) = check_quota(client, 6.0, 0.5)
    assert level == finding.level
    assert finding.message.endswith(words)
    assert ("a key of its own" in finding.hint) == (level is Level.WARNING)


async def test_a_small_quota_is_a_warning(world: World) -> None:
    """The hint names the options to change."""
    quota = (await check_world(world, interval=5.0, limit=60))["quota"]
    assert Level.WARNING == quota.level
    assert quota.message.endswith("polling takes about 36, more than the 30 allowed by --api.quota-share")
    assert "--poll.interval" in quota.hint


@pytest.mark.parametrize(("skew", "message"), [(300.0, "300 s ahead of the API"), (-90.0, "90 s behind the API")])
async def test_a_wrong_clock_is_a_warning(world: World, skew: float, message: str) -> None:
    """A difference of minutes is a warning."""
    clock = (await check_world(world, skew=skew))["clock"]
    assert Level.WARNING == clock.level
    expected, actual = message.split(maxsplit=1), clock.message.split(maxsplit=1)
    assert abs(int(expected[0]) - int(actual[0])) <= 2
    assert expected[1] == actual[1]


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "may read logs"), (403, "the right to read logs"), (429, "other programs"), (502, "a proxy")],
)
async def test_a_failed_request_is_an_error_with_a_hint(world: World, status: int, hint: str) -> None:
    """Each endpoint is reported, but after a rate limit no further request is sent."""
    findings = await check_world(world, status=status)
    for path in ("/v1/posts/logs", "/v1/connections/logs")[: 1 if status == 429 else 2]:
        assert Level.ERROR == findings[path].level
        assert str(status) in findings[path].message
        assert hint in findings[path].hint


def test_key_files_must_be_private(tmp_path: Path) -> None:
    """A key that every user can read is a warning, and a missing one is an error."""
    path = tmp_path / "key"
    path.write_text(KEY)
    findings: list[Finding] = []
    for mode in (0o600, 0o640, 0o644):
        path.chmod(mode)
        findings += check_key_file("acme", path)
    path.unlink()
    findings += check_key_file("acme", path)
    assert [Level.OK, Level.OK, Level.WARNING, Level.ERROR] == [finding.level for finding in findings]
    assert f"chmod o= {path}" == findings[2].hint
    assert [] == list(check_key_file("acme", None))
    assert KEY not in "".join(map(str, findings))


def test_a_usable_state_is_ok(tmp_path: Path) -> None:
    """A state may exist, be in use, or be created; the check changes nothing."""
    url = f"sqlite:///{tmp_path}/state.db"
    assert (Level.OK, f"{tmp_path}/state.db: will be created") == level_and_message(check_state(url))
    assert [] == list(tmp_path.iterdir())
    store = open_store(url)
    entry = LogEntry(key="log1", status="success", created=1)
    increment = IncCounter("late_publishing_logs_total", ("acme", "tiktok", "publish", "success"))
    store.commit(Scope("acme", "publishing"), Batch(committed_at=1.0, observations=[Observation(entry, (increment,))]))
    assert (Level.OK, f"{tmp_path}/state.db, in use by an exporter: 1 log") == level_and_message(check_state(url))
    store.close()
    assert (Level.OK, f"{tmp_path}/state.db: 1 log") == level_and_message(check_state(url))
    assert (Level.WARNING, "in memory") == level_and_message(check_state("sqlite://"))


def test_a_workspace_stays_with_zernio(tmp_path: Path) -> None:
    """One feed counted from zernio decides, and without a state nothing is known."""
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


def test_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    """The error names the file, which is not changed."""
    path = tmp_path / "state.db"
    path.write_text("something else")
    finding = check_state(f"sqlite:///{path}")
    assert Level.ERROR == finding.level
    assert str(path) in finding.message
    assert "something else" == path.read_text()


def level_and_message(finding: Finding) -> tuple[Level, str]:
    """Return the level and the message of a finding."""
    return finding.level, finding.message


def test_unencrypted_passwords_are_a_warning() -> None:
    """Warnings of the web configuration are findings."""
    assert ["plain HTTP, no password"] == [finding.message for finding in check_web(None, WebConfig())]
    config = WebConfig(users={"bob": b"", "alice": b""}, rate=RequestRate(1, 1), warnings=("http2: no",))
    findings = list(check_web(Path("web.yml"), config))
    assert ["web.yml: plain HTTP, passwords of alice, bob", "http2: no"] == [
        finding.message for finding in findings[:2]
    ]
    assert [Level.OK, Level.WARNING, Level.WARNING] == [finding.level for finding in findings]
    assert "unencrypted" in findings[2].message


def test_an_address_in_use_is_an_error(tmp_path: Path) -> None:
    """A free address is free again afterwards."""
    path = UnixPath(tmp_path / "socket")
    with bind_socket(Address("127.0.0.1", 0)) as bound:
        address_in_use = Address(*bound.getsockname())
        bound.listen(0)
        findings = list(check_addresses([Address("127.0.0.1", 0), path, address_in_use], secure=False))
    assert [Level.OK, Level.OK, Level.ERROR] == [finding.level for finding in findings]
    assert str(address_in_use) in findings[2].message
    assert [] == list(tmp_path.iterdir())


def test_findings_are_aligned() -> None:
    """Findings are printed in columns, with the hint at the end."""
    findings: Sequence[Finding] = [
        Finding(level=Level.OK, subject="quota", message="597 left", workspace="acme"),
        Finding(level=Level.WARNING, subject="state", message="in memory", hint="name a file"),
    ]
    assert ["ok       acme quota  597 left", "warning  state       in memory; name a file"] == format_findings(findings)
