"""Tests of the commands as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.late import KEY, LateServer, respond_with
from tests.e2e.program import ExporterProcess, http_get, wait_equal, wait_until

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"


def test_demo(tmp_path: Path, exit_stack: ExitStack) -> None:
    """The demo serves a status page and realistic metrics within a minute, without a key and without files."""
    program = exit_stack.enter_context(
        ExporterProcess(
            tmp_path,
            "demo",
            "--web.listen-address=127.0.0.1:0",
            "--simulate.listen-address=127.0.0.1:0",
            "--poll.interval=1s",
            "--simulate.incident=platform-outage",
        )
    )
    wait_until(lambda: program.get("/-/ready").status == 200, timeout=60, describe=lambda: program.stderr)
    page = program.get("/")
    assert 200 == page.status
    assert "up to date" in page.text
    samples = program.scrape()
    assert samples.sum(LOGS) > 10_000
    assert len(samples.family("late_account_info")) > 10
    assert 2 == samples.sum("late_up")
    assert 0 == samples.sum("late_exporter_entries_rejected_total")
    assert 0 == program.stop()
    assert ["errors", "output"] == sorted(file.name.partition("-")[0] for file in tmp_path.iterdir())
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize(
    ("options", "path", "other_path"),
    [
        ((), "/v1/logs", "/v1/posts/logs"),
        (("--generation=late",), "/v1/posts/logs", "/v1/logs"),
    ],
)
def test_simulate(tmp_path: Path, exit_stack: ExitStack, options: tuple[str, ...], path: str, other_path: str) -> None:
    """The simulated API describes itself, answers requests with a key, and rejects all others."""
    arguments = ("--simulate.listen-address=127.0.0.1:0", "--simulate.history=1h", *options)
    program = exit_stack.enter_context(ExporterProcess(tmp_path, "simulate", *arguments))
    url = wait_until(lambda: parse_address(program.stderr), describe=lambda: program.stderr)
    logs = http_get(f"{url}/api{path}?limit=5", {"Authorization": f"Bearer {KEY}"})
    assert "A simulated Zernio API" in http_get(url).text
    assert 401 == http_get(f"{url}/api{path}").status
    assert 404 == http_get(f"{url}/api{other_path}", {"Authorization": f"Bearer {KEY}"}).status
    assert {"logs", "pagination"} == json.loads(logs.body).keys()
    assert "x-ratelimit-limit" in {name.lower() for name in logs.headers}
    assert 0 == program.stop()


def parse_address(errors: str) -> str:
    """Return the address in the log of the simulated API."""
    expected_message = [word for word in errors.split() if word.startswith("address=http://")]
    return expected_message[0].partition("=")[2] if expected_message else ""


@pytest.mark.parametrize("generation", ["zernio", "late"])
def test_simulate_and_run(tmp_path: Path, exit_stack: ExitStack, generation: str) -> None:
    """The exporter counts the logs of a simulated API that keeps writing logs."""
    arguments = (
        "--simulate.listen-address=127.0.0.1:0",
        "--simulate.history=15m",
        "--simulate.logs-per-day=500000",
        f"--generation={generation}",
    )
    simulator = exit_stack.enter_context(
        ExporterProcess(tmp_path, "simulate", *arguments, "--simulate.rate-limit=100000")
    )
    url = wait_until(lambda: parse_address(simulator.stderr), timeout=60, describe=lambda: simulator.stderr)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, f"{url}/api", "--poll.feeds=publishing"))
    wait_until(lambda: program.get("/-/ready").status == 200, timeout=60, describe=lambda: program.stderr)
    before = program.scrape().sum(LOGS)
    wait_until(lambda: program.scrape().sum(LOGS) >= before + 20)
    assert 0 == program.scrape().sum("late_exporter_polls_total", outcome="unavailable")


def test_check_good(late: LateServer, tmp_path: Path) -> None:
    """With a valid key every endpoint has a line with its number of logs, and the exit code is 0."""
    late.world.publish(1234, over=600)
    late.world.add_connection()
    with ExporterProcess(tmp_path, "check", f"--api.base-url={late.url}", env={"LATE_API_KEY": KEY}) as program:
        assert 0 == program.wait_exit()
        endpoint_lines = {
            line[9:].split("  ")[0]: line.split("  ", 2)[-1].strip() for line in program.stdout.splitlines()
        }
        assert ["ok"] * len(endpoint_lines) == [line.split()[0] for line in program.stdout.splitlines()]
        assert "1,234 logs" in endpoint_lines["default /v1/posts/logs"]
        assert "of the newest post" in endpoint_lines["default /v1/posts/{postId}/logs"]
        assert "1 log" in endpoint_lines["default /v1/connections/logs"]
        assert "requests left this minute" in endpoint_lines["default quota"]
        assert {"configuration", "state", "web", "default clock", "listen :10077"} <= endpoint_lines.keys()
        assert "reads /v1/billing" in endpoint_lines["default status feed billing"]
        assert "" == program.stderr
        assert not (tmp_path / "data").exists()


def test_check_bad_key(late: LateServer, tmp_path: Path) -> None:
    """A rejected key is reported per endpoint, and the exit code is 1."""
    late.keys.clear()
    with ExporterProcess(tmp_path, "check", f"--api.base-url={late.url}", env={"LATE_API_KEY": KEY}) as program:
        assert 1 == program.wait_exit()
        failed_lines = [line for line in program.stdout.splitlines() if line.startswith("error")]
        assert ["/v1/logs?type=publishing", "/v1/logs?type=connections"] == [line.split()[2] for line in failed_lines]
        assert all("401: the API key was rejected: Unauthorized (code unauthorized)" in line for line in failed_lines)
        assert all("; make sure that the key is complete" in line for line in failed_lines)
        assert "" == program.stderr


@pytest.mark.parametrize(
    ("status", "body", "expected_message"),
    [
        (
            200,
            "<html>",
            "/v1/logs?type=publishing the response is not JSON: it begins with '<html>'; /v1/posts/logs the",
        ),
        (
            404,
            "",
            "404: the API has no /v1/logs; /v1/posts/logs 404: the API has no /v1/posts/logs; check --api.base-url",
        ),
        (500, '{"error": "\\u001b[31mred\\nnew line"}', "500: "),
    ],
)
def test_check_bad_answers(late: LateServer, tmp_path: Path, status: int, body: str, expected_message: str) -> None:
    """Invalid responses of all lists are reported in one line per feed; the exit code is 1."""
    late.fault = respond_with(status, body)
    with ExporterProcess(tmp_path, "check", f"--api.base-url={late.url}", env={"LATE_API_KEY": KEY}) as program:
        assert 1 == program.wait_exit()
        wrong = [line for line in program.stdout.split("\n") if not line.startswith("ok ")]
        assert ["error", "error", ""] == [line.partition(" ")[0] for line in wrong]
        assert expected_message in wrong[0]
        assert "\x1b" not in program.stdout


def test_check_unreachable(tmp_path: Path) -> None:
    """An unreachable API is reported per endpoint, and the exit code is 1."""
    nobody = LateServer()
    nobody.reserve_port()
    with ExporterProcess(tmp_path, "check", f"--api.base-url={nobody.url}", env={"LATE_API_KEY": KEY}) as program:
        assert 1 == program.wait_exit()
        assert 2 == program.stdout.count(f"no connection to {urlsplit(nobody.url).netloc}: ")


def test_healthcheck(start_exporter: Callable[..., ExporterProcess], tmp_path: Path, exit_stack: ExitStack) -> None:
    """A running exporter is healthy, synced or not, and unhealthy after its end."""
    program = start_exporter()
    where = program.url.removeprefix("http://")
    command = ("healthcheck", f"--web.listen-address={where}")
    before = exit_stack.enter_context(ExporterProcess(tmp_path, *command))
    assert (0, "late-exporter is healthy\n", "") == (before.wait_exit(), before.stdout, before.stderr)
    program.stop()
    after = exit_stack.enter_context(ExporterProcess(tmp_path, *command))
    assert 1 == after.wait_exit()
    assert f"late-exporter: error: {where} does not answer: Connection refused\n" == after.stderr


@pytest.mark.parametrize("arguments", ["metrics", "metrics --format=json", "--help"])
def test_output_into_head(tmp_path: Path, arguments: str) -> None:
    """No error is shown if the reader of the output ends early."""
    command = f"'{sys.executable}' -m late_exporter {arguments} | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, cwd=tmp_path, text=True, timeout=60
    )
    assert (0, "") == (result.returncode, result.stderr)
    assert 1 == len(result.stdout.splitlines())


def test_output_into_a_closed_pipe(tmp_path: Path) -> None:
    """No error is shown if the reader of the output has ended before the first line."""
    command = f"'{sys.executable}' -m late_exporter metrics | true"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, cwd=tmp_path, text=True, timeout=60
    )
    assert (0, "", "") == (result.returncode, result.stdout, result.stderr)


def test_landing_page_in_a_browser(
    late: LateServer,
    start_exporter: Callable[..., ExporterProcess],
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """A browser renders the status page without an error, also of its content security policy."""
    late.world.publish(40, over=60)
    program = start_exporter().wait_ready()
    wait_equal(40.0, lambda: program.scrape().sum(LOGS))
    picture = tmp_path / "page.png"
    command = [
        require_tool("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'browser'}",
        "--enable-logging=stderr",
        "--window-size=1280,900",
        f"--screenshot={picture}",
        f"{program.url}/",
    ]
    result = subprocess.run(command, capture_output=True, check=False, timeout=90, cwd=tmp_path)
    assert 0 == result.returncode
    assert [] == [line for line in result.stderr.decode("utf-8", "replace").splitlines() if ":CONSOLE" in line]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
