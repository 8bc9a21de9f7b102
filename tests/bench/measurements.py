"""Costs that hold on a busy machine as well, because both sides are measured in turns or at the same time.

They are of CPU time, requests and memory, never of time by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import Cost

MIN_POLL_SECONDS = 6.0
COMMAND_RUNS = 3
# As the console script of an installation does.
PROGRAM = ("-c", "import re, sys; from late_exporter.cli import main; sys.exit(main())")


def measure_costs(launcher: ProcessLauncher, *, size: int, turns: int) -> Iterator[Cost]:
    """Measure the exporter beside the script, with a list of a size.

    Args:
        launcher: Launcher of the measured processes.
        size: Number of logs.
        turns: Pairs of first syncs, of which the one with the best ratio counts: what disturbs one makes it no better.
    """
    with launcher.api(size) as api:
        yield from _measure_first_syncs(launcher, api, size, turns)
        yield from _measure_polls(launcher, api, size, script_polls=turns)


def measure_commands(launcher: ProcessLauncher) -> Iterator[Cost]:
    """Measure commands that a user or a container engine waits for, beside an interpreter that does nothing."""
    with launcher.api(100) as api, launcher.exporter(api, launcher.folder / "commands.db") as exporter:
        commands = {
            "nothing": ("-c", "pass"),
            "`healthcheck`": (*PROGRAM, "healthcheck", f"--web.listen-address={urlsplit(exporter.url).netloc}"),
            "`--version`": (*PROGRAM, "--version"),
            "`--help`": (*PROGRAM, "--help"),
        }
        # The first run, which compiles modules, does not count.
        runs = [
            {name: launcher.cpu_seconds_of(arguments) for name, arguments in commands.items()}
            for _ in range(1 + COMMAND_RUNS)
        ]
    medians = {name: median(run[name] for run in runs[1:]) * 1e3 for name in commands}
    floor = medians.pop("nothing")
    for name, milliseconds in medians.items():
        yield Cost(f"CPU of {name}, beside an interpreter", milliseconds, floor, "ms")


def _measure_first_syncs(launcher: ProcessLauncher, api: ApiProcess, size: int, turns: int) -> Iterator[Cost]:
    memory: tuple[float, float] = (0.0, 0.0)
    for generation in ("late", "zernio"):
        pairs: list[tuple[_SyncCost, _SyncCost]] = []
        for turn in range(turns):
            state = launcher.folder / f"{generation}{size}-{turn}.db"
            with launcher.exporter(api, state, generation=generation) as exporter:
                exporter_cost = _measure_first_sync(api, exporter, "first sync complete")
                exporter.stop()
            with launcher.script(api) as script:
                pairs.append((exporter_cost, _measure_first_sync(api, script, "polled,")))
        best, baseline = min(pairs, key=lambda pair: pair[0].cpu_seconds / pair[1].cpu_seconds)
        memory = (best.memory_mb, baseline.memory_mb)
        microseconds = 1e6 / size
        yield Cost(
            f"CPU per log of a first sync of {size:,} logs, generation {generation}",
            best.cpu_seconds * microseconds,
            baseline.cpu_seconds * microseconds,
            "us",
        )
    yield Cost(f"memory after {size:,} logs", *memory, "MB")


class _SyncCost(NamedTuple):
    cpu_seconds: float
    memory_mb: float


def _measure_first_sync(api: ApiProcess, process: MeasuredProcess, message: str) -> _SyncCost:
    api.hold_requests()
    api.wait_for_request()
    before = process.cpu_seconds()
    api.release_requests()
    process.wait_for_output(message)
    return _SyncCost(process.cpu_seconds() - before, process.memory_mb())


def _measure_polls(launcher: ProcessLauncher, api: ApiProcess, size: int, *, script_polls: int) -> Iterator[Cost]:
    """Measure polls that find nothing new, beside polls of the script and requests of a bare client."""
    state: Path = launcher.folder / f"zernio{size}-0.db"
    with (
        launcher.exporter(api, state, generation="zernio", interval="100ms") as exporter,
        launcher.requester(api) as requester,
        launcher.script(api, interval=0.2) as script,
    ):
        requester.wait_for_output("requested")
        _wait_for_rest(exporter)
        done_polls = script.count_in_output("polled,") + 1
        script.wait_for_output("polled,", done_polls)

        # Nothing else is asked of the exporter while its CPU time is measured.
        polls, requests = exporter.poll_and_request_counts()
        bare_requests = requester.count_in_output("requested")
        cpu_seconds = [process.cpu_seconds() for process in (exporter, requester, script)]
        time.sleep(MIN_POLL_SECONDS)
        script.wait_for_output("polled,", done_polls + script_polls)
        exporter_seconds, bare_seconds, script_seconds = (
            process.cpu_seconds() - before
            for process, before in zip((exporter, requester, script), cpu_seconds, strict=True)
        )
        bare_requests = requester.count_in_output("requested") - bare_requests
        done_polls = script.count_in_output("polled,") - done_polls
        last_polls, last_requests = exporter.poll_and_request_counts()

    polls = last_polls - polls
    poll_ms = exporter_seconds / polls * 1e3
    yield Cost(f"requests of a poll at {size:,} logs", (last_requests - requests) / polls, size / 100, "")
    yield Cost(f"CPU of a poll at {size:,} logs", poll_ms, script_seconds / done_polls * 1e3, "ms")
    bare_ms = bare_seconds / bare_requests * 1e3
    yield Cost(f"the same, beside one request of a bare client, {size:,} logs", poll_ms, bare_ms, "ms")


def _wait_for_rest(exporter: MeasuredProcess) -> None:
    """Wait until polls are one request each, because a scan follows the start."""
    polls, requests = exporter.poll_and_request_counts()
    is_at_rest = False
    while not is_at_rest:
        time.sleep(0.5)
        last_polls, last_requests = exporter.poll_and_request_counts()
        is_at_rest = 0 < last_requests - requests <= last_polls - polls
        polls, requests = last_polls, last_requests
