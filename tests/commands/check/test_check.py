from __future__ import annotations

import errno
import os
import pwd
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.quota import RateLimiter
from late_exporter.commands.check import local
from late_exporter.commands.check.api import check_api, check_quota
from late_exporter.commands.check.finding import Finding, Level, format_findings
from late_exporter.commands.check.generation import check_generation
from late_exporter.commands.check.local import (
    WEBHOOK_STATUSES,
    check_addresses,
    check_key_file,
    check_key_rights,
    check_same_logs,
    check_state,
    check_web,
)
from late_exporter.commands.check.user import become
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.errors import ConfigError
from late_exporter.feeds import FEEDS
from late_exporter.model import LogEntry, Scope
from late_exporter.series import IncCounter
from late_exporter.simulator import SimulatedApi
from late_exporter.status import Quota
from late_exporter.store import open_store
from late_exporter.store.records import Batch, Observation
from late_exporter.web.sockets import bind_socket
from tests.e2e.late import LateServer, respond_with
from tests.support.client import FakeClient
from tests.support.clock import DAY, VirtualClock
from tests.support.store import commit_batch
from tests.support.world import World

KEY = "sk_" + "0" * 64


@pytest.fixture
def world() -> World:
    """Return a world with some logs."""
    world = World(VirtualClock())
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
    vanished: httpx.Response | None = None,
) -> Mapping[str, Finding]:
    """Return the findings about the API by subject; ``vanished`` is the answer of the old publishing list."""
    service = SimulatedApi(world.archives, clock=world.clock.time, rate_limit=limit, generation=generation)

    def answer(request: httpx.Request) -> httpx.Response:
        if vanished is not None and request.url.path == "/api/v1/posts/logs":
            return httpx.Response(
                vanished.status_code, headers=vanished.headers, stream=httpx.ByteStream(vanished.content)
            )
        answered = service.handle("GET", request.url.path, request.url.query.decode(), dict(request.headers.items()))
        body = b'{"error": "no"}' if status else answered.body
        return httpx.Response(status or answered.status, headers=answered.headers, stream=httpx.ByteStream(body))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LateClient(
            http,
            base_url="http://127.0.0.1/api",
            key=ApiKey(KEY),
            rate_limiter=RateLimiter(1.0),
            timeout=5.0,
        )
        generation_check = await check_generation(
            "acme",
            client,
            names,
            configured_generation=configured,
            recorded={Scope("acme", name): recorded for name in names} if recorded else {},
        )
        findings = await check_api(
            "acme",
            client,
            generation_check.feeds,
            interval=interval,
            quota_share=0.5,
            clock=lambda: world.clock.now + skew,
        )
    findings = [*generation_check.findings, *findings]
    assert {"acme"} == {finding.workspace for finding in findings}
    return {finding.subject: finding for finding in findings if finding.subject not in HIDDEN}


HIDDEN = {"connections generation"}


def test_workspaces_that_count_the_same_logs() -> None:
    """The warning is about the second workspace and names the first."""
    (finding,) = check_same_logs([("a", "b")])
    assert (Level.WARNING, "b") == (finding.level, finding.workspace)
    assert "the same as that of workspace a, so both count the same logs" == finding.message


async def test_a_good_key_has_no_warnings(world: World) -> None:
    """Every endpoint, the quota with its tier, and the clock have a finding."""
    findings = await check_world(world)
    assert {Level.OK} == {finding.level for finding in findings.values()}
    assert "1,234 logs" == findings["/v1/posts/logs"].message
    assert (
        "593 of 600 requests left this minute, the limit for 3 to 2,000 connected accounts; polling takes about 6"
    ) == findings["quota"].message
    assert "agrees with the API" == findings["clock"].message


