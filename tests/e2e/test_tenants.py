"""Customers with scrape targets of their own: users who are bound to workspaces, with a real Prometheus."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import bcrypt
import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
PASSWORD = "correct horse battery"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
CONFIG = """\
workspaces:
  - {{name: brand-a, api_key_file: key, api_base_url: '{url}', labels: {{team: social}}}}
  - {{name: brand-b, api_key_file: key, api_base_url: '{url}', labels: {{tier: gold}}}}
poll: {{interval: 100ms}}
state: {{url: 'sqlite:///state.db'}}
web:
  config_file: web.yml
  user_workspaces: {{{bound}}}
metrics:
  disable: [late_account_logs_total]
  buckets: {{late_publishing_duration_seconds: [0.5, 2, 20]}}
"""
JOBS = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
"""
JOB = """\
  - job_name: {name}
    basic_auth: {{username: {user}, password: "{password}"}}
    params: {{{params}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class TenantSetup:
    """Folder with a configuration of two brands, and an exporter that uses it."""

    def __init__(self, folder: Path, late: LateServer) -> None:
        self.folder = folder
        self.late = late
        (folder / "key").write_text(KEY)
        (folder / "web.yml").write_text(f"basic_auth_users:\n  ops: {HASH}\n  customer-a: {HASH}\n")
        self.bind("customer-a: [brand-a]")
        self.program = ExporterProcess(folder, "run", "--config.file=late.yml", "--web.listen-address=127.0.0.1:0")

    def bind(self, bound: str) -> None:
        """Write the configuration with other workspaces of users."""
        (self.folder / "late.yml").write_text(CONFIG.format(url=self.late.url, bound=bound))

    def get(self, path: str, user: str = "customer-a", **headers: str) -> tuple[int, str]:
        """Return status and body of a page."""
        credentials = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        response = self.program.get(path, Authorization=f"Basic {credentials}", **headers)
        return response.status, response.text

    def prometheus(self, binary: str, **params: tuple[str, str]) -> AbstractContextManager[PrometheusApi]:
        """Run a Prometheus with a job for each user and parameters."""
        target = self.program.url.removeprefix("http://")
        jobs = [
            JOB.format(name=name.replace("_", "-"), user=user, password=PASSWORD, params=parameters, target=target)
            for name, (user, parameters) in params.items()
        ]
        return run_prometheus(binary, self.folder, JOBS + "".join(jobs))


@pytest.fixture
def setting(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> TenantSetup:
    """Return an exporter that has counted the logs of two brands."""
    late.world.publish(40, over=600)
    setting = TenantSetup(tmp_path, late)
    exit_stack.enter_context(setting.program)
    wait_equal((200, "late-exporter is ready\n"), lambda: setting.get("/-/ready", "ops"))
    return setting


def test_prometheus_of_a_customer(setting: TenantSetup, require_tool: Callable[[str], str]) -> None:
    """A customer's Prometheus has the exact totals of its brand and nothing else, with the increase of new series."""
    jobs = {
        "ops": ("ops", ""),
        "customer": ("customer-a", ""),
        "ops_b": ("ops", "workspace: [brand-b]"),
        "stranger": ("customer-a", "workspace: [brand-b]"),
    }

    def workspaces(job: str) -> set[str]:
        rows = database.query(f'group by (workspace) ({{job="{job}",workspace!=""}})')
        return {row["metric"]["workspace"] for row in rows}

    with setting.prometheus(require_tool("prometheus"), **jobs) as database:
        wait_equal(40.0, lambda: database.value(f'sum({LOGS}{{job="customer"}})'))
        wait_equal(80.0, lambda: database.value(f'sum({LOGS}{{job="ops"}})'))
        wait_equal(40.0, lambda: database.value(f'sum({LOGS}{{job="ops-b"}})'))
        wait_equal(0.0, lambda: database.value('up{job="stranger"}'))
        setting.late.world.publish(2, platform="mastodon", status="failed", statusCode=503)
        for job in ("ops", "customer"):
            series = f'late_publishing_failures_total{{platform="mastodon",job="{job}",workspace="brand-a"}}'
            expression = f"increase({series}[1m])"
            wait_until(lambda: (database.value(expression) or 0) > 0.5, describe=lambda: expression)  # noqa: B023 - at once
        assert [{"brand-a"}, {"brand-b"}, {"brand-a", "brand-b"}, set()] == list(
            map(workspaces, ("customer", "ops-b", "ops", "stranger"))
        )
        assert [] == database.query('process_cpu_seconds_total{job="customer"}')
        assert {"0.5", "2.0", "20.0", "+Inf"} == {
            row["metric"]["le"]
            for row in database.query('group by (le) (late_publishing_duration_seconds_bucket{job="customer"})')
        }
        assert "tier" not in database.query('late_workspace_info{job="customer"}')[0]["metric"]
    assert 0 == setting.program.stop()
    assert "Traceback" not in setting.program.stderr
