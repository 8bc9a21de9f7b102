from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from late_exporter.api.generation import SWITCH_HINT
from late_exporter.cli import main
from late_exporter.commands.check import (
    API_CLOCK_HINT,
    CheckResult,
    _explain_clocks,
    check_api,
    check_key_file,
    check_quota,
    check_state,
    check_web,
    format_findings,
)
from late_exporter.config.web import WebConfig
from late_exporter.errors import ApiUnavailable, Forbidden, LateError, StoreError
from late_exporter.feeds import FEEDS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.format import iso_time
from late_exporter.health import Quota
from late_exporter.ingest.status_poller import StatusConfig
from tests.support.api import FakeHttpApi, Fault
from tests.support.client import FakeClient
from tests.support.clock import DAY, VirtualClock
from tests.support.exporter import open_store
from tests.support.status_api import BILLING, SECONDS, StatusApi, post_list
from tests.support.store import commit, observation
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
    skew: float = 0.0,
    generation: str = "late",
    configured: str = "auto",
    recorded: str | None = None,
    fault: Fault | None = None,
    status: StatusConfig | None = None,
) -> Mapping[str, CheckResult]:
    """Return the findings about the API by subject."""
    api = FakeHttpApi(world, generation=generation)
    api.fault = fault
    client = api.client
    client.configured_generation = configured
    generations = dict.fromkeys(FEEDS, recorded) if recorded else {}
    status = status or StatusConfig()
    findings = check_api(client, [*FEEDS], generations, status, clock=lambda: world.clock.now + skew)
    return {finding.subject: finding async for finding in findings}


def respond_with(status: int) -> Fault:
    """Return a fault with a status."""
    return lambda _: httpx.Response(status, json={"error": "no"})


def empty_old_list(request: httpx.Request) -> httpx.Response | None:
    """Answer as an API whose old list has no logs left."""
    return httpx.Response(200, json={"logs": []}) if request.url.path == "/api/v1/posts/logs" else None


async def test_a_good_key_has_no_warnings(world: World) -> None:
    """Every list has a finding."""
    assert list(format_findings(list((await check_world(world)).values()))) == [
        "ok       publishing   1,234 logs in generation late (/v1/posts/logs)",
        "ok       connections  0 logs in generation late (/v1/connections/logs)",
    ]


def test_findings_with_one_cause_are_one_line() -> None:
    """A dead API is one line, whatever the number of workspaces; few workspaces are named. The worst comes first."""
    findings = [CheckResult("ok", "web", "no password")]
    for number in range(14):
        name = f"w{number}"
        message = f"503: down (request id {number})"
        findings += [CheckResult("error", each, message, workspace=name) for each in ("publishing", "connections")]
        message = "low" if number < 2 else "enough"
        findings += [CheckResult("warning", each, message, workspace=name) for each in ("quota", "key")]
        findings.append(CheckResult("ok", "key file", f"key{number}", workspace=name))
    assert list(format_findings(findings)) == [
        "error    14 of 14 workspaces publishing, connections  503: down (request id 0)",
        "warning  w0, w1 quota, key                            low",
        "warning  12 of 14 workspaces quota, key               enough",
        "ok       web                                          no password",
        "ok       14 of 14 workspaces key file                 key0, others alike",
    ]