NEWEST = "200, newest log 2026-11-25T09:46:40Z"
LATE_OK, ZERNIO_OK = f"/v1/posts/logs {NEWEST}", f"/v1/logs?type=publishing {NEWEST}"
LATE_GONE, ZERNIO_GONE = (
    "/v1/posts/logs 404: the API has no /v1/posts/logs",
    "/v1/logs?type=publishing 404: the API has no /v1/logs",
)


REQUEST_ID = re.compile(r" \(request id \w+\)")
SWITCHED = "the state was counted from late; of zernio, only logs newer than those will count"
CHECK = "check --api.base-url, the rights of the key and the status of the API"
SHAPES: Mapping[str, tuple[httpx.Response, str]] = {
    "404": (httpx.Response(404, json={"error": "Not found"}), "404: the API has no /v1/posts/logs"),
    "empty": (httpx.Response(200, json={"logs": []}), "200, no logs"),
    "new shape": (
        httpx.Response(200, json={"logs": [{"action": "post.published", "created_at": "2026-11-25T09:46:40Z"}]}),
        "200: the logs have no _id, they are those of /v1/logs",
    ),
    "a post": (httpx.Response(200, json={"post": None}), "the response has no list of logs: logs is null or missing"),
}


@pytest.mark.parametrize(("response", "answer"), SHAPES.values(), ids=SHAPES)
async def test_a_vanished_list_is_described(world: World, response: httpx.Response, answer: str) -> None:
    """The exporter reads the documented list, and says so; an old one that is configured is an error with a remedy."""
    finding = (await check_world(world, generation="both", vanished=response))["publishing generation"]
    assert (Level.OK, f"zernio: {ZERNIO_OK}; late: /v1/posts/logs {answer}") == level_and_message(finding)
    finding = (await check_world(world, generation="both", vanished=response, configured="late"))[
        "publishing generation"
    ]
    unread = "; the newer logs are not read" if answer == "200, no logs" else ""
    assert (Level.ERROR, f"late: /v1/posts/logs {answer}; zernio: {ZERNIO_OK}{unread}") == level_and_message(finding)
    assert "use --api.generation auto" == finding.hint


@pytest.mark.parametrize(
    ("options", "level", "message", "hint"),
    [
        (
            {"generation": "zernio", "configured": "late"},
            Level.ERROR,
            f"late: {LATE_GONE}; zernio: {ZERNIO_OK}",
            "use --api.generation auto",
        ),
        (
            {"generation": "late", "recorded": "zernio"},
            Level.ERROR,
            f"zernio: {ZERNIO_GONE}; late: {LATE_OK}",
            "the state was counted from zernio: use another --state.url to read late",
        ),
        (
            {"generation": "both", "configured": "late", "recorded": "zernio"},
            Level.ERROR,
            "the state was counted from zernio, whose logs have no ids, but --api.generation is late",
            "use --api.generation zernio or auto, or another --state.url",
        ),
        (
            {"generation": "zernio", "recorded": "late", "names": ["publishing"]},
            Level.OK,
            SWITCHED,
            "",
        ),
        ({"generation": "both", "recorded": "zernio"}, Level.OK, f"zernio: {ZERNIO_OK}; late: {LATE_OK}", ""),
        ({"generation": "late", "recorded": "late"}, Level.OK, f"late: {LATE_OK}; zernio: {ZERNIO_GONE}", ""),
        (
            {"generation": "both", "vanished": httpx.Response(404), "status": 410},
            Level.ERROR,
            f"no log list can be read: /v1/logs?type=publishing 410: no; {LATE_GONE}; {CHECK}",
            "",
        ),
    ],
    ids=str,
)
async def test_generations_must_fit_the_state_and_the_configuration(
    world: World, options: Mapping[str, Any], level: Level, message: str, hint: str
) -> None:
    """A mismatch is an error with a hint, except for the switch to zernio."""
    finding = (await check_world(world, **options))["publishing generation"]
    assert (level, message, hint) == (finding.level, REQUEST_ID.sub("", finding.message), finding.hint)


