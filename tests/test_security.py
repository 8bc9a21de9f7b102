"""Tests of the claims in SECURITY.md that no other test covers, and of its references to tests."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from late_exporter.config.settings import OPTIONS
from late_exporter.store import database_at
from late_exporter.store.copying import copy_state
from tests.e2e.conftest import exit_stack, late
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, Run, wait_equal
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness, open_store
from tests.support.late_api import FakeLateApi as QuietLate
from tests.support.world import World
from tests.test_documents import names_tests

__all__ = ["exit_stack", "late"]

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")

PASSWORD = "correct horse"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()}


@pytest.fixture
def start(tmp_path: Path, late: LateServer, exit_stack: ExitStack) -> Run:
    """Return a function that starts the program, optionally with a password."""

    def start_program(
        *arguments: str, password: bool = False, interval: str = "100ms", **environ: str
    ) -> ExporterProcess:
        if password:
            password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
            (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {password_hash}}}\n")
            arguments += (f"--web.config.file={tmp_path / 'web.yml'}", "--web.unauthenticated-paths=/-/healthy")
        env = {"ZERNIO_API_KEY": KEY, **environ}
        state = tmp_path / "data" / "state.db"
        program = ExporterProcess.for_api(tmp_path, late.url, *arguments, interval=interval, state=state, env=env)
        return exit_stack.enter_context(program)

    return start_program


@contextmanager
def _mask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


# The document itself.


def test_every_claim_has_a_test() -> None:
    """Every row of the threat model names existing tests."""
    # Rows of the tables whose last column names tests.
    rows = [line.strip("| ").split(" | ") for line in SECURITY.splitlines() if line.startswith("| ")]
    claims = [row for row in rows if len(row) > 1 and "Test" not in row[-1]]
    assert len(claims) >= 20
    assert [row for row in claims if not names_tests(row[-1])] == []


# Thieves of the state file.


def test_created_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """The state, its journal and its directory are readable only by their owner, whatever the umask."""
    folder = tmp_path / "data"
    with _mask(0), closing(open_store(f"sqlite:///{folder}/state.db")):
        modes = _modes(folder)
    assert modes.pop("data") == 0o700
    assert modes.keys() == {"state.db", "state.db-wal", "state.db-shm", "state.db.lock"}
    assert set(modes.values()) == {0o600}


def test_copies_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Backups and copies are as private as the state."""
    path = tmp_path / "state.db"
    with _mask(0):
        open_store(f"sqlite:///{path}").close()
        database_at(f"sqlite:///{path}").backup(tmp_path / "copy.db")
        copy_state(f"sqlite:///{path}", f"sqlite:///{tmp_path}/new.db")
        modes = _modes(tmp_path)
    assert {"state.db", "copy.db", "new.db"} <= modes.keys()
    assert {mode for name, mode in modes.items() if name != tmp_path.name} == {0o600}


def test_the_mode_of_a_state_stays(tmp_path: Path) -> None:
    """Permissions that a user has set on the state are kept."""
    path = tmp_path / "state.db"
    open_store(f"sqlite:///{path}").close()
    path.chmod(0o640)
    open_store(f"sqlite:///{path}").close()
    assert _modes(tmp_path)["state.db"] == 0o640


def test_what_the_state_knows(tmp_path: Path) -> None:
    """The state has ids, names, counts and errors of failed attempts, but no captions, bodies, media and users."""
    world = World(VirtualClock())
    fields: dict[str, Any] = {
        "postId": {"_id": "POST-ID", "content": "SECRET-CAPTION", "status": "published"},
        "userId": "SECRET-USER",
        "accountId": "ACCOUNT-ID",
        "accountUsername": "@USERNAME",
        "endpoint": "SECRET-ENDPOINT",
        "request": {"contentPreview": "SECRET-PREVIEW", "mediaUrls": ["https://example.org/SECRET-URL"]},
        "response": {"errorMessage": "ERROR-MESSAGE", "errorCode": "CODE", "rawBody": "SECRET-BODY"},
    }
    world.publish(3, kinds=({"status": "pending"}, {"status": "failed"}, {}), **fields)
    world.add_connection(
        "connect_failed", error={"code": "CODE", "message": "SECRET-CONNECTION"}, profileId="SECRET-PROFILE"
    )
    with closing(
        ExporterHarness(QuietLate(world), tmp_path / "state.db", feeds=("publishing", "connections"))
    ) as exporter:
        assert exporter.poll().outcome == "success"
        assert exporter.poll(feed="connections").outcome == "success"
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert re.findall(rb"SECRET-\w+", content) == []
    assert all(
        text in content for text in (b"POST-ID", b"ACCOUNT-ID", b"@USERNAME", b"ERROR-MESSAGE", world.ids[0].encode())
    )


