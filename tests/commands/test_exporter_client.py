"""The commands that read from the exporter on this machine: healthcheck, status and accounts."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trustme
from msgspec.structs import replace

from late_exporter.cli import main
from late_exporter.commands.accounts import parse_accounts
from late_exporter.commands.exporter_client import check_health
from late_exporter.config import web as web_file
from late_exporter.config.types import Address
from late_exporter.errors import LateError
from late_exporter.health import (
    Condition,
    Quota,
    RecentCounts,
    StatusFeedHealth,
    SyncProgress,
    WorkspaceHealth,
    WorkspaceStatus,
)
from late_exporter.web.findings import StatusDocument
from late_exporter.web.replies import Message, Receive, Send
from late_exporter.web.server import bind_socket, serve
from tests.e2e.late import FaultHandler, HttpExchange, LateServer, drip, respond_with
from tests.support.clock import DAY
from tests.web.pages import NOW, REFUSED, account, document, feed, platform, unreachable_workspace, workspace

OUTAGE = RecentCounts(19, 22, is_failing=True)
HOSTILE = "evil \x1b[31m[bold]name[/bold]\x9b\x7f\u202e\n"

ACCOUNTS = """\
# TYPE late_account_info gauge
late_account_info{workspace="a",platform="x",account_id="1",username="@one"} 1
late_account_info{workspace="a",platform="tiktok",account_id="2",username="unknown"} 1
late_account_info{workspace="b",platform="x",account_id="3",username="@\\u001b[31m"} 1
late_account_info{workspace="a",platform="bluesky",account_id="5",username="@five"} 1
late_account_info{workspace="a",platform="threads",account_id="6",username="@six"} 1
# TYPE late_account_logs_total counter
late_account_logs_total{workspace="a",platform="x",account_id="1",status="failed"} 7
# TYPE late_account_consecutive_failures gauge
late_account_consecutive_failures{workspace="a",platform="x",account_id="1"} 5
# TYPE late_account_last_success_timestamp_seconds gauge
late_account_last_success_timestamp_seconds{workspace="a",platform="x",account_id="1"} 1763992902
# TYPE late_account_needs_reconnect gauge
late_account_needs_reconnect{workspace="b",platform="x",account_id="3"} 1
# TYPE late_account_can_post gauge
late_account_can_post{workspace="acme",platform="linkedin",account_id="4"} 0
# TYPE late_account_token_expiry_timestamp_seconds gauge
late_account_token_expiry_timestamp_seconds{workspace="a",platform="threads",account_id="6"} 1764000000
# TYPE late_account_cooldown_until_timestamp_seconds gauge
late_account_cooldown_until_timestamp_seconds{workspace="a",platform="tiktok",account_id="2"} 1763993602
"""


ACCOUNT_TABLE = r"""STATE      PLATFORM  ACCOUNT      IN A ROW  LAST SUCCESS  DETAIL
reconnect  x         @\u001b[31m         0  -             b, 3
blocked    linkedin  4                   0  -             acme, 4, Missing scope w_organization
cooldown   tiktok    2                   0  -             a, 2
failing    x         @one                5  1 min ago     a, 1
ok         bluesky   @five               0  -             a, 5
ok         threads   @six                0  -             a, 6
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LateServer]:
    """Return a server in the place of the exporter, at the first listen address."""
    with LateServer() as late:
        monkeypatch.setenv("LATE_EXPORTER_WEB__LISTEN_ADDRESS", str(address(late)))
        monkeypatch.delenv("ZERNIO_API_KEY", raising=False)
        monkeypatch.setattr("time.time", lambda: NOW)
        yield late


def troubled() -> WorkspaceHealth:
    """Return a workspace in trouble."""
    failing = StatusFeedHealth(name="posts", is_up=False, error="500: oops")
    conditions = (
        Condition("reconnect", f"{HOSTILE} (tiktok)", subject="2"),
        Condition("blocked", "Dora (linkedin)", subject="4", text="Missing scope\nw_organization"),
    )
    return workspace(
        "acme",
        feed(outcome="unauthorized", error=HOSTILE, next_poll=NOW + 20),
        quota=Quota(600, 60, NOW),
        platforms=(platform("instagram", 4950, 650, pending=2, oldest_pending=NOW - 7300, recent=OUTAGE),),
        failing_accounts=(account("@a", 9, on="x"), account("@b", 9, on="x")),
        status=WorkspaceStatus(feeds=(failing,), conditions=conditions),
        recent_since=NOW - 3600,
    )


