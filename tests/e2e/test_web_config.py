"""Tests of the web configuration file and of listen addresses, partly with a real Prometheus."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import bcrypt
import pytest
import trustme

from late_exporter.web.passwords import FAILED_LOGIN_RATE
from late_exporter.web.server import MAX_CONNECTIONS
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import DEFAULT_TIMEOUT, ExporterProcess, start_process, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.support.crowd import crowd, half_open, idle, silent, unfinished

pytestmark = pytest.mark.e2e

Run: TypeAlias = Callable[..., ExporterProcess]
FindTool: TypeAlias = Callable[[str], str]

PASSWORD = "correct horse battery"
PASSWORD_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
CA, OTHER_CA = trustme.CA(), trustme.CA()
SERVER, RENEWED = CA.issue_cert("127.0.0.1"), CA.issue_cert("127.0.0.1")
CLIENT, FOREIGN = CA.issue_cert("prometheus.example"), OTHER_CA.issue_cert("prometheus.example")

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = f"""\
{TLS}\
  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example]
"""
USERS = f"basic_auth_users:\n  prometheus: {PASSWORD_HASH}\n"
UNAUTHENTICATED = "--web.unauthenticated-paths=/-/healthy,/-/ready"

JOBS = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
"""
JOB = """\
  - job_name: %(name)s
    scheme: https
    tls_config: {ca_file: %(ca)s%(certificate)s}
    basic_auth: {username: prometheus, password: "%(password)s"}
    static_configs: [{targets: ["%(target)s"]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of ``web.yml``, beside all certificates."""
    install(tmp_path, SERVER)
    (tmp_path / "ca.crt").write_bytes(CA.cert_pem.bytes())
    (tmp_path / "stranger.crt").write_bytes(OTHER_CA.cert_pem.bytes())
    for name, certificate in (("client", CLIENT), ("foreign", FOREIGN)):
        (tmp_path / f"{name}.crt").write_bytes(certificate.cert_chain_pems[0].bytes())
        (tmp_path / f"{name}.key").write_bytes(certificate.private_key_pem.bytes())
    return tmp_path / "web.yml"


def install(folder: Path, certificate: trustme.LeafCert) -> None:
    """Install a certificate and its key for the program."""
    (folder / "server.crt").write_bytes(certificate.cert_chain_pems[0].bytes())
    (folder / "server.key").write_bytes(certificate.private_key_pem.bytes())


