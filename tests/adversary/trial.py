"""Run a program against the real pipeline, and compare everything after each step."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

from late_exporter.ingest import sync
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.schedule import PollConfig, PollResult
from late_exporter.model import Scope
from late_exporter.simulator.log_list import LogRow, post_id
from tests.adversary.api import DIFFERENCES, FAULTS, LIES, MISLEADING, SHORT_LIES, HostileApi
from tests.adversary.events import CONNECTIONS, KINDS, Action, act
from tests.adversary.observer import Observer
from tests.adversary.program import (
    Break,
    Events,
    Lie,
    MoveClock,
    Poll,
    Polls,
    Program,
    Rest,
    Restart,
    ShortLives,
    Step,
    Switch,
)
from tests.support.clock import DAY, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import VANISHED, Document, ListQuirks, zernio_row
from tests.support.oracle import created_at
from tests.support.steps import Killed, drive, drive_together
from tests.support.world import RETENTION, World

FEEDS = ("publishing", "connections")
LATE_LISTS = ("/v1/posts/logs", "/v1/connections/logs")
MEMORY = Path("/dev/shm")  # noqa: S108 - for files of a test, where there is such a place

LATE_LIMIT = 15 * MINUTE
"""Age up to which a log that arrives late counts within a few polls."""

POLL_LIMIT = 3
"""Number of those polls."""

CLOSE_POLLS = 2 * MINUTE
"""Seconds between two polls up to which they are regular."""

MAX_SCAN_POLLS = 80
"""Polls within which two scans of the lists of a program are complete."""

Rows: TypeAlias = dict[str, tuple[str, str]]
"""Feed and status of the rows of both lists, by id."""


@dataclasses.dataclass
class Totals:
    """Numbers of what was tried."""

    programs: int = 0
    polls: int = 0
    kills: int = 0
    restarts: int = 0
    switches: int = 0
    requests: int = 0
    logs: int = 0
    observations: int = 0
    not_yet: Counter[str] = dataclasses.field(default_factory=Counter)


class Trial:
    """One run of a program.

    Raises Wrong at the first check that does not hold, except those that are not expected to hold yet.
    """

    def __init__(self, program: Program, path: Path, totals: Totals) -> None:
        setup = program.setup
        self._program = program
        self._totals = totals
        self.world = World(VirtualClock(), distinct_times=setup.distinct_times)
        self.api = HostileApi(
            self.world,
            latency=setup.latency,
            sends_date=setup.has_dates,
            quirks=ListQuirks(max_page_size=setup.page_size, time_filter=setup.time_filter),
            generation=setup.generation,
        )
        self._insert_history()
        self.exporter = ExporterHarness(
            self.api,
            path,
            feeds=FEEDS,
            config=PollConfig(
                reconcile_interval=setup.reconcile_interval,
                audit_interval=setup.audit_interval,
                max_skip=setup.max_skip,
            ),
            generation="auto",
        )
        history = self._lasting()
        self._observer = Observer(self.exporter, self.world, totals.not_yet, history=lambda: history & self._lasting())
        self._doubtful_ids: set[str] = set()
        self._late_rows: dict[str, int] = {}
        self._is_steady = True

    def run(self) -> None:
        """Take all steps, and rest."""
        with patch.object(sync, "COMMIT_SIZE", self._program.setup.commit_size):
            for step in (*self._program.steps, Rest()):
                self._take(step)
            self._observer.check_audits()

    def close(self) -> None:
        totals = self._totals
        totals.programs += 1
        totals.requests += len(self.api.requests)
        totals.logs += len(self.world.insertion_order) + len(self.world.connection_history)
        totals.observations += len(self.exporter.commit_log)
        self.exporter.close()

    def _insert_history(self) -> None:
        setup = self._program.setup
        self.world.publish(setup.history, over=5 * DAY, kinds=KINDS)
        for number in range(setup.connections):
            event, fields = CONNECTIONS[number % len(CONNECTIONS)]
            self.world.add_connection(event, age=MINUTE * (setup.connections - number), **fields)

    def _take(self, step: Step) -> None:
        match step:
            case Poll():
                self._poll(step)
            case Polls(count=count, events=events):
                for _ in range(count):
                    self._poll(Poll(events=events))
            case Restart(downtime=downtime):
                self._restart(downtime)
            case ShortLives():
                self._live_shortly(step)
            case MoveClock(seconds=seconds):
                if self._program.setup.has_dates:
                    self.exporter.skew += seconds
            case Break():
                self._break(step)
            case Lie(lie=lie):
                if lie not in SHORT_LIES or self._program.setup.page_size == 100:
                    self.api.quirks = dataclasses.replace(self.api.quirks, transform=partial(_paginate, LIES[lie]))
            case Switch():
                self._switch(step)
            case Rest():
                self._rest()
        self._observer.compare()

    def _poll(self, step: Poll) -> None:
        self._foresee(step.events)
        if step.fault is not None:
            number, name = step.fault
            self.api.fail_request(number, FAULTS[name])
        if step.store_failure is not None:
            number, moment = step.store_failure
            self.exporter.store.failures[number] = moment
        is_misled = self.api.quirks.transform is not None or (step.fault is not None and step.fault[1] in MISLEADING)
        self._observer.is_misled |= is_misled
        has_trouble = is_misled or step.fault is not None or step.store_failure is not None
        if step.kill is not None:
            self._kill(step.kill, step.downtime)
        else:
            self._poll_once(is_misled=is_misled, has_trouble=has_trouble, seconds=step.events.seconds)
        self.api.clear_events()
        self.exporter.store.failures.clear()
        if is_misled:
            self._doubtful_ids |= self._uncounted_ids()
        if step.store_failure is not None:
            if step.store_failure[1] == "after":
                self._restart(0.0)
            self._observer.forget_unsaved_polls()
        self._observer.compare()

    def _kill(self, steps: int, downtime: float) -> None:
        self._late_rows = dict.fromkeys(self._late_rows, 0)
        try:
            drive_together([_poll_feed(poller) for poller in self.exporter.pollers.values()], steps)
        except Killed:
            self._is_steady = False
            self._totals.kills += 1
            self._restart(downtime)

    def _poll_once(self, *, is_misled: bool, has_trouble: bool, seconds: float) -> None:
        """Poll all feeds; assert that what they have read is counted."""
        before, fresh = self._rows(), self._uncounted_ids() - self._doubtful_ids
        fresh &= self.world.appended_ids | self.world.connection_history.keys()
        may_fail = has_trouble or self._breaks_gap(len(fresh))
        results = self._poll_all()
        steady = before.items() & self._rows().items()
        lasting = self._lasting()
        for feed, result in results.items():
            if result.error is not None and not may_fail:
                check = "one request" if self.api.failures else "outcome"
                self._observer.report(check, f"{feed}: {result.error}")
            if result.error is None and not has_trouble:
                self._observer.check_own_time(feed)
            if result.error is None and not result.is_partial and not is_misled:
                due = {(feed, log_id, status) for log_id, (name, status) in steady if name == feed and log_id in fresh}
                self._observer.require(due & lasting, "missed by poll")
        is_regular = not has_trouble and not self.api.failures and seconds <= CLOSE_POLLS
        self._check_late_rows(results["publishing"], before, is_regular=is_regular)

    def _check_late_rows(self, result: PollResult, before: Rows, *, is_regular: bool) -> None:
        """Assert that logs that arrived late are counted after a few regular polls."""
        uncounted_ids = self._uncounted_ids()
        rows = {row["_id"]: row for row in self.world.rows}
        oldest = self.world.clock.now - LATE_LIMIT - POLL_LIMIT * CLOSE_POLLS
        remaining: dict[str, int] = {}
        for log_id, count in self._late_rows.items():
            if log_id not in uncounted_ids or log_id not in rows or created_at(rows[log_id]) < oldest:
                continue
            is_complete = is_regular and result.error is None and not result.is_partial
            remaining[log_id] = count + (log_id in before) if is_complete else 0
            if remaining[log_id] >= POLL_LIMIT:
                self._observer.report("late row", f"{rows[log_id]['createdAt']} at {self.world.clock.now}")
                del remaining[log_id]
        self._late_rows = remaining

    def _poll_all(self) -> dict[str, PollResult]:
        pollers = {scope.feed: poller for scope, poller in self.exporter.pollers.items()}
        self._totals.polls += len(pollers)
        results = drive_together([_poll_feed(poller) for poller in pollers.values()])
        return dict(zip(pollers, results, strict=True))

    def _restart(self, downtime: float) -> None:
        self._totals.restarts += 1
        self.exporter.restart(downtime)
        self._observer.note_end()

    def _live_shortly(self, step: ShortLives) -> None:
        """Let processes catch up and end; what was there at first must be counted if that took long enough."""
        due = self._lasting()
        for _ in range(step.count):
            self._restart(step.seconds)
            for poller in self.exporter.pollers.values():
                self._totals.polls += 1
                drive(poller.catch_up())
                drive(poller.save_requests())
            self._observer.compare()
        is_long = step.count * step.seconds >= 2 * self._program.setup.reconcile_interval + 2 * step.seconds
        if is_long and not self.api.failures and self.api.quirks.transform is None:
            self._observer.require(due & self._lasting(), "short lives")

    def _break(self, step: Break) -> None:
        rows = self.world.rows
        if step.failure.startswith("post"):
            posts = [post_id(row) for row in rows if row["status"] == "pending"]
            self.api.broken_post = (posts[step.number % len(posts)] or "") if posts else ""
        if step.failure == "deep row":
            depth = 3 * self._program.setup.page_size + step.number
            if depth >= len(rows) or rows[depth]["createdAt"] is None:
                return
            self.api.broken_row = rows[depth]
        self.api.failures.add(step.failure)
        self._is_steady = False

    def _breaks_gap(self, new_count: int) -> bool:
        """Return whether the broken row may be on a page that a poll has to read to find what is new."""
        row, page_size = self.api.broken_row, self._program.setup.page_size
        if row is None:
            return False
        coverage = self.exporter.recorders[Scope("default", "publishing")].coverage
        ids = self.world.ids
        depth = ids.index(row["_id"]) if row["_id"] in ids else len(ids)
        return coverage is None or bool(coverage.gaps) or not coverage.is_synced or depth < new_count + 2 * page_size

    def _switch(self, step: Switch) -> None:
        """Take the lists of generation late away, and let the exporter follow."""
        self._foresee(step.events)
        self.api.heal()
        self._totals.switches += 1
        self._is_steady = False
        self._late_rows.clear()
        self.api.generation = "both"
        self.api.vanished = dict.fromkeys(LATE_LISTS, VANISHED[step.shape])
        if step.difference and self._is_recognisable(step.difference):
            counted = len(self.exporter.commit_log)
            self.api.difference = DIFFERENCES[step.difference]
            for result in [self._poll_quietly() for _ in range(5)][-1].values():
                self._observer.expect("generation_mismatch" == result.outcome, "switch", step.difference)
            self._observer.expect(counted == len(self.exporter.commit_log), "switch", step.difference)
            self.api.difference = None
        for _ in range(5):
            self._poll_quietly()
        generations = {poller.generation for poller in self.exporter.pollers.values()}
        self._observer.expect({"zernio"} == generations, "switch", str(generations))

    def _poll_quietly(self) -> Mapping[str, PollResult]:
        self.world.clock.advance(30)
        results = self._poll_all()
        self._observer.compare()
        return results

    def _is_recognisable(self, difference: str) -> bool:
        """Return whether enough logs are counted, and enough of them differ, that the difference must be noticed."""
        uncounted_ids = self._uncounted_ids()
        for archive in (self.world.archives.publishing, self.world.archives.connections):
            rows = [row for row in archive.rows if row["_id"] not in uncounted_ids and row["createdAt"]][:500]
            changed = [row for row in rows if _differs(difference, row)]
            if len(rows) < 20 or len(changed) < len(rows) / 2:
                return False
        return True

    def _rest(self) -> None:
        """Let two reconciliation scans complete; everything must be counted then."""
        self.api.heal()
        self._late_rows.clear()
        due = self._lasting()
        for _ in range(2):
            self.world.clock.advance(self._program.setup.reconcile_interval + 1)
            waiting = set(FEEDS)
            first_batch = len(self.exporter.store.batches)
            for number in range(MAX_SCAN_POLLS):
                self.world.clock.advance(1)
                for feed, result in self._poll_all().items():
                    self._observer.expect(result.error is None, "outcome", f"{feed}: {result.error}")
                waiting -= self._observer.scanned_feeds(first_batch)
                if not waiting and number >= self._pending_polls:
                    break
            self._observer.expect(not waiting, "scan", str(waiting))
        self._doubtful_ids.clear()
        self._observer.require(due & self._lasting(), "missed")
        self._observer.compare()
        self._observer.check_rest(is_steady=self._is_steady)

    @property
    def _pending_polls(self) -> int:
        """Polls that read the list of pending logs twice, one page each."""
        pending_count = sum(row["status"] == "pending" for row in self.world.rows)
        return 4 + 2 * pending_count // (self._program.setup.page_size - 2)

    def _foresee(self, events: Events) -> None:
        self.world.clock.advance(events.seconds)
        for action in events.actions:
            self._act(action)
        for number, action in events.between:
            self.api.before_request(number, partial(self._act, action))

    def _act(self, action: Action) -> None:
        name, minutes, _ = action
        act(self.world, action)
        if name == "late" and minutes * MINUTE <= LATE_LIMIT:
            if self.exporter.recorders[Scope("default", "publishing")].is_synced:
                self._late_rows[next(reversed(self.world.insertion_order))] = 0
        self._is_steady &= name != "delete" and (name != "late" or minutes * MINUTE <= LATE_LIMIT)
        self._observer.has_alike_logs |= name == "alike" and self._program.setup.generation != "late"

    def _rows(self) -> Rows:
        archives = self.world.archives
        return {
            **{row["_id"]: ("publishing", row["status"]) for row in archives.publishing.rows},
            **{row["_id"]: ("connections", row["eventType"]) for row in archives.connections.rows},
        }

    def _lasting(self) -> set[tuple[str, str, str]]:
        """Return feed, id and status of the logs that the API shows now and for a while."""
        since = self.world.clock.now - RETENTION + 5 * MINUTE
        archives = self.world.archives
        return {
            (*self._rows()[row["_id"]][:1], row["_id"], row.get("status") or row["eventType"])
            for row in (*archives.publishing.rows, *archives.connections.rows)
            if row["createdAt"] is None or created_at(row) >= since
        }

    def _uncounted_ids(self) -> set[str]:
        return self._observer.uncounted_ids(self._rows())


async def _poll_feed(poller: Poller) -> PollResult:
    """Do what the poller's loop does once."""
    result = await poller.poll()
    await poller.audit(result)
    await poller.examine_generation(result)
    return result


def _paginate(changes: Mapping[str, Any], document: Document) -> Document:
    return {**document, "pagination": {**document["pagination"], **changes}}


def _differs(difference: str, row: LogRow) -> bool:
    original = zernio_row(row)
    return {**original, **DIFFERENCES[difference](original)} != original


def run_program(program: Program, totals: Totals) -> None:
    """Run a program with a state of its own; raise Wrong if something does not hold."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        trial = Trial(program, Path(folder, "state.db"), totals)
        try:
            trial.run()
        finally:
            trial.close()
