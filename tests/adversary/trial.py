"""Run a program against the real pipeline, and compare everything after each step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from late_exporter.ingest.pending import MAX_DELAY
from late_exporter.simulator.log_list import post_id
from tests.adversary.api import FAULTS, MISLEADING
from tests.adversary.events import Action, act
from tests.adversary.late_rows import LateRows
from tests.adversary.observer import Observer
from tests.adversary.program import (
    Break,
    Events,
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
from tests.adversary.scene import FEEDS, LogStatuses, Scene, Totals
from tests.support.clock import MINUTE
from tests.support.exporter import Poll as PollResult
from tests.support.late_api import VANISHED

LATE_LISTS = ("/v1/posts/logs", "/v1/connections/logs")
MEMORY = Path("/dev/shm")  # noqa: S108 - for files of a test, where there is such a place

PROMPT_AGE = 15 * MINUTE
"""Age up to which a log that arrives late is found by polls alone."""

MAX_SCAN_POLLS = 80
"""Polls within which a scan of the lists of a program is complete, unless many logs are pending."""

LOOK_UP_POLLS = 2 * MAX_DELAY
"""Polls within which a log that was looked up in vain is looked up twice again."""

SWITCH_POLLS = 3
"""Polls for which the lists of generation late are gone, and within which the other ones are read after a restart."""


def run_program(program: Program, totals: Totals, url: str | None = None) -> None:
    """Run a program with an empty state, by default in a file of its own; raise Wrong if something does not hold."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        scene = Scene(program.setup, url or Path(folder, "state.db"), totals)
        try:
            Trial(scene).run(program)
        finally:
            scene.close()


