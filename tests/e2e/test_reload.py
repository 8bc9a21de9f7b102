"""Tests of reloading the configuration of a running exporter, by a signal and over HTTP."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, HttpResponse, http_request, wait_equal, wait_until
from tests.e2e.traffic import CounterWatch, in_thread
from tests.support.clock import DAY

LOGS = "late_publishing_logs_total"
RELOADED = "late_exporter_config_last_reload_successful"


class ReloadSetup:
    """Folder with a configuration, and an exporter that uses it.

    Args:
        folder: Folder of the files.
        late: API of all workspaces.
    """

    def __init__(self, folder: Path, late: LateServer) -> None:
        self.folder = folder
        self.late = late
        self.write("acme")
        (folder / "key").write_text(KEY)
        arguments = ("--config.file=late.yml", "--web.enable-lifecycle", "--web.listen-address=127.0.0.1:0")
        self.program = ExporterProcess(folder, "run", *arguments)

    def write(self, *names: str) -> None:
        """Write the configuration."""
        # Workspaces of one key need different profiles or APIs.
        hosts = {"acme": "127.0.0.1", "beta": "localhost"}
        urls = {name: self.late.url.replace("127.0.0.1", hosts[name]) for name in names}
        rows = [f"  - {{name: {name}, api_key_file: key, api_base_url: '{url}'}}" for name, url in urls.items()]
        lines = ["workspaces:", *rows, "poll: {interval: 100ms}", "state: {url: 'sqlite:///state.db'}"]
        (self.folder / "late.yml").write_text("\n".join(lines) + "\n")

    def logs(self) -> dict[str, float]:
        """Return the number of logs of each workspace."""
        samples = self.program.scrape()
        names = {dict(labels)["workspace"] for name, labels in samples if name == LOGS}
        return {name: samples.sum(LOGS, workspace=name) for name in names}

    def post(self, path: str, **headers: str) -> HttpResponse:
        """Send a POST request to the exporter."""
        return http_request("POST", self.program.url + path, headers)


@pytest.fixture
def setting(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> ReloadSetup:
    """Return an exporter that has counted a hundred logs."""
    late.world.publish(100, over=DAY)
    setting = ReloadSetup(tmp_path, late)
    exit_stack.enter_context(setting.program)
    wait_equal({"acme": 100.0}, setting.logs)
    return setting


def test_workspaces_come_and_go_while_logs_arrive(setting: ReloadSetup) -> None:
    """Reloads fail no scrape, lose no log and count none twice."""
    watch = CounterWatch()
    with in_thread(partial(watch.run, setting.program)):
        for turn in range(6):
            setting.write("acme", *(["beta"] if turn % 2 else []))
            with setting.late.lock:
                setting.late.world.publish(3)
            assert setting.post("/-/reload").status == 200
            expected = 100.0 + 3 * (turn + 1)
            wait_equal(turn + 1, lambda: setting.program.stderr.count("msg=reloaded"))
            wait_equal({"acme": expected, "beta": expected} if turn % 2 else {"acme": expected}, setting.logs)
    assert (watch.falls, watch.failures) == ([], 0)
    assert setting.program.scrape()[RELOADED, ()] == 1


def test_cross_site_requests_are_rejected(setting: ReloadSetup) -> None:
    """Cross-site requests and GET requests to the lifecycle API are rejected."""
    for header in (
        {"Origin": "https://example.com"},
        {"Referer": "https://example.com/"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert setting.post("/-/quit", **header).status == 403
    assert setting.program.get("/-/reload").status == 405


def test_the_lifecycle_api_needs_its_flag(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> None:
    """Without its flag the lifecycle API is disabled; SIGHUP reloads in any case."""
    setting = ReloadSetup(tmp_path, late)
    arguments = ("--config.file=late.yml", "--web.listen-address=127.0.0.1:0")
    setting.program = exit_stack.enter_context(ExporterProcess(tmp_path, "run", *arguments))
    for path in ("/-/reload", "/-/quit"):
        answer = setting.post(path)
        assert (answer.status, "--web.enable-lifecycle" in answer.text) == (403, True)
    setting.program.send_signal(signal.SIGHUP)
    wait_until(lambda: "msg=reloaded" in setting.program.stderr)


def test_a_broken_web_configuration_is_shown(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> None:
    """The metric of reloads is 0 while the file, which is read again by itself, is broken."""
    ReloadSetup(tmp_path, late)
    file = tmp_path / "web.yml"
    file.write_text("rate_limit: {burst: 9}\n")
    arguments = ("--config.file=late.yml", "--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml")
    program = exit_stack.enter_context(ExporterProcess(tmp_path, "run", *arguments))
    wait_equal(1.0, lambda: program.scrape().get((RELOADED, ())))
    file.write_text("basic_auth_users: [alice]\n")
    wait_equal(0.0, lambda: program.scrape()[RELOADED, ()])
    file.write_text("")
    wait_equal(1.0, lambda: program.scrape()[RELOADED, ()])
    assert program.stderr.count("web configuration has ignored sections") == 1
