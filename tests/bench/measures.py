"""What the bench measures, a function a section; both sides take turns, and medians are shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.processes import Process, Workshop
from tests.bench.report import Aim, Figure, Report
from tests.bench.scraping import LOGS, POLLS, REQUESTS, Latencies, Scraper, samples_of, total
from tests.bench.states import with_ids, with_series

__all__ = ["QUICK", "Bench", "Sizes"]

PAGE = 100
MS, US = 1e3, 1e6


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        small: Logs of the smaller list.
        large: Logs of the larger one.
        samples: Of the scrapes: few, many, and very many.
        ids: How many known ids are very many.
        repeats: How often a thing is measured.
        window: Seconds of steady polling that are looked at.
        scrapes: How many are measured of the exporter.
        settling: Seconds that a process gets to come to rest before it is measured.
    """

    small: int = 10_000
    large: int = 100_000
    samples: tuple[int, int, int] = (1_000, 50_000, 500_000)
    ids: int = 5_000_000
    repeats: int = 3
    window: float = 4.0
    scrapes: int = 500
    settling: float = 1.5


QUICK = Sizes(
    small=1_000,
    large=5_000,
    samples=(1_000, 5_000, 20_000),
    ids=100_000,
    repeats=1,
    window=1.0,
    scrapes=100,
    settling=0.5,
)


class Used(NamedTuple):
    """What something took, in seconds."""

    wall: float
    cpu: float


class Poll(NamedTuple):
    """What a steady poll takes."""

    cpu: float
    requests: float