async def test_a_feed_that_the_configured_generation_lacks_is_an_error(world: World) -> None:
    """In auto, its list is requested."""
    finding = (await check_world(world, names=["webhooks"], configured="late"))["webhooks generation"]
    assert (Level.ERROR, "late has no webhooks logs") == level_and_message(finding)
    assert "remove it from --poll.feeds" == finding.hint
    assert (
        "0 logs"
        == (await check_world(world, names=["webhooks"], generation="zernio"))["/v1/logs?type=webhooks"].message
    )


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
        (50, Level.WARNING, "; others use about 50 per minute; polling takes about 6, more than the 3 that they leave"),
        (47, Level.WARNING, "; others use about 47 per minute; polling takes about 6, more than the 5 that they leave"),
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
    [(401, "may read logs"), (403, "the rights of the key"), (429, "other programs"), (502, "check --api.base-url")],
)
async def test_a_failed_request_is_an_error_with_a_hint(world: World, status: int, hint: str) -> None:
    """Each endpoint is reported, but after a rate limit no further request is sent."""
    findings = await check_world(world, status=status)
    subjects = {
        401: ["/v1/logs?type=publishing", "/v1/logs?type=connections"],
        429: ["publishing generation"],
    }.get(status, ["publishing generation"])
    assert set(subjects) == findings.keys() - {"quota", "clock"}
    for subject in subjects:
        assert Level.ERROR == findings[subject].level
        assert str(status) in findings[subject].message
        assert hint in findings[subject].message + findings[subject].hint


async def test_a_feed_that_generation_late_lacks(world: World) -> None:
    """The hint names the feed to remove."""
    findings = await check_world(world, names=("publishing", "webhooks"))
    assert Level.OK == findings["/v1/posts/logs"].level
    hint = "only API generation zernio has this list: remove webhooks from --poll.feeds, or check --api.base-url"
    assert hint == findings["/v1/logs?type=webhooks"].hint


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


def test_a_restricted_key_is_recommended() -> None:
    """An unrestricted key is fine, but a hint says that less is enough; other keys have no finding."""
    (finding,) = check_key_rights("acme", KEY)
    assert (Level.OK, "not limited to resource groups", "acme") == (finding.level, finding.message, finding.workspace)
    assert finding.hint.endswith("https://zernio.com/dashboard/api-keys")
    assert [] == [*check_key_rights("acme", "zrk_" + "0" * 64), *check_key_rights("acme", "")]


def test_a_usable_state_is_ok(tmp_path: Path) -> None:
    """A state may exist, be in use, or be created; the check changes nothing."""
    url = f"sqlite:///{tmp_path}/state.db"
    user = pwd.getpwuid(os.geteuid()).pw_name
    message = f"{tmp_path}/state.db: will be created by the user {user}"
    assert (Level.OK, message) == level_and_message(check_state(url))
    assert [] == list(tmp_path.iterdir())
    store = open_store(url)
    entry = LogEntry(key="log1", status="success", created=1)
    increment = IncCounter("late_publishing_logs_total", ("acme", "tiktok", "publish", "success"))
    commit_batch(
        store, Scope("acme", "publishing"), Batch(committed_at=1.0, observations=[Observation(entry, (increment,))])
    )
    assert (Level.OK, f"{tmp_path}/state.db, in use by an exporter: 1 log") == level_and_message(check_state(url))
    store.close()
    assert (Level.OK, f"{tmp_path}/state.db: 1 log") == level_and_message(check_state(url))
    assert (Level.WARNING, "in memory") == level_and_message(check_state("sqlite://"))


