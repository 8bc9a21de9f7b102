"""VictoriaMetrics scrapes the exporter, shows exact increases, and its vmalert takes the rules as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.late import LateServer
from tests.e2e.program import Run, run_command, run_server, wait_equal
from tests.e2e.prometheus import CONFIG, PrometheusApi

RULES = sorted((Path(__file__).parents[2] / "deploy" / "prometheus").glob("late-exporter.*.yml"))
LOGS = "late_publishing_logs_total"


def increases(database: PrometheusApi, function: str) -> Mapping[str, float]:
    """Return by how much the logs of each platform have increased, if at all."""
    rows = database.query(f"sum by (platform) ({function}({LOGS}[1h])) > 0")
    return {row["metric"]["platform"]: float(row["value"][1]) for row in rows}


def test_increases_are_exact(
    late: LateServer,
    start_exporter: Run,
    tmp_path: Path,
    require_tool: Callable[[str], str],
    exit_stack: ExitStack,
) -> None:
    """Three failures of a new kind are 3, not 4.3; only ``increase`` takes a small history for news."""
    late.world.publish(40, over=600)
    late.world.publish(4, over=600, platform="youtube")
    program = start_exporter("--metrics.zero-hold=5s").wait_ready()
    config = tmp_path / "scrape.yml"
    config.write_text(CONFIG % program.url.removeprefix("http://"))
    command = (
        require_tool("victoria-metrics"),
        f"-storageDataPath={tmp_path / 'data'}",
        "-httpListenAddr=127.0.0.1:0",
        f"-promscrape.config={config}",
        "-search.latencyOffset=0s",
    )
    listening = r"started server at (http://[\d.:]+)/"
    url = exit_stack.enter_context(run_server(command, tmp_path / "victoria-metrics.log", listening))
    database = PrometheusApi(f"{url}/prometheus")
    wait_equal(44.0, lambda: database.value(f"sum({LOGS})"))

    late.world.publish(3, platform="tiktok", status="failed")
    late.world.publish(2)
    news = {"tiktok": 3.0, "instagram": 2.0}
    wait_equal(news, lambda: increases(database, "increase_prometheus"))
    wait_equal({**news, "youtube": 4.0}, lambda: increases(database, "increase"))


def test_vmalert_accepts_the_rules(require_tool: Callable[[str], str]) -> None:
    """Rules and annotations are valid in vmalert."""
    run_command(require_tool("vmalert"), "-dryRun", *(f"-rule={file}" for file in RULES))