class Bench:
    """One run of the bench.

    Args:
        workshop: Starts what is measured.
        sizes: How much of it.
        report: Takes the figures.
    """

    def __init__(self, workshop: Workshop, sizes: Sizes, report: Report) -> None:
        self._workshop = workshop
        self._sizes = sizes
        self._report = report
        self._api = workshop.api(0, sizes.small, sizes.large)

    def run(self) -> None:
        """Measure everything."""
        with self._api:
            _say(f"making up {self._sizes.large:,} logs")
            self._api.serving()
            self.catch_up()
            self.steady()
            self.scrapes()
            self.starts()

    def _state(self, name: str) -> Path:
        return self._workshop.folder / f"{name}.db"

    def catch_up(self) -> None:
        """Everything that the API has, read for the first time."""
        logs = self._sizes.large
        ours, theirs = [], []
        for turn in range(self._sizes.repeats):
            _say(f"catching up, {turn + 1} of {self._sizes.repeats}")
            ours.append(self._sync(logs, self._state(f"large{turn}")))
            with self._workshop.script(self._api, logs) as script:
                theirs.append(self._caught_up(script, "polled,"))
        rate, other = (logs / median(used.wall for used in side) for side in (ours, theirs))
        cpu, other_cpu = (median(used.cpu for used in side) / logs * US for side in (ours, theirs))
        self._report.add(
            f"(a) catch-up of {logs:,} logs",
            Figure("logs a second, durable here only", rate, "", other, Aim(">= 1x", rate >= other), rate=True),
            Figure("CPU a log", cpu, "us", other_cpu),
        )

    def _sync(self, logs: int, state: Path) -> Used:
        with self._workshop.exporter(self._api, logs, state) as exporter:
            used = self._caught_up(exporter, "first sync complete")
            exporter.stop()
        return used

    def _caught_up(self, process: Process, done: str) -> Used:
        """What a process uses from its first request to its saying that it is done."""
        self._api.shut()
        process.serving()
        self._api.awaited()
        started, before = time.perf_counter(), process.cpu()
        self._api.tell("open")
        process.until(done)
        return Used(time.perf_counter() - started, process.cpu() - before)

    def steady(self) -> None:
        """Polls that find nothing new, and polls that find something."""
        self._sync(self._sizes.small, self._state("small"))
        self._steady(self._sizes.small, self._state("small"), 200)
        self._steady(self._sizes.large, self._state("large0"), 2000)
        # Last, because the list has grown then.
        with self._workshop.exporter(self._api, self._sizes.large, self._state("large0"), interval="100ms") as exporter:
            self._api.tell("busy")
            busy = self._polls_of_exporter(exporter)
            self._api.tell("calm")
            exporter.stop()
        self._report.add(
            f"(b) steady poll at {self._sizes.large:,} logs",
            Figure("CPU where each poll finds a new log", busy.cpu * MS, "ms"),
        )

    def _steady(self, logs: int, state: Path, aim: int) -> None:
        _say(f"polling steadily at {logs:,} logs")
        with self._workshop.exporter(self._api, logs, state, interval="100ms") as exporter:
            ours = self._polls_of_exporter(exporter)
            exporter.stop()
        with self._workshop.script(self._api, logs, interval=0.2) as script:
            theirs = self._polls_of_script(script)
        less = theirs.cpu / ours.cpu
        self._report.add(
            f"(b) steady poll at {logs:,} logs",
            Figure("requests", ours.requests, "", theirs.requests, Aim("1", ours.requests <= 1.01)),
            Figure("CPU", ours.cpu * MS, "ms", theirs.cpu * MS, Aim("< 2 ms", ours.cpu < 0.002)),
            Figure("CPU, times less", less, "x", aim=Aim(f">= {aim:,}x", less >= aim)),
        )

    def _polls_of_exporter(self, exporter: Process) -> Poll:
        exporter.serving()
        time.sleep(self._sizes.settling)
        polls = []
        for _ in range(self._sizes.repeats):
            done, asked = _polled(exporter)
            before = exporter.cpu()
            time.sleep(self._sizes.window)
            cpu = exporter.cpu() - before
            turns, requests = (now - then for now, then in zip(_polled(exporter), (done, asked), strict=True))
            polls.append(Poll(cpu / turns, requests / turns))
        return Poll(median(poll.cpu for poll in polls), median(poll.requests for poll in polls))

    def _polls_of_script(self, script: Process) -> Poll:
        script.until("polled,")
        polls = []
        for turn in range(self._sizes.repeats):
            before, asked = script.cpu(), self._api.requests
            script.until("polled,", turn + 2)
            polls.append(Poll(script.cpu() - before, self._api.requests - asked))
        return Poll(median(poll.cpu for poll in polls), median(poll.requests for poll in polls))

    def scrapes(self) -> None:
        """Scrapes of few, many and very many samples, and what these take in memory."""
        few, many, most = self._sizes.samples
        for samples in self._sizes.samples:
            _say(f"scraping {samples:,} samples")
            state = self._state(f"samples{samples}")
            with_series(state, samples)
            section = self._idle(samples, state, {few: 60, most: 90}.get(samples), judged=samples == many)
            if samples == many:
                self._with_httptools(section, state)
            if samples != most:
                self._busy(section, samples, state, judged=samples == many)

    def _idle(self, samples: int, state: Path, memory: int | None, *, judged: bool) -> str:
        with self._workshop.exporter(self._api, 0, state) as exporter:
            ours, shown = _scraped(exporter, self._sizes.scrapes, self._sizes.settling)
            resting, peak = exporter.memory(), exporter.memory("VmHWM")
            exporter.stop()
        with self._workshop.script(self._api, 0, samples=samples) as script:
            theirs, others = _scraped(script, max(2, min(50, 500_000 // samples)), self._sizes.settling)
            script_memory, script_peak = script.memory(), script.memory("VmHWM")
        section = f"(c) scrape of {shown:,} samples, the script of {others:,}; {ours.size / 1000:,.0f} kB gzipped"
        self._report.add(
            section,
            Figure("p50 idle", ours.p50, "ms", theirs.p50),
            Figure("p99 idle", ours.p99, "ms", theirs.p99, Aim("<= 1 ms", ours.p99 <= 1) if judged else None),
        )
        if judged:
            less = theirs.p99 / ours.p99
            self._report.add(section, Figure("p99 idle, times less", less, "x", aim=Aim(">= 100x", less >= 100)))
            self._bare(section, ours.size)
        name, aim = f"RSS at {samples:,} samples", memory and Aim(f"<= {memory} MB", resting <= memory)
        self._report.add(
            "(e) memory",
            Figure(name, resting, "MB", script_memory, aim or None),
            Figure(f"{name}, peak", peak, "MB", script_peak),
        )
        return section

    def _bare(self, section: str, size: int) -> None:
        """What a scrape costs on this machine, now, where nothing else is done than to send as many bytes."""
        with self._workshop.bare(size) as bare:
            bare.serving()
            latencies = Scraper(bare.port).measure(self._sizes.scrapes, pause=0.005)
        self._report.add(
            section,
            Figure("p50 of a bare socket server, same bytes", latencies.p50, "ms"),
            Figure("p99 of a bare socket server, same bytes", latencies.p99, "ms"),
        )

    def _with_httptools(self, section: str, state: Path) -> None:
        if not find_spec("httptools"):
            return
        with self._workshop.exporter(self._api, 0, state, httptools=True) as exporter:
            latencies, _ = _scraped(exporter, self._sizes.scrapes, self._sizes.settling)
            self._report.add(
                section,
                Figure("p50 idle, with httptools", latencies.p50, "ms"),
                Figure("p99 idle, with httptools", latencies.p99, "ms"),
                Figure("RSS, with httptools", exporter.memory(), "MB"),
            )
            exporter.stop()

    def _busy(self, section: str, samples: int, state: Path, *, judged: bool) -> None:
        with self._workshop.exporter(self._api, self._sizes.large, state) as exporter:
            ours = self._scraped_busy(exporter)
        with self._workshop.script(self._api, self._sizes.large, samples=samples) as script:
            theirs = self._scraped_busy(script)
        self._report.add(
            section,
            Figure(f"p50 in a catch-up ({ours.scrapes} scrapes)", ours.p50, "ms", theirs.p50),
            Figure("p99 in a catch-up", ours.p99, "ms", theirs.p99, Aim("<= 5 ms", ours.p99 <= 5) if judged else None),
        )

    def _scraped_busy(self, process: Process) -> Latencies:
        """Scrapes while the process catches up; the API is asked now and then whether it still does."""
        self._api.shut()
        process.serving()
        self._api.awaited()
        scraper = Scraper(process.port)
        scraper.scrape()
        end = self._api.requests + self._sizes.large // PAGE * 9 // 10
        self._api.tell("open")
        going = _every(10, lambda: self._api.requests < end)
        latencies = scraper.measure(self._sizes.scrapes, pause=0.005, going=lambda: next(going))
        scraper.close()
        return latencies

    def starts(self) -> None:
        """From the start of the process to the first scrape that shows every log."""
        _say(f"making a state with {self._sizes.ids:,} ids")
        with_ids(self._state("small"), self._state("ids"), self._sizes.ids)
        states = {0: "none", self._sizes.small: "small", self._sizes.ids: "ids"}
        taken: dict[int, list[Used]] = {ids: [] for ids in states}
        theirs = []
        for turn in range(self._sizes.repeats * 2):
            _say(f"starting, {turn + 1} of {self._sizes.repeats * 2}")
            for ids, name in states.items():
                logs = self._sizes.small if ids else 0
                with self._workshop.exporter(self._api, logs, self._state(name)) as exporter:
                    taken[ids].append(_first_scrape(exporter, logs))
                    exporter.stop()
            with self._workshop.script(self._api, self._sizes.small) as script:
                theirs.append(_first_scrape(script, self._sizes.small).wall)
        section = "(d) from process start to the first correct /metrics"
        for ids, uses in taken.items():
            wall, other = median(used.wall for used in uses), median(theirs) if ids == self._sizes.small else None
            self._report.add(
                section,
                Figure(f"{ids:,} known ids", wall, "s", other, Aim("< 0.6 s", wall < 0.6)),
                Figure(f"{ids:,} known ids, CPU", median(used.cpu for used in uses), "s"),
            )
        many, none = (median(used.wall for used in taken[ids]) for ids in (self._sizes.ids, 0))
        aim = Aim("<= 1.2x", many / none <= 1.2)
        self._report.add(section, Figure(f"{self._sizes.ids:,} ids against none", many / none, "x", aim=aim))


def _polled(exporter: Process) -> tuple[int, int]:
    """How many polls and requests there were, as the exporter itself counts them."""
    scraper = Scraper(exporter.port)
    body = scraper.scrape()
    scraper.close()
    return total(body, POLLS), total(body, REQUESTS)


def _scraped(process: Process, scrapes: int, settling: float) -> tuple[Latencies, int]:
    """Scrapes of a process that rests, and how many samples they showed."""
    process.serving()
    scraper = Scraper(process.port)
    shown = samples_of(scraper.scrape())
    time.sleep(settling)
    latencies = scraper.measure(scrapes, pause=0.005)
    scraper.close()
    return latencies, shown


def _first_scrape(process: Process, logs: int) -> Used:
    """How long it took until a scrape showed so many logs."""
    scraper = Scraper(process.port)
    shown = -1
    while shown != logs:
        process.check()
        # Whoever answers is not asked all the time: that would slow it down.
        time.sleep(0.001 if shown < 0 else 0.05)
        with suppress(ConnectionRefusedError):
            shown = total(scraper.scrape(), LOGS)
    used = Used(time.perf_counter() - process.started, process.cpu())
    scraper.close()
    return used


def _every(times: int, probe: Callable[[], bool]) -> Iterator[bool]:
    """The probe's answer, asked for only every so many times."""
    while True:
        yield from repeat(probe(), times)


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
