"""Tests of TLS and passwords with a real Prometheus."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import Run, wait_equal
from tests.e2e.prometheus import run_prometheus

PASSWORD = "correct horse battery"
PASSWORD_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
CA = trustme.CA()
SERVER, CLIENT = CA.issue_cert("127.0.0.1"), CA.issue_cert("prometheus.example")

MUTUAL = """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
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
    tls_config: {ca_file: ca.crt%(certificate)s}
    basic_auth: {username: prometheus, password: "%(password)s"}
    static_configs: [{targets: ["%(target)s"]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of ``web.yml``, beside the certificates."""
    (tmp_path / "ca.crt").write_bytes(CA.cert_pem.bytes())
    for name, certificate in (("server", SERVER), ("client", CLIENT)):
        (tmp_path / f"{name}.crt").write_bytes(certificate.cert_chain_pems[0].bytes())
        (tmp_path / f"{name}.key").write_bytes(certificate.private_key_pem.bytes())
    return tmp_path / "web.yml"


def test_prometheus(late: LateServer, start_exporter: Run, require_tool: Callable[[str], str], file: Path) -> None:
    """A Prometheus with the right password and certificate can scrape over TLS; others are rejected."""
    late.world.publish(40, over=600)
    file.write_text(MUTUAL + USERS)
    program = start_exporter(f"--web.config.file={file}", UNAUTHENTICATED)
    program.tls = ssl.create_default_context()
    CA.configure_trust(program.tls)
    CLIENT.configure_cert(program.tls)
    program.wait_ready()
    jobs: dict[str, dict[str, str]] = {
        "right": {},
        "wrong password": {"password": "wrong"},
        "stranger": {"certificate": ""},
    }
    expected = {name: float(name == "right") for name in jobs}
    target = program.url.removeprefix("https://")
    usual = {"certificate": ", cert_file: client.crt, key_file: client.key", "password": PASSWORD, "target": target}
    config = JOBS + "".join(JOB % (usual | {"name": name} | job) for name, job in jobs.items())
    with run_prometheus(require_tool("prometheus"), file.parent, config) as database:
        wait_equal(40.0, lambda: database.value('sum(late_publishing_logs_total{job="right"})'))
        wait_equal(expected, lambda: {row["metric"]["job"]: float(row["value"][1]) for row in database.query("up")})
        wait_equal(1, lambda: len(database.query("count_over_time(up[5m]) > 4 and on(job) up == 1")))
        assert database.query('late_publishing_logs_total{job!="right"}') == []
    assert program.stop() == 0
    key = SERVER.private_key_pem.bytes().decode().splitlines()[1]
    assert [secret for secret in (PASSWORD_HASH[7:], PASSWORD, KEY, key) if secret in program.stderr] == []
    assert "Traceback" not in program.stderr
