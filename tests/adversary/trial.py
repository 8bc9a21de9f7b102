"""Run a program against the real pipeline, and compare everything after each step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.adversary.api import FAILURES, FAULTS, MISLEADING, nothing_fails
from tests.adversary.checks import Wrong
from tests.adversary.events import Action, act
from tests.adversary.observer import Observer
from tests.adversary.program import Break, Events, Poll, Polls, Program, Rest, Restart, Step, Switch
from tests.adversary.scene import FEEDS, LogStatuses, Scene, Totals
from tests.support.clock import MINUTE
from tests.support.late_api import VANISHED

LATE_LISTS = ("/v1/posts/logs", "/v1/connections/logs")
MEMORY = Path("/dev/shm")  # noqa: S108 - for files of a test, where there is such a place

PROMPT_MINUTES = 15
"""Age up to which a log that arrives late is found by polls alone."""

PROMPT_POLLS = 3
"""Regular polls within which it is found."""

MAX_INTERVAL = 2 * MINUTE
"""Seconds between two polls up to which they are regular."""

MAX_POLLS = 400
"""Polls within which a scan of the lists of a program is complete, and then all pending logs are looked up."""

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
        history = scene.logs
        self._scene = scene
        self._world = scene.world
        self._api = scene.api
        self._exporter = scene.exporter
        self._observer = Observer(scene, history=lambda: history & scene.logs)
        self._late_polls: dict[str, int] = {}
        self._is_broken = False

    def run(self, program: Program) -> None:
        """Take all steps, and rest."""
        for step in (*program.steps, Rest()):
            self._take(step)
            self._observer.compare()

    def _take(self, step: Step) -> None:
        match step:
            case Poll():
                self._poll(step)
            case Polls():
                for _ in range(step.count):
                    self._poll(Poll(events=step.events))
            case Restart():
                self._exporter.restart(step.downtime)
            case Break():
                self._api.refuse = FAILURES[step.failure]
                self._is_broken = True
            case Switch():
                self._switch(step)
            case Rest():
                self._rest()

    def _poll(self, step: Poll) -> None:
        self._prepare(step.events)
        if step.fault is not None:
            number, name = step.fault
            self._api.fail_request(number, FAULTS[name])
            self._observer.is_misled |= name in MISLEADING
        if step.store_failure is not None:
            number, moment = step.store_failure
            self._exporter.fail_commit(number, moment)
        if step.kill is not None:
            self._exporter.kill(step.kill, step.downtime)
            self._late_polls.clear()
        else:
            has_trouble = step.fault is not None or step.store_failure is not None
            self._poll_once(has_trouble=has_trouble, is_regular=step.events.seconds <= MAX_INTERVAL)
        self._api.clear_events()
        self._exporter.free_disk()
        if step.store_failure is not None and step.store_failure[1] == "after":
            self._exporter.restart()
        self._observer.compare()

    def _poll_once(self, *, has_trouble: bool, is_regular: bool) -> None:
        """Poll all feeds; check that what they have read is counted."""
        before = self._scene.logs
        appended_ids = self._world.appended_ids | self._world.connection_history.keys()
        fresh_ids = self._observer.uncounted_ids({log_id for _, log_id, _ in before} & appended_ids)
        results = self._scene.poll()

        # Logs without ids of a time that needs a request of its own are left to the scan if that fails.
        may_miss = self._api.generation != "late" and (has_trouble or self._is_broken)
        for feed, result in results.items():
            if result.error is not None:
                check = "one request" if self._is_broken else "outcome"
                self._observer.expect(has_trouble, check, f"{feed}: {result.error}")
            elif not result.is_partial and not may_miss and not self._observer.is_misled:
                lasting = before & self._scene.logs
                due = {log for log in lasting if log[0] == feed and log[1] in fresh_ids}
                self._observer.require(due, "missed by poll")

        publishing = results["publishing"]
        if has_trouble or self._is_broken or not is_regular or publishing.error is not None or publishing.is_partial:
            self._late_polls.clear()
        self._check_late_logs(before)

    def _check_late_logs(self, before: LogStatuses) -> None:
        """Check that logs that arrived late are counted within some regular polls that listed them."""
        listed = {log_id for _, log_id, _ in before & self._scene.logs}
        for log_id in self._observer.uncounted_ids(self._late_polls.keys() & listed):
            self._late_polls[log_id] += 1
            self._observer.expect(self._late_polls[log_id] < PROMPT_POLLS, "late row", log_id)

    def _switch(self, step: Switch) -> None:
        """Take the lists of generation late away, and restart with the other generation."""
        self._prepare(step.events)
        self._heal()
        self._api.generation = "both"
        self._api.vanished = dict.fromkeys(LATE_LISTS, VANISHED[step.shape])
        self._observer.note_switch()
        self._poll_quietly(SWITCH_POLLS)
        self._observer.note_switch()  # A look-up of a pending log may have counted a new log of its post.
        self._exporter.generation = "zernio"
        self._exporter.restart()
        self._poll_quietly(SWITCH_POLLS)
        self._observer.check_switched()

    def _poll_quietly(self, count: int = 1) -> None:
        for _ in range(count):
            self._scene.advance(30)
            self._scene.poll()
            self._observer.compare()

    def _rest(self) -> None:
        """Let two scans of the whole list complete while requests take no time; everything must be counted then."""
        self._heal()
        self._api.latency = 0.0
        due = self._scene.logs
        for _ in range(2):
            self._scene.advance(self._scene.scan_interval + 1)
            self._scan()
        self._observer.require(due & self._scene.logs, "missed")
        self._poll_until(self._observer.has_exact_pending, "pending at rest")
        if self._api.generation == "late":
            self._poll_until(self._observer.polls_politely, "requests")
        self._observer.is_misled = False
        self._api.latency = self._scene.setup.latency

    def _scan(self) -> None:
        """Poll until both lists are scanned."""
        before = self._observer.scan_times()
        for _ in range(MAX_POLLS):
            self._scene.advance(1)
            for feed, result in self._scene.poll().items():
                self._observer.expect(result.error is None, "outcome", f"{feed}: {result.error}")
            now = self._observer.scan_times()
            if all(now.get(feed) != before.get(feed) for feed in FEEDS):
                return
        raise Wrong("scan", f"not within {MAX_POLLS} polls")

    def _poll_until(self, condition: Callable[[], bool], check: str) -> None:
        for _ in range(MAX_POLLS):
            if condition():
                return
            self._poll_quietly()
        raise Wrong(check, f"not within {MAX_POLLS} polls")

    def _heal(self) -> None:
        """End all failures, after which late logs have their polls again."""
        self._api.clear_events()
        self._api.refuse = nothing_fails
        self._is_broken = False
        self._late_polls.clear()

    def _prepare(self, events: Events) -> None:
        self._scene.advance(events.seconds)
        for action in events.actions:
            self._act(action)
        for number, action in events.between:
            self._api.before_request(number, partial(self._act, action))

    def _act(self, action: Action) -> None:
        act(self._world, action)
        name, minutes, _ = action
        # A first sync finds late logs in any case.
        if name == "late" and minutes <= PROMPT_MINUTES and self._observer.is_synced("publishing"):
            self._late_polls[next(reversed(self._world.insertion_order))] = 0
        self._scene.fill_lists()
