"""Tests of reloading the configuration of a running exporter, by a signal and over HTTP."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, HttpResponse, Run, http_request, wait_equal, wait_until
from tests.e2e.traffic import LOGS, CounterWatch, in_thread
from tests.support.clock import DAY

RELOADED = "late_exporter_config_last_reload_successful"
HOSTS = {"acme": "127.0.0.1", "beta": "localhost"}
"""Host of the API of each workspace: workspaces of one key need different profiles or APIs."""


def write_config(folder: Path, late: LateServer, *names: str) -> None:
    """Write a configuration with some workspaces."""
    urls = {name: late.url.replace("127.0.0.1", HOSTS[name]) for name in names}
    rows = [f"  - {{name: {name}, api_key_file: key, api_base_url: '{url}'}}" for name, url in urls.items()]
    lines = ["workspaces:", *rows, "poll: {interval: 100ms}", "state: {url: 'sqlite:///state.db'}"]
    (folder / "late.yml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def start(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Run:
    """Return a function that starts an exporter with one workspace, whose API has a hundred logs."""
    late.world.publish(100, over=DAY)
    write_config(tmp_path, late, "acme")
    (tmp_path / "key").write_text(KEY)

    def start(*arguments: str) -> ExporterProcess:
        usual = ("--config.file=late.yml", "--web.listen-address=127.0.0.1:0")
        return exit_stack.enter_context(ExporterProcess(tmp_path, "run", *usual, *arguments))

    return start


def post(program: ExporterProcess, path: str, **headers: str) -> HttpResponse:
    """Send a POST request to an exporter."""
    return http_request("POST", program.url + path, headers)


def log_counts(program: ExporterProcess) -> dict[str, float]:
    """Return the number of logs of each workspace."""
    samples = program.scrape()
    names = {dict(labels)["workspace"] for name, labels in samples if name == LOGS}
    return {name: samples.sum(LOGS, workspace=name) for name in names}


def test_workspaces_come_and_go_while_logs_arrive(start: Run, late: LateServer, tmp_path: Path) -> None:
    """Reloads fail no scrape, lose no log and count none twice."""
    program = start("--web.enable-lifecycle")
    wait_equal({"acme": 100.0}, lambda: log_counts(program))
    watch = CounterWatch()
    with in_thread(partial(watch.run, program)):
        for turn, names in enumerate([["acme"], ["acme", "beta"]] * 3, 1):
            write_config(tmp_path, late, *names)
            with late.lock:
                late.world.publish(3)
            assert post(program, "/-/reload").status == 200
            wait_equal(turn, lambda: program.stderr.count("msg=reloaded"))
            wait_equal(dict.fromkeys(names, 100.0 + 3 * turn), lambda: log_counts(program))
    assert (watch.falls, watch.failures) == ([], 0)
    assert program.scrape()[RELOADED, ()] == 1


def test_cross_site_requests_are_rejected(start: Run) -> None:
    """Cross-site requests and GET requests to the lifecycle API are rejected."""
    program = start("--web.enable-lifecycle")
    for header in (
        {"Origin": "https://example.com"},
        {"Referer": "https://example.com/"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert post(program, "/-/quit", **header).status == 403
    assert program.get("/-/reload").status == 405


def test_the_lifecycle_api_needs_its_flag(start: Run) -> None:
    """Without its flag the lifecycle API is disabled; SIGHUP reloads in any case."""
    program = start()
    for path in ("/-/reload", "/-/quit"):
        answer = post(program, path)
        assert (answer.status, "--web.enable-lifecycle" in answer.text) == (403, True)
    program.send_signal(signal.SIGHUP)
    wait_until(lambda: "msg=reloaded" in program.stderr)


def test_a_broken_web_configuration_is_shown(start: Run, tmp_path: Path) -> None:
    """The metric of reloads is 0 while the file, which is read again by itself, is broken."""
    file = tmp_path / "web.yml"
    file.write_text("http_server_config: {http2: true}\nrate_limit: {burst: 9}\n")
    program = start("--web.config.file=web.yml")
    wait_equal(1.0, lambda: program.scrape().get((RELOADED, ())))
    file.write_text("basic_auth_users: [alice]\n")
    wait_equal(0.0, lambda: program.scrape()[RELOADED, ()])
    file.write_text("")
    wait_equal(1.0, lambda: program.scrape()[RELOADED, ()])
    assert program.stderr.count("web configuration has ignored sections") == 1, "those for other exporters"