def client_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return the TLS context of a client."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def basic(password: str = PASSWORD, user: str = "prometheus") -> str:
    """Return the basic auth header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def secrets_in(program: ExporterProcess) -> list[str]:
    """Return the secrets in the output of the program."""
    keys = [one.private_key_pem.bytes().decode().splitlines()[1] for one in (SERVER, RENEWED)]
    return [secret for secret in (PASSWORD_HASH[7:], PASSWORD, KEY, *keys) if secret in program.stderr + program.stdout]


def scrape_with_prometheus(
    binary: str, folder: Path, target: str, jobs: dict[str, dict[str, str]]
) -> AbstractContextManager[PrometheusApi]:
    """Run a Prometheus that scrapes one target by several jobs."""
    usual = {"ca": folder / "ca.crt", "certificate": "", "password": PASSWORD, "target": target}
    config = JOBS + "".join(JOB % (usual | {"name": name} | job) for name, job in jobs.items())
    return run_prometheus(binary, folder, config)


def certificate(folder: Path, name: str) -> str:
    """Return the TLS settings of a job with a client certificate."""
    return f", cert_file: {folder / name}.crt, key_file: {folder / name}.key"


@pytest.mark.parametrize("mutual", [False, True], ids=["password", "mutual"])
def test_prometheus(late: LateServer, start_exporter: Run, require_tool: FindTool, file: Path, *, mutual: bool) -> None:
    """A Prometheus with the right password, CA and certificate can scrape over TLS; others are rejected."""
    late.world.publish(40, over=600)
    file.write_text((MUTUAL if mutual else TLS) + USERS)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    program.tls = client_context(CLIENT if mutual else None)
    program.wait_ready()
    own = {"certificate": certificate(file.parent, "client")} if mutual else {}
    jobs: dict[str, dict[str, str]] = {
        "right": own,
        "wrong password": own | {"password": "wrong"},
        "wrong authority": own | {"ca": str(file.parent / "stranger.crt")},
    }
    if mutual:
        jobs["no certificate"] = {}
        jobs["foreign certificate"] = {"certificate": certificate(file.parent, "foreign")}
    expected = {name: float(name == "right") for name in jobs}
    with scrape_with_prometheus(
        require_tool("prometheus"), file.parent, program.url.removeprefix("https://"), jobs
    ) as database:
        wait_equal(40.0, lambda: database.value('sum(late_publishing_logs_total{job="right"})'))
        wait_equal(expected, lambda: {row["metric"]["job"]: float(row["value"][1]) for row in database.query("up")})
        wait_equal(1, lambda: len(database.query("count_over_time(up[5m]) > 4 and on(job) up == 1")))
        assert [] == database.query('late_publishing_logs_total{job!="right"}')
    assert 0 == program.stop()
    assert [] == secrets_in(program)
    assert "Traceback" not in program.stderr


def test_access_control(start_exporter: Run, file: Path) -> None:
    """Plain HTTP, an unknown CA and a wrong password are rejected; probes and valid users get responses."""
    file.write_text(TLS + USERS)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    program.tls = client_context()
    program.wait_ready()
    assert program.url.startswith("https://127.0.0.1:")
    with socket.create_connection(("127.0.0.1", int(program.url.rpartition(":")[2])), DEFAULT_TIMEOUT) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"late_" not in read_to_end(plain)
    rejected = program.get("/metrics")
    assert (401, 'Basic realm="late-exporter", charset="UTF-8"') == (
        rejected.status,
        rejected.headers["www-authenticate"],
    )
    assert 401 == program.get("/metrics", Authorization=basic("wrong")).status
    assert 401 == program.get("/metrics", Authorization=basic(user="mallory")).status
    assert 401 == program.get("/").status
    assert 401 == program.get("/config").status
    assert 401 == program.get("/-/ready/").status
    assert 200 == program.get("/-/healthy").status
    assert 200 == program.get("/metrics", Authorization=basic()).status
    for _ in range(FAILED_LOGIN_RATE.burst):
        assert 401 == program.get("/metrics", Authorization=basic("guess")).status
    assert 200 == program.get("/metrics", Authorization=basic()).status
    program.tls = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        program.get("/metrics")
    assert 0 == program.stop()
    assert [] == secrets_in(program)
    assert "guess" not in program.stderr
    assert "Traceback" not in program.stderr


def read_to_end(connection: socket.socket) -> bytes:
    """Return all data until the connection is closed."""
    data = b""
    try:
        while more := connection.recv(4096):
            data += more
    except ConnectionResetError:
        pass
    return data


def test_headers_and_limit(start_exporter: Run, file: Path) -> None:
    """Headers of the file are on every response, and requests above the rate limit are rejected."""
    file.write_text(
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=9\n"
        "rate_limit: {interval: 1h, burst: 2}\n"
    )
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    replies = [program.get(page) for page in ("/", "/nowhere", "/metrics")]
    assert [200, 404, 429] == [reply.status for reply in replies]
    for reply in replies:
        assert ("sameorigin", "max-age=9") == (
            reply.headers["x-frame-options"],
            reply.headers["strict-transport-security"],
        )


@pytest.mark.parametrize("command", ["run", "demo"])
def test_bad_file(tmp_path: Path, file: Path, command: str) -> None:
    """All errors of a file are reported with their lines; exit code 2, no traceback, no secret."""
    file.write_text(
        f"tls_server_config:\n  min_version: SSL3\n  certfile: x\nbasic_auth_users:\n  alice: {PASSWORD}\n"
        f"  bob: {PASSWORD_HASH}x\nrate_limit: {{interval: x}}\n"
    )
    arguments = (command, f"--web.config.file={file}", "--poll.interval=soon")
    with ExporterProcess(tmp_path, *arguments, env={"LATE_API_KEY": KEY} if command == "run" else {}) as program:
        assert 2 == program.wait_exit()
        messages = program.stderr
        assert "Traceback" not in messages
        for place in (
            "--poll.interval",
            f"{file}:2: tls_server_config.min_version",
            f"{file}:3: tls_server_config.certfile: unknown",
            f"{file}:5: basic_auth_users.alice",
            f"{file}:6: basic_auth_users.bob",
            f"{file}:7: rate_limit.interval",
        ):
            assert place in messages
        assert [] == secrets_in(program)


@pytest.mark.parametrize(
    ("text", "expected_message"),
    [
        (None, "No such file or directory"),
        (TLS.replace("server.key", "client.key"), "key values mismatch"),
        (TLS.replace("server.crt", "none.crt"), "none.crt: No such file or directory"),
        ("- a\n", "must be a mapping"),
    ],
)
def test_unusable_file(start_exporter: Run, file: Path, text: str | None, expected_message: str) -> None:
    """A missing file or mismatched certificates prevent the start; exit code 2."""
    if text is not None:
        file.write_text(text)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    assert 2 == program.wait_exit()
    assert expected_message in program.stderr
    assert str(file) in program.stderr
    assert "Traceback" not in program.stderr


def test_changes_while_running(start_exporter: Run, file: Path) -> None:
    """Changes of users and certificates apply without a restart; a broken file changes nothing and is logged once."""
    file.write_text(TLS + USERS)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    program.tls = client_context()
    program.wait_ready()
    assert 200 == program.get("/metrics", Authorization=basic()).status

    file.write_text(TLS + f"basic_auth_users: {{prometheus: {PASSWORD}}}\n")
    for _ in range(3):
        assert 200 == program.get("/metrics", Authorization=basic()).status
    assert 1 == program.stderr.count("web configuration not changed")
    assert f"{file}:4: basic_auth_users.prometheus: must be a bcrypt hash" in program.stderr

    file.write_text(TLS + USERS.replace("prometheus", "grafana"))
    assert 401 == program.get("/metrics", Authorization=basic()).status
    assert 200 == program.get("/metrics", Authorization=basic(user="grafana")).status

    before = server_serial(program)
    install(file.parent, RENEWED)
    assert before != server_serial(program)
    assert ssl.PEM_cert_to_DER_cert(RENEWED.cert_chain_pems[0].bytes().decode()) == server_serial(program)
    assert program.exit_code is None
    assert 0 == program.stop()
    assert [] == secrets_in(program)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_thousands_of_useless_connections(start_exporter: Run, late: LateServer, file: Path, *, secure: bool) -> None:
    """Memory stays far below the limits of the deployments, and scrapes are answered, whoever connects."""
    late.world.publish(500)
    file.write_text(TLS if secure else "")
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    context = client_context() if secure else None
    program.tls = context
    program.wait_ready()
    port = int(program.url.rpartition(":")[2])
    for attack in (silent, half_open, unfinished, idle):
        with crowd(port, attack, 2 * MAX_CONNECTIONS, context):
            assert 500 == program.scrape().sum("late_publishing_logs_total")
    assert program.peak_memory_bytes < 150 << 20


def server_serial(program: ExporterProcess) -> bytes:
    """Return the serial number of the certificate of the program."""
    address = ("127.0.0.1", int(program.url.rpartition(":")[2]))
    with (
        socket.create_connection(address, DEFAULT_TIMEOUT) as connection,
        client_context().wrap_socket(connection, server_hostname="127.0.0.1") as speaking,
    ):
        return speaking.getpeercert(binary_form=True) or b""


def test_unix_path(start_exporter: Run, tmp_path: Path) -> None:
    """A Unix socket is served, and removed at the end."""
    path = tmp_path / "late.sock"
    program = ExporterProcess(
        tmp_path,
        *("demo", f"--web.listen-address=unix:{path}", "--simulate.listen-address=127.0.0.1:0"),
        env={},
    )
    with program:
        assert f"unix:{path}" == program.url
        wait_until(lambda: b"200 OK" in get_over_socket(path, "/-/ready"), describe=lambda: program.stderr)
        assert b"late_publishing_logs_total" in get_over_socket(path, "/metrics")
        second = start_exporter(f"--web.listen-address=unix:{path}")
        assert 1 == second.wait_exit()
        assert [
            f"late-exporter: error: cannot listen on unix:{path}: Address already in use"
        ] == second.stderr.splitlines()
        assert path.is_socket()
        assert 0 == program.stop()
        assert not path.exists()


def test_unix_path_after_a_kill(start_exporter: Run, tmp_path: Path) -> None:
    """The stale socket of a killed program is replaced."""
    path = tmp_path / "late.sock"
    for _ in range(2):
        program = start_exporter(f"--web.listen-address=unix:{path}")
        wait_until(lambda: b"healthy" in get_over_socket(path, "/-/healthy"), describe=lambda: program.stderr)  # noqa: B023 - at once
        program.kill()
    assert path.is_socket()


def get_over_socket(path: Path, page: str) -> bytes:
    """Return the whole response to a request on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEFAULT_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(f"GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return read_to_end(connection)


def test_several_addresses(late: LateServer, tmp_path: Path) -> None:
    """All addresses are served and logged, with the same metrics."""
    late.world.publish(7)
    path = tmp_path / "late.sock"
    program = ExporterProcess(
        tmp_path,
        "run",
        f"--api.base-url={late.url}",
        "--poll.interval=100ms",
        f"--state.url=sqlite:///{tmp_path / 'state.db'}",
        "--web.listen-address=127.0.0.1:0",
        f"--web.listen-address=127.0.0.2:0,unix:{path}",
        env={"LATE_API_KEY": KEY},
    )
    with program:
        program.wait_ready()
        wait_equal(7.0, lambda: program.scrape().sum("late_publishing_logs_total"))
        urls = wait_until(
            lambda: listen_addresses(program) if len(listen_addresses(program)) == 3 else [],
            describe=lambda: program.stderr,
        )
        assert ["http://127.0.0.1", "http://127.0.0.2", "unix"] == [url.rpartition(":")[0] for url in urls]
        port = int(urls[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.2", port), DEFAULT_TIMEOUT) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"late_publishing_logs_total{" in read_to_end(connection)
        assert b"late_publishing_logs_total{" in get_over_socket(path, "/metrics")
        assert 0 == program.stop()


def listen_addresses(program: ExporterProcess) -> list[str]:
    """Return the addresses in the log."""
    return re.findall(r"msg=listening .*?address=(\S+)", program.stderr)


def test_one_address_of_several_in_use(late: LateServer, tmp_path: Path) -> None:
    """One address in use is an error that names it, with exit code 1, and the others stay unchanged."""
    path = tmp_path / "late.sock"
    program = ExporterProcess(
        tmp_path,
        *("run", f"--api.base-url={late.url}", f"--web.listen-address=unix:{path},127.0.0.1:{late.port}"),
        env={"LATE_API_KEY": KEY},
    )
    with program:
        assert 1 == program.wait_exit()
        assert [
            f"late-exporter: error: cannot listen on 127.0.0.1:{late.port}: Address already in use"
        ] == program.stderr.splitlines()
        assert not path.exists()


def test_systemd_socket_without_one(start_exporter: Run) -> None:
    """A missing systemd socket is an error with exit code 1, and no state is created."""
    program = start_exporter("--web.systemd-socket")
    assert 1 == program.wait_exit()
    assert ["late-exporter: error: --web.systemd-socket: systemd did not pass a socket"] == program.stderr.splitlines()
    assert not (program.folder / "state.db").exists()


def test_systemd_socket(late: LateServer, tmp_path: Path) -> None:
    """A socket of systemd is served instead of the addresses."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        arguments = ("run", f"--api.base-url={late.url}", "--web.systemd-socket", "--state.url=sqlite://")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "LATE_API_KEY": KEY,
        }
        # The socket has to be descriptor 3 and LISTEN_PID the process id: a shell sets both, like systemd.
        script = f'exec 3<&{bound.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"'
        with start_process(
            ["bash", "-c", script, sys.executable, "-m", "late_exporter", *arguments],
            cwd=tmp_path,
            env=environment,
            pass_fds=[bound.fileno()],
            stderr=subprocess.PIPE,
        ) as process:
            bound.close()
            wait_until(lambda: b"healthy" in try_connect(port))
            process.terminate()
            _, errors = process.communicate(timeout=DEFAULT_TIMEOUT)
    assert 0 == process.returncode
    assert f"address=http://127.0.0.1:{port}\n" in errors.decode()


def try_connect(port: int) -> bytes:
    """Return the whole response of a port to a probe."""
    with socket.create_connection(("127.0.0.1", port), DEFAULT_TIMEOUT) as connection:
        connection.settimeout(DEFAULT_TIMEOUT)
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return read_to_end(connection)