def test_a_state_that_the_exporter_cannot_load_is_an_error(tmp_path: Path) -> None:
    """What the exporter reads at its start is read, so that damage in it is found before."""
    path = tmp_path / "state.db"
    store = open_store(f"sqlite:///{path}")
    increments = [IncCounter("late_publishing_logs_total", ("acme", f"account {n}")) for n in range(2000)]
    batch = Batch(committed_at=1.0, observations=[Observation(LogEntry(key="log1", status="success"), (*increments,))])
    commit_batch(store, Scope("acme", "publishing"), batch)
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'late_series'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    finding = check_state(f"sqlite:///{path}")
    assert Level.ERROR == finding.level
    assert finding.message.startswith(f"{path}: database disk image is malformed; restore a backup, or ")


def test_writing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions say that root may write anywhere; a file that still cannot be created is an error."""

    def fail(**_options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(local, "TemporaryFile", fail)
    finding = check_state(f"sqlite:///{tmp_path}/state.db")
    assert Level.ERROR == finding.level
    assert f"cannot write to {tmp_path}: Read-only file system" in finding.message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_check_as_another_user(tmp_path: Path) -> None:
    """As root, the check can be made with the rights of the user that will run the exporter."""
    tmp_path.chmod(0o755)
    program = f"""
import os
from pathlib import Path
from late_exporter.commands.check.local import check_state
from late_exporter.commands.check.user import become
become("nobody")
print(os.geteuid(), len(os.getgroups()), check_state("sqlite:///{tmp_path}/state.db").message)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd="/")
    uid = pwd.getpwnam("nobody").pw_uid
    # The folders of pytest are not accessible to others, so that nobody cannot know whether there is a state.
    assert f"{uid} 1 {tmp_path}/state.db: the state cannot be read: Permission denied\n" == done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become any user")
def test_only_root_can_become_another_user() -> None:
    with pytest.raises(ConfigError, match="only root can check as another user"):
        become("root")


def level_and_message(finding: Finding) -> tuple[Level, str]:
    """Return the level and the message of a finding."""
    return finding.level, finding.message


def test_unencrypted_passwords_are_a_warning() -> None:
    """Warnings of the web configuration are findings."""
    assert ["plain HTTP, no password"] == [finding.message for finding in check_web(None, WebConfig())]
    config = WebConfig(users={"bob": b"", "alice": b""}, rate=RequestRate(1, 1), warnings=("http2: no",))
    findings = list(check_web("web.yml", config))
    assert ["web.yml: plain HTTP, passwords of alice, bob", "http2: no"] == [
        finding.message for finding in findings[:2]
    ]
    assert [Level.OK, Level.WARNING, Level.WARNING] == [finding.level for finding in findings]
    assert "unencrypted" in findings[2].message


def test_what_users_may_see() -> None:
    """Users who may see every workspace are named, and what each of the others may see."""
    config = WebConfig(
        users=dict.fromkeys(("ops", "a", "b"), b""),
        user_workspaces={"a": frozenset({"y", "x"}), "b": frozenset({"z"})},
    )
    findings = [finding.message for finding in check_web("web.yml", config) if finding.subject == "users"]
    assert ["ops may see every workspace", "a may see x, y only", "b may see z only"] == findings


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


def test_an_address_of_webhooks_may_be_in_use_by_an_exporter() -> None:
    """It has no page for health checks, so an answer of 404 is enough there, and nowhere else."""
    with LateServer() as server:
        server.fault = respond_with(404, "not found")
        address = Address("127.0.0.1", urlsplit(server.url).port or 0)
        (finding,) = check_addresses([address], secure=False, statuses=WEBHOOK_STATUSES)
        (other,) = check_addresses([address], secure=False)
    assert (Level.OK, Level.ERROR) == (finding.level, other.level)


def test_findings_are_aligned() -> None:
    """Findings are printed in columns, with the hint at the end."""
    findings: Sequence[Finding] = [
        Finding(level=Level.OK, subject="quota", message="597 left", workspace="acme"),
        Finding(level=Level.WARNING, subject="state", message="in memory", hint="name a file"),
    ]
    assert ["ok       acme quota  597 left", "warning  state       in memory; name a file"] == format_findings(findings)
