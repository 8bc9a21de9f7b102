"""Tests of the web configuration file and of listen addresses, partly with a real Prometheus."""

from __future__ import annotations

import base64
import os
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


def test_prometheus(late: LateServer, start_exporter: Run, require_tool: FindTool, file: Path) -> None:
    """A Prometheus with the right password, CA and certificate can scrape over TLS; others are rejected."""
    late.world.publish(40, over=600)
    file.write_text(MUTUAL + USERS)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    program.tls = client_context(CLIENT)
    program.wait_ready()
    own = {"certificate": certificate(file.parent, "client")}
    jobs: dict[str, dict[str, str]] = {
        "right": own,
        "wrong password": own | {"password": "wrong"},
        "wrong authority": own | {"ca": str(file.parent / "stranger.crt")},
        "no certificate": {},
        "foreign certificate": {"certificate": certificate(file.parent, "foreign")},
    }
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


def read_to_end(connection: socket.socket) -> bytes:
    """Return all data until the connection is closed."""
    data = b""
    try:
        while more := connection.recv(4096):
            data += more
    except ConnectionResetError:
        pass
    return data


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