def syncing() -> WorkspaceHealth:
    """Return a workspace in its first sync."""
    progress = SyncProgress(log_count=10)
    return workspace(
        "brand", feed(is_synced=False, outcome=None, progress=progress, next_poll=NOW - 18), quota=Quota(600, 60, NOW)
    )


def respond(*workspaces: WorkspaceHealth) -> FaultHandler:
    """Return a response with the status of some workspaces."""
    return respond_with(200, msgspec.json.encode(document(*workspaces)).decode())


def test_status(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal shows what the page shows: verdicts, feeds, platforms, accounts, progress."""
    server.fault = respond(troubled(), syncing())
    assert main(["status"]) == 0
    assert [request.headers["Accept"] for request in server.requests] == ["application/json"]
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:2] == [
        "FAILING acme: 19 of 22 attempts on instagram failed in the last hour",
        "Run late-exporter posts --failed --workspace acme. See late-exporter runbook LatePlatformFailing.",
    ]
    assert lines[2].startswith("FAILING acme: evil")
    assert "WORKSPACE FEED STATE LAST SUCCESS LOGS DETAIL" in lines
    assert "acme publishing Failing - 0" in lines
    assert "brand publishing First sync - 0 10 logs read" in lines
    assert "WARNING acme: 2 accounts failed 5 times or more in a row: @a (x), @b (x)" in lines
    assert "WARNING acme: status feed posts failed: 500: oops" in lines
    assert "\x1b" not in out
    assert "[bold]name[/bold]" in out
    assert not [line for line in out.splitlines() if line.endswith(" ")]
    assert main(["status", "--format", "json"]) == 0
    out = capsys.readouterr().out
    assert msgspec.json.decode(out, type=StatusDocument) == document(troubled(), syncing())
    assert out.rstrip("\n").isprintable()


def test_a_narrow_terminal(
    server: LateServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line fits, and a problem is printed once, even the worst or only one."""
    conditions = Condition("cooldown", "@baeckerei.mueller (tiktok)", NOW + 540), Condition("plan", "9% of posts, " * 9)
    attempts = platform("instagram", 4950, 650, pending=2, oldest_pending=NOW - 3600, recent=RecentCounts(1, 22))
    status = WorkspaceStatus(conditions=conditions)
    server.fault = respond(workspace("a" * 40, platforms=(attempts,), status=status))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (at,) = [at for at, line in enumerate(lines) if line.startswith("OK      1 account in cooldown")]
    assert lines[at + 1].startswith("        ")
    assert " ".join(lines).count("in cooldown") == 1
    assert "OK      The plan: 9% of posts, 9% of posts, 9% of posts, 9% of posts, 9% of" in lines
    assert "PLATFORM   RECENT    FAILED  PENDING  LAST LOG" in lines
    assert "instagram      22  1 (4.5%)  2 (1 h)" in lines


def test_wide_characters_in_a_narrow_terminal(
    server: LateServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A caption of characters that are two columns wide fits, although it has no spaces."""
    caption = "新しいパンが焼き上がりました"
    conditions = (Condition("blocked", "@パン", text=caption * 4),)
    server.fault = respond(workspace(status=WorkspaceStatus(conditions=conditions)))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["status", "--problems"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "WARNING 1 account cannot post: @パン: 新しいパンが焼き上がりました新しいパンが焼",
        "        き上がりました新しいパンが焼き上がりました新しいパンが焼き上がりました",
    ]


def test_many_workspaces(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many workspaces only the worst are shown."""
    server.fault = respond(*(workspace(f"w{number}") for number in range(9)), troubled())
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert ("acme       publishing" in out, "w8 " in out) == (True, False)
    assert "\n5 more workspaces, not shown\n" in out


def test_a_dead_api(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line for all workspaces, and old figures of platforms are left out."""
    dead = replace(unreachable_workspace(), platforms=(platform("instagram", 4950, 650),))
    server.fault = respond(*(replace(dead, name=f"w{number}") for number in range(5)))
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"FAILING 5 of 5 workspaces: {REFUSED}\n")
    assert "17 min ago" in out
    assert "WORKSPACE  PLATFORM" not in out


def test_problems(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The problems alone are printed, worst first, and decide the exit code if that is asked for."""
    server.fault = respond(troubled(), syncing())
    assert main(["status", "--problems"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [sum(line.startswith(level) for line in lines) for level in ("FAILING ", "WARNING ")] == [2, 5]
    assert not [line for line in lines if line.startswith(("OK ", "WORKSPACE "))]
    assert main(["status", "--problems", "--check"]) == 1
    assert main(["status", "--check", "--format", "json"]) == 1
    capsys.readouterr()
    server.fault = respond(syncing())
    assert main(["status", "--problems", "--check"]) == 0
    assert capsys.readouterr().out == ""


def answer(exchange: HttpExchange) -> None:
    """Answer as an exporter, with the metrics and with the status."""
    (respond_with(200, ACCOUNTS) if exchange.path == "/metrics" else respond(troubled()))(exchange)


def test_accounts(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Accounts in trouble come first, by how bad it is, with what the API says about it."""
    server.fault = answer
    assert main(["accounts"]) == 0
    assert [request.path for request in server.requests] == ["/metrics", "/"]
    out = capsys.readouterr().out
    assert out == ACCOUNT_TABLE


def test_accounts_as_json(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get every field."""
    server.fault = answer
    assert main(["accounts", "--format", "json", "--platform", "X"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["account_id"], row["state"]) for row in rows] == [("3", "reconnect"), ("1", "failing")]
    assert (rows[1]["consecutive_failures"], rows[1]["details"]) == (5.0, [])
    assert main(["accounts", "--format", "json", "--workspace", "b"]) == 0
    assert [json.loads(line)["account_id"] for line in capsys.readouterr().out.splitlines()] == ["3"]
    assert main(["accounts", "--platform", "myspace"]) == 0
    assert capsys.readouterr().err.startswith("late-exporter: no account matches;")


def test_states() -> None:
    """The worst of what is known about an account is its state, what the page says about it are its details."""
    tokens = Condition("token", "@six", 1_764_000_000, subject="6"), Condition("token", "@five", NOW + 8 * DAY, "5")
    workspaces = [workspace("a", status=WorkspaceStatus(conditions=tokens))]

    def states(now: float) -> list[tuple[str, str]]:
        return [(each["account_id"], each["state"]) for each in parse_accounts(ACCOUNTS, workspaces, now)]

    worst = [("3", "reconnect"), ("4", "blocked"), ("2", "cooldown"), ("1", "failing")]
    assert states(NOW) == [*worst, ("6", "expiring"), ("5", "ok")]
    # The cooldown ends, and the token of another account gets old.
    assert states(NOW + 2 * DAY)[2:] == [("1", "failing"), ("5", "expiring"), ("6", "expiring"), ("2", "ok")]
    conditions = (
        Condition("at_risk", "", NOW + 7200, "5", "gone, 2 posts"),
        Condition("cooldown", "", NOW + 600, "5"),
        Condition("messaging", subject="5", text="131042"),
        Condition("analytics", subject="5", text="stalled"),
    )
    at_risk = workspace("a", status=WorkspaceStatus(conditions=(*conditions, *tokens)))
    account = next(each for each in parse_accounts(ACCOUNTS, [at_risk], NOW) if each["account_id"] == "5")
    assert account["state"] == "disconnected"
    assert account["details"] == [
        "gone, 2 posts, due in 2 h",
        "cooldown ends in 10 min",
        "token expires in 8 d",
        "messages restricted 131042",
        "analytics sync stalled",
    ]
    with pytest.raises(LateError, match="not that of a late-exporter"):
        parse_accounts('late_account_info{workspace="a"} 1\n', workspaces, NOW)


def test_password(server: LateServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A password is sent if it is given; without it, the message says what to do, and no message contains it."""
    (tmp_path / "password").write_text("hunter2hunter2\n")

    def answer_one_user(exchange: HttpExchange) -> None:
        is_known = exchange.headers.get("Authorization") == "Basic YWxpY2U6aHVudGVyMmh1bnRlcjI="
        (respond(troubled()) if is_known else respond_with(401, ""))(exchange)

    server.fault = answer_one_user
    assert main(["status"]) == 1
    assert "requires a password; give --user and --password-file\n" in capsys.readouterr().err
    arguments = ["status", "--password-file", str(tmp_path / "password"), "--user"]
    assert main([*arguments, "alice"]) == 0
    capsys.readouterr()
    assert main([*arguments, "mallory"]) == 1
    assert capsys.readouterr().err.endswith("requires a password; the password is wrong\n")
    assert main(["status", "--user", "alice"]) == 2
    assert "--user and --password-file: give both or none" in capsys.readouterr().err


def test_status_speaks_tls_if_the_exporter_does(server: LateServer, tmp_path: Path) -> None:
    """Only by TLS is it asked then, so that no password is sent in clear."""
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.pem}\n")
    assert main(["status", "--web.config.file", str(tmp_path / "web.yml")]) == 1
    assert server.requests == []


def test_something_else_answers(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    for status, message in ((200, "not that of a late-exporter of this version"), (404, "/ answers 404; is it late-")):
        server.fault = respond_with(status, "<html>")
        assert main(["status"]) == 1
        assert message in capsys.readouterr().err


def test_no_exporter(server: LateServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the address, and what to do."""
    server.stop()
    assert main(["status"]) == 1
    hint = "start the exporter, or give its --web.listen-address, and its --web.config.file if it uses TLS"
    assert capsys.readouterr().err.endswith(f": Connection refused; {hint}\n")


OTHER_PROGRAM = "is not late-exporter; give the address with --web.listen-address"


def address(server: LateServer) -> Address:
    """Return the address of a server."""
    host, _, port = server.url.removeprefix("http://").partition("/")[0].rpartition(":")
    return Address(host, int(port))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (respond_with(503, "why"), "answers 503"),
        (lambda exchange: exchange.write(b"SSH-2.0-secret\r\n"), "does not answer in HTTP"),
        (respond_with(200, "<h1>It works!</h1>"), OTHER_PROGRAM),
    ],
)
def test_another_answer_is_unhealthy(server: LateServer, fault: FaultHandler, reason: str) -> None:
    """The error gives the reason in a few words."""
    server.fault = fault
    with pytest.raises(LateError) as caught:
        check_health(address(server))
    assert str(caught.value) == f"{address(server)} {reason}"


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [(b"HTTP/1.1 ", b"2"), (b"HTTP/1.1 200 OK\r\n", b"X"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["status line", "headers", "interim responses"],
)
def test_a_dripping_server_is_unhealthy(server: LateServer, beginning: bytes, piece: bytes) -> None:
    """The timeout is that of the whole exchange, however many bytes arrive in between."""
    finished = []

    def drip_head(exchange: HttpExchange) -> None:
        exchange.write(beginning)
        for _ in range(100):
            exchange.write(piece)
            server.pause(0.01)
        finished.append(piece)

    for fault in (drip_head, drip(server, pause=0.01)):
        server.fault = fault
        with pytest.raises(LateError, match=r" does not answer: timed out$"):
            check_health(address(server), timeout=0.1)
    assert finished == []


def test_a_server_that_accepts_no_connection_is_unhealthy() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),
        pytest.raises(LateError, match=r" does not answer: timed out$"),
    ):
        check_health(Address(*server.getsockname()), timeout=0.1)


async def refuse(scope: Message, _receive: Receive, send: Send) -> None:
    """Ask for a password."""
    assert scope["path"] == "/-/healthy"
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("clients", ["", "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem"])
async def test_tls_is_supported(clients: str, tmp_path: Path) -> None:
    """TLS may require client certificates."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    tls = f"tls_server_config: {{cert_file: server.pem, key_file: server.pem, {clients}}}"
    (tmp_path / "web.yml").write_text(tls)
    config = web_file.load(tmp_path / "web.yml")
    with bind_socket(Address("127.0.0.1", 0)) as bound:
        serving = asyncio.ensure_future(serve(refuse, [bound], web_config=lambda: config))
        address_in_use = Address(*bound.getsockname())
        await asyncio.to_thread(check_health, address_in_use, secure=True)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


def test_the_command_uses_the_configured_address(
    server: LateServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No key is needed, and mistakes elsewhere in the configuration do not matter."""
    (tmp_path / "late.yml").write_text("workspaces: 7\npoll: {interval: x}\n")
    server.fault = respond_with(200, "late-exporter is healthy\n")
    assert main(["healthcheck", "--config.file", str(tmp_path / "late.yml")]) == 0
    server.fault = respond_with(500, "")
    assert main(["healthcheck"]) == 1
    output = capsys.readouterr()
    assert output.out == "late-exporter is healthy\n"
    assert output.err == f"late-exporter: error: {address(server)} answers 500\n"