class Trial:
    """One run of a program.

    Raises Wrong at the first check that does not hold.
    """

    def __init__(self, scene: Scene) -> None:
        history = scene.lasting
        self._scene = scene
        self._world, self._api, self._exporter = scene.world, scene.api, scene.exporter
        self._observer = Observer(scene, history=lambda: self._readable(history & scene.lasting))
        self._late_rows = LateRows(scene, self._observer)
        self._doubtful_ids: set[str] = set()
        self._unreadable_ids: set[str] = set()
        self._is_steady = True

    def run(self, program: Program) -> None:
        """Take all steps, and rest."""
        takers: dict[type, Callable[[Any], None]] = {
            Poll: self._poll,
            Polls: self._poll_often,
            Restart: lambda step: self._exporter.restart(step.downtime),
            ShortLives: self._live_shortly,
            MoveClock: self._move_clock,
            Break: self._break,
            Switch: self._switch,
            Rest: self._rest,
        }
        steps: tuple[Step, ...] = (*program.steps, Rest())
        for step in steps:
            takers[type(step)](step)
            self._observer.compare()

    def _poll(self, step: Poll) -> None:
        self._foresee(step.events)
        if step.fault is not None:
            number, name = step.fault
            self._api.fail_request(number, FAULTS[name])
        if step.store_failure is not None:
            number, moment = step.store_failure
            self._exporter.fail_commit(number, moment)
        is_misled = step.fault is not None and step.fault[1] in MISLEADING
        self._observer.is_misled |= is_misled
        if step.kill is not None:
            self._kill(step.kill, step.downtime)
        else:
            has_trouble = step.fault is not None or step.store_failure is not None
            self._poll_once(is_misled=is_misled, has_trouble=has_trouble, seconds=step.events.seconds)
        self._api.clear_events()
        self._exporter.free_disk()
        if is_misled:
            self._doubtful_ids |= self._observer.uncounted_ids(self._scene.rows)
        if step.store_failure is not None and step.store_failure[1] == "after":
            self._exporter.restart(0.0)
        self._observer.compare()

    def _poll_often(self, step: Polls) -> None:
        for _ in range(step.count):
            self._poll(Poll(events=step.events))

    def _kill(self, steps: int, downtime: float) -> None:
        self._late_rows.reset()
        if self._scene.kill(steps, downtime):
            self._is_steady = False

    def _poll_once(self, *, is_misled: bool, has_trouble: bool, seconds: float) -> None:
        """Poll all feeds; check that what they have read is counted."""
        before = self._scene.rows
        fresh = self._observer.uncounted_ids(before) - self._doubtful_ids
        fresh &= self._world.appended_ids | self._world.connection_history.keys()
        may_fail = has_trouble or not self._scene.can_read_new_logs(len(fresh))
        may_fail |= "large pages" in self._api.failures  # if the list moves while a page is read in parts
        # A list that is empty, although it should have logs, is not switched to.
        unswitched_feeds = {feed for feed in FEEDS if not self._scene.reads_new_logs(feed)}
        emptied_feeds = {feed for feed in FEEDS if not self._scene.has_rows(feed)}  # Logs may arrive after its request.
        inserted_count = len(self._world.insertion_order)
        results = self._scene.poll()
        # If the list has moved by more than a page, the search for its place reads pages far below, maybe with the row.
        has_moved = len(self._world.insertion_order) - inserted_count > self._scene.setup.page_size // 2
        may_fail |= has_moved and "deep row" in self._api.failures
        # A time that has logs on several pages is a part of the gap that they are in.
        may_fail |= not {"window", "deep row"}.isdisjoint(self._api.failures) and self._scene.has_dense_time
        steady = before.items() & self._scene.rows.items()
        # Alike logs of a time that needs a request of its own are left to the scan if that fails.
        may_miss = is_misled or (self._observer.has_alike_logs and (has_trouble or bool(self._api.failures)))
        for feed, result in results.items():
            if result.error is not None:
                check = "one request" if self._api.failures else "outcome"
                is_expected = may_fail or feed in unswitched_feeds or feed in emptied_feeds
                is_expected |= not self._scene.has_rows(feed)
                self._observer.expect(is_expected, check, f"{feed}: {result.error}")
                continue
            if not result.is_partial and not may_miss and self._scene.reads_new_logs(feed):
                due = {(feed, log_id, status) for log_id, (name, status) in steady if name == feed and log_id in fresh}
                self._observer.require(self._readable(due & self._scene.lasting), "missed by poll")
        is_regular = not has_trouble and not self._api.failures
        self._late_rows.check(results["publishing"], before, seconds=seconds, is_regular=is_regular)

    def _readable(self, logs: LogStatuses) -> LogStatuses:
        """Return logs without those that the API could not deliver when it was read, of which nothing can be known."""
        return {log for log in logs if log[1] not in self._unreadable_ids}

    def _live_shortly(self, step: ShortLives) -> None:
        """Let processes catch up and end; what was there at first must be counted if that took long enough."""
        due = self._scene.lasting
        for _ in range(step.count):
            self._exporter.restart(step.seconds)
            self._scene.catch_up()
            self._observer.compare()
        is_long = (step.count - 2) * step.seconds >= 2 * self._scene.scan_interval
        if is_long and not self._api.failures:
            self._observer.require(due & self._scene.lasting, "short lives")

    def _move_clock(self, step: MoveClock) -> None:
        """Move the clock of the exporter, if it can be set right by the dates of the API."""
        if self._scene.setup.has_dates:
            self._exporter.skew += step.seconds

    def _break(self, step: Break) -> None:
        rows = self._world.rows
        self._is_steady = False
        if step.failure == "deep row":
            depth = 3 * self._scene.setup.page_size + step.number
            if depth < len(rows) and rows[depth]["createdAt"] is not None:
                self._api.broken_row = rows[depth]
                self._unreadable_ids.add(rows[depth]["_id"])
        posts = [post_id(row) for row in rows if row["status"] == "pending"]
        self._api.broken_post = (posts[step.number % len(posts)] or "") if posts else ""
        self._api.failures.add(step.failure)

    def _switch(self, step: Switch) -> None:
        """Take the lists of generation late away, and restart with the other generation."""
        known_feeds = {feed for feed, _, _ in self._scene.lasting}
        self._foresee(step.events)
        self._api.heal()
        self._is_steady = False
        self._late_rows.forget()
        self._api.generation = "both"
        self._api.vanished = dict.fromkeys(LATE_LISTS, VANISHED[step.shape])
        self._observer.note_switch()
        for _ in range(SWITCH_POLLS):
            self._poll_quietly()
        self._exporter.generation = "zernio"
        self._exporter.restart()
        for _ in range(SWITCH_POLLS):
            self._poll_quietly()
        for feed in FEEDS:
            is_empty = feed not in known_feeds or all(name != feed for name, _, _ in self._scene.lasting)
            if is_empty or self._scene.reads_new_logs(feed):
                continue
            self._observer.report("switch", f"{feed} is not switched")

    def _poll_quietly(self) -> Mapping[str, PollResult]:
        self._world.clock.advance(30)
        results = self._scene.poll()
        self._observer.compare()
        return results

    def _rest(self, _step: Rest) -> None:
        """Let two scans of the whole list complete; everything must be counted then."""
        self._api.heal()
        self._late_rows.forget()
        due = self._scene.lasting
        for _ in range(2):
            self._world.clock.advance(self._scene.scan_interval + 1)
            self._scan()
        for _ in range(LOOK_UP_POLLS):
            if self._observer.has_exact_pending():
                break
            self._poll_quietly()
        self._doubtful_ids.clear()
        self._observer.require(due & self._scene.lasting, "missed")
        self._observer.compare()
        latency, self._api.latency = self._api.latency, 0.0
        if latency:
            # While an API is slow, the next scan may be due before the pending logs are looked up.
            self._world.clock.advance(self._scene.scan_interval + 1)
            self._scan()
            self._observer.compare()
        self._observer.check_rest(is_steady=self._is_steady)
        self._api.latency = latency

    def _scan(self) -> None:
        """Poll until both lists are scanned, and all pending logs are looked up."""
        scanned_at = self._observer.scan_times()
        is_partial, unscanned = False, set(FEEDS)
        pending_polls = self._scene.pending_polls
        for count in range(max(MAX_SCAN_POLLS, pending_polls + 1)):
            self._world.clock.advance(1)
            results = self._scene.poll()
            for feed, result in results.items():
                is_expected = result.error is None or not self._scene.reads_new_logs(feed)
                is_expected |= not self._scene.has_rows(feed)
                self._observer.expect(is_expected, "outcome", f"{feed}: {result.error}")
            is_partial = any(result.is_partial for result in results.values())
            now = self._observer.scan_times()
            unscanned -= {feed for feed in FEEDS if now.get(feed) != scanned_at.get(feed)}
            unscanned -= {feed for feed in FEEDS if not self._scene.has_rows(feed)}
            if not unscanned and count >= pending_polls:
                break
        self._observer.expect(not unscanned, "catch-up" if is_partial else "scan", str(unscanned))

    def _foresee(self, events: Events) -> None:
        self._world.clock.advance(events.seconds)
        for action in events.actions:
            self._act(action)
        for number, action in events.between:
            self._api.before_request(number, partial(self._act, action))

    def _act(self, action: Action) -> None:
        name, minutes, _ = action
        act(self._world, action)
        is_prompt = name != "late" or minutes * MINUTE <= PROMPT_AGE
        if name == "late" and is_prompt:
            self._late_rows.add(next(reversed(self._world.insertion_order)))
        self._is_steady &= name != "delete" and is_prompt
        setup = self._scene.setup
        self._observer.has_alike_logs |= name == "alike" and setup.can_lack_ids and not setup.distinct_times