@pytest.mark.e2e
def test_the_files_of_a_running_exporter_hold_no_key(start: Run, late: LateServer, tmp_path: Path) -> None:
    """Neither the state nor its journal nor the process arguments contain the key."""
    late.world.publish(5)
    program = start()
    wait_equal(5.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    folder = tmp_path / "data"
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    contents["arguments"] = Path(f"/proc/{program.pid}/cmdline").read_bytes()
    assert {"state.db", "state.db-wal"} <= contents.keys()
    assert [name for name, content in contents.items() if KEY[3:19].encode() in content] == []
    assert {mode for name, mode in _modes(folder).items() if name != "data"} == {0o600}


def test_no_flag_takes_a_key() -> None:
    """The key has no flag, because other users can read the arguments of a process."""
    secret = [option.name for option in OPTIONS if option.secret]
    assert secret == ["api.key"]
    assert "| `ZERNIO_API_KEY`, `LATE_API_KEY` |" in (ROOT / "docs" / "configuration.md").read_text("utf-8")


# Hostile APIs and attackers on the way to the API.


def test_the_exporter_only_reads() -> None:
    """All requests to the API are GET requests."""
    source = (ROOT / "late_exporter" / "api" / "client.py").read_text("utf-8")
    calls = re.findall(r"_http\.(\w+)\(\s*([^,)]*)", source)
    assert calls == [("build_request", '"GET"'), ("send", "request")]
    others = (ROOT / "late_exporter").rglob("*.py")
    clients = {path.name for path in others if "import httpx" in path.read_text("utf-8")}
    assert clients == {"body.py", "client.py", "connector.py"}


@pytest.mark.e2e
def test_a_stranger_with_a_certificate_gets_no_key(tmp_path: Path) -> None:
    """The key is not sent to a server whose certificate is not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    received_data: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_eavesdrop, args=(listener, context, received_data), daemon=True)
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}/api"
        with ExporterProcess(tmp_path, "check", f"--api.base-url={url}", env={"ZERNIO_API_KEY": KEY}) as program:
            assert program.wait_exit() == 1
            assert "certificate verify failed" in program.stdout.lower().replace("_", " ")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert received_data
    assert set(received_data) == {b""}


def _eavesdrop(listener: socket.socket, context: ssl.SSLContext, received_data: list[bytes]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            try:
                received_data.append(context.wrap_socket(client, server_side=True).recv(4096))
            except OSError:
                received_data.append(b"")


# Hostile scrapers and web pages in a browser.


@pytest.mark.e2e
def test_a_scrape_asks_nothing_of_the_api(start: Run, late: LateServer) -> None:
    """A scrape neither sends API requests nor writes to the state."""
    program = start("--poll.feeds=publishing", "--status.feeds=none", interval="1h").wait_ready()
    request_count = len(late.requests)
    commits = program.scrape().sum("late_exporter_polls_total")
    for path in ("/metrics", "/", "/-/ready", "/-/healthy") * 25:
        program.get(path)
    assert request_count == len(late.requests)
    assert commits == program.scrape().sum("late_exporter_polls_total")


TARGETS = [
    "/metrics",
    "//metrics",
    "/metrics/",
    "/%6detrics",
    "/-/healthy/../../metrics",
    "/-/healthy%2f..%2f..%2fmetrics",
    "/-/healthy\\..\\..\\metrics",
    "http://localhost/metrics",
    "*",
    "",
]


@pytest.mark.e2e
def test_unauthenticated_paths_open_nothing_else(start: Run) -> None:
    """No spelling of a path gets past the password by way of one that needs none."""
    program = start(password=True)
    assert program.get("/-/healthy?x=/metrics").text == "late-exporter is healthy\n"
    answers = {
        target: _raw(program.url, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for target in TARGETS
    }
    assert [target for target, answer in answers.items() if b" 200 " in answer.partition(b"\r\n")[0]] == []
    assert [target for target, answer in answers.items() if b"late_" in answer] == []
    assert program.get("/metrics", **LOGIN).status == 200


@pytest.mark.e2e
def test_a_page_of_another_site_reads_nothing(start: Run) -> None:
    """No response allows a page of another site to read it or to send other requests."""
    program = start("--web.enable-lifecycle").wait_ready()
    for path in ("/", "/metrics", "/-/ready"):
        reply = program.get(path, Origin="https://example.org")
        assert [name for name in reply.headers if name.lower().startswith("access-control-")] == []
        assert reply.headers["x-content-type-options"] == "nosniff"
    preflight = "OPTIONS /-/quit HTTP/1.1\r\nHost: x\r\nOrigin: https://example.org\r\nConnection: close\r\n\r\n"
    answer = _raw(program.url, preflight)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"access-control-" not in answer.lower()


def _raw(url: str, request: str) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer
