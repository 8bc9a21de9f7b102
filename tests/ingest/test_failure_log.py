"""Failed logs have lines in the log: once, and not too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from late_exporter.ingest.failure_log import MAX_LINES
from tests.ingest.conftest import OpenExporter
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

FAILED_LOG: dict[str, Any] = {"status": "failed", "response": {"errorCode": "MEDIA", "errorMessage": "too large"}}


def failures(exporter: ExporterHarness, message: str = "publishing failed") -> list[Mapping[str, Any]]:
    """Return the fields of the lines about failed logs."""
    return [fields for level, event, fields in exporter.log.records if (level, event) == ("info", message)]


def test_history_has_no_lines(world: World, open_exporter: OpenExporter) -> None:
    """What the first sync reads has none; what fails afterwards, or once it is final, has one with its message."""
    world.publish(250, over=3600, **FAILED_LOG)
    exporter = open_exporter(FakeLateApi(world), log_failures=True)
    exporter.poll()
    assert failures(exporter) == []
    world.publish(over=5, **FAILED_LOG)
    (pending,) = world.publish(over=5, status="pending")
    exporter.poll_repeatedly(3)
    assert [(each["error"], each["error_code"]) for each in failures(exporter)] == [("too large", "MEDIA")]
    world.change(pending, "failed")
    exporter.poll_repeatedly(3)
    assert len(failures(exporter)) == 2


def test_many_failures_have_few_lines(world: World, open_exporter: OpenExporter) -> None:
    """One more line says how many have none; the next poll has lines again."""
    exporter = open_exporter(FakeLateApi(world), log_failures=True)
    exporter.poll()
    world.publish(MAX_LINES + 7, over=20, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    assert len(failures(exporter)) == MAX_LINES
    assert failures(exporter, "further failed logs are not listed") == [{"logs": 7}]
    world.publish(over=5, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    assert len(failures(exporter)) == MAX_LINES + 1


def test_no_lines_unless_wanted(world: World, open_exporter: OpenExporter) -> None:
    """A feed that is not named by the option has none."""
    exporter = open_exporter(FakeLateApi(world))
    exporter.poll()
    world.publish(over=5, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    assert failures(exporter) == []