def test_one_workspace_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other workspaces cost no request and have no findings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATE_EXPORTER_API__BASE_URL", "http://127.0.0.1:1")
    for name in "ab":
        (tmp_path / name).write_text(KEY.replace("0", name))
    Path("late.yml").write_text("workspaces: [{name: a, api_key_file: a}, {name: b, api_key_file: b}]\n")
    assert main(["check", "--config.file=late.yml", "--workspace=b", "--format=json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {finding["workspace"] for finding in findings} == {"b", ""}
    assert main(["check", "--config.file=late.yml", "--workspace=c"]) == 2
    assert '--workspace "c": no such workspace; choose from a, b' in capsys.readouterr().err
    assert main(["check", "--config.file=late.yml"]) == 1
    assert capsys.readouterr().out.count("no connection to 127.0.0.1:1") == 1


@pytest.mark.parametrize(
    ("options", "subject", "words"),
    [
        ({"generation": "zernio", "configured": "late"}, "publishing", "check --api.base-url, --api.generation and"),
        ({"generation": "both", "configured": "late", "recorded": "zernio"}, "publishing", "logs have no ids: use"),
        ({"fault": respond_with(410)}, "publishing", "no log list can be read"),
        ({"fault": respond_with(401)}, "connections", "or make a new one at https://zernio.com/dashboard/api-keys"),
        ({"fault": respond_with(403)}, "publishing", "the rights of the key"),
        ({"fault": respond_with(429)}, "publishing", "wait a minute; other programs use the same key"),
        ({"generation": "both", "configured": "late", "fault": empty_old_list}, "generation", SWITCH_HINT),
    ],
    ids=range(7),
)
async def test_a_list_that_cannot_be_read_is_an_error(
    world: World, options: Mapping[str, Any], subject: str, words: str
) -> None:
    """The message says what to do, also if another list has newer logs; a rate limit ends the requests."""
    findings = await check_world(world, **options)
    assert findings[subject].level == "error"
    assert words in "".join(format_findings([findings[subject]]))
    assert ("connections" in findings) == ("wait" not in words)


async def test_a_rejected_certificate_is_no_matter_of_the_network(world: World) -> None:
    """The error has the remedy of the certificate only."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid")

    finding = (await check_world(world, configured="late", fault=fail))["publishing"]
    assert finding.message.endswith("certificate is not yet valid; set the clock of this machine")
    assert finding.hint == ""


def test_the_quota_must_be_enough_for_polling() -> None:
    """A customer that needs the quota itself is a warning, before polls are late."""
    client, others = FakeClient(), "others (such as a running exporter) use about {}"
    text = f"60 requests per minute; {others}, polling about 6.0"
    client.quota = Quota(60, 5, 0.0, 40)
    assert list(check_quota(client, 6.0, 0.5)) == [CheckResult("ok", "quota", text.format(40))]
    client.quota = Quota(60, 5, 0.0, 50)
    (finding,) = check_quota(client, 6.0, 0.5)
    assert ("warning", f"{text.format(50)}, more than the 3.2 that it may use") == (finding.level, finding.message)
    assert finding.hint.endswith("a key of its own")


async def test_a_wrong_clock_is_a_warning(world: World) -> None:
    """A difference of minutes is a warning, in either direction."""
    for skew, message in ((300.0, "5 min ahead of the API"), (-119.0, "2 min behind the API")):
        clock = (await check_world(world, skew=skew))["clock"]
        assert (clock.level, clock.message) == ("warning", message)


async def test_a_wrong_clock_makes_no_post_overdue(world: World) -> None:
    """What is overdue is decided by the time of the API."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        in_half_an_hour = iso_time((world.clock.now + 1800) * 1000)
        posts = post_list(request.url.params.get("status", ""), scheduledFor=in_half_an_hour)
        return httpx.Response(200, json=posts) if request.url.path == "/api/v1/posts" else None

    findings = await check_world(world, skew=3600, fault=answer, status=StatusConfig(intervals={"posts": 300.0}))
    assert findings["status feed posts"].message == "nothing to report"


LACKING = "403: the API key lacks a right: insufficient; grant the key the group accounts"


async def check_status(**documents: Any) -> list[CheckResult]:
    """Return the findings about status feeds of an API with other documents, or with errors in their place."""
    api = StatusApi()
    api.documents |= {f"/v1/{name.replace('_', '/')}": document for name, document in documents.items()}
    config = StatusConfig(intervals=dict.fromkeys(STATUS_FEEDS, 300.0))
    client: Any = api
    findings = check_api(client, [], {}, config, clock=lambda: SECONDS)
    return [finding async for finding in findings if finding.subject.startswith("status feed")]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Forbidden(LACKING), f"off: {LACKING}"),
        (None, "off: 404: the API has no /v1/accounts"),
        (ApiUnavailable("500: oops", status=500), "500: oops"),
    ],
)
async def test_a_status_feed_that_cannot_be_read_is_a_warning(failure: LateError | None, message: str) -> None:
    """It says why, and logs are counted anyway."""
    findings = await check_status(accounts=failure)
    assert [finding.message for finding in findings if finding.level == "warning"] == [message]
    assert len(STATUS_FEEDS) == len(findings)
    assert "nothing to report" in [finding.message for finding in findings]


async def test_what_status_feeds_report_is_a_warning() -> None:
    """The check names what needs attention, with what to do."""
    findings = await check_status(billing={**BILLING, "balance": {"spendableCents": -5}})
    (warning,) = (finding for finding in findings if finding.level != "ok")
    # What is left of the plan is not said in between.
    assert warning.message == "pay-per-use has stopped: -0.05 USD left to spend"
    assert warning.hint == "Open the billing page of Zernio; until then nothing is published."


def test_key_files_must_be_private(tmp_path: Path) -> None:
    """A key that every user can read is a warning."""
    path = tmp_path / "key"
    path.write_text(KEY)
    findings = []
    for mode in (0o600, 0o640, 0o644):
        path.chmod(mode)
        findings.append(check_key_file(path))
    assert [finding.level for finding in findings] == ["ok", "ok", "warning"]
    assert findings[2].hint == f"chmod o= {path}"
    assert KEY not in "".join(map(str, findings))


def test_a_usable_state_is_ok(tmp_path: Path) -> None:
    """A state may exist, be in use, or be created; the check changes nothing."""
    url, path = f"sqlite:///{tmp_path}/state.db", f"{tmp_path}/state.db"
    assert CheckResult("ok", "state", f"{path}: there is no state; it will be created") == check_state(url)
    assert list(tmp_path.iterdir()) == []
    store = open_store(url)
    commit(store, observation("log1"))
    assert CheckResult("ok", "state", f"{path}, in use by an exporter: 1 log") == check_state(url)
    store.close()
    assert CheckResult("ok", "state", f"{path}: 1 log") == check_state(url)
    assert (check_state("sqlite://").level, check_state("sqlite://").message) == ("warning", "in memory")


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["/proc/x/late.db", "/proc/late.db", "file/new/late.db", "link"])
@pytest.mark.usefixtures("in_tmp_path")
def test_a_state_that_cannot_be_created_is_an_error(name: str, tmp_path: Path) -> None:
    """The finding is the error of an exporter's start, with a remedy, also for root."""
    Path("file").touch()
    Path("link").symlink_to("missing/late.db")
    url = f"sqlite:///{name}"
    finding = check_state(url)
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert finding.level == "error"
    assert finding.message == str(caught.value)
    assert finding.hint == "give the exporter's user write access, or change --state.url"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_the_check_of_a_missing_state_leaves_nothing_behind(tmp_path: Path) -> None:
    """Folders that it creates are removed again; those that existed are kept."""
    (tmp_path / "old").mkdir()
    path = f"{tmp_path}/old/new/newer/state.db"
    finding = check_state(f"sqlite:///{path}")
    assert finding.message == f"{path}: there is no state; it will be created"
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert list((tmp_path / "old").iterdir()) == []


def test_the_web_configuration() -> None:
    """Unencrypted passwords are a finding."""
    assert [finding.message for finding in check_web(None, WebConfig())] == ["plain HTTP, no password"]
    config = WebConfig(users=dict.fromkeys(("ops", "a", "b"), b""))
    assert list(format_findings(list(check_web("web.yml", config)))) == [
        "warning  web  web.yml: passwords are sent unencrypted; add tls_server_config",
        "ok       web  web.yml: plain HTTP, passwords of a, b, ops",
    ]


@pytest.mark.parametrize(("others", "is_api"), [((), False), (("b",), True)])
def test_a_clock_with_which_another_api_agrees(others: tuple[str, ...], *, is_api: bool) -> None:
    """The host is not blamed then."""
    ok = [CheckResult("ok", "publishing", "", workspace=name) for name in ("a", *others)]
    wrong = CheckResult("warning", "clock", "40 min behind the API", "synchronize it", "a")
    (*_, clock) = _explain_clocks([*ok, wrong], ["publishing"])
    assert (clock.hint == API_CLOCK_HINT) == is_api
