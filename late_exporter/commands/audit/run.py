"""An audit from outside: by requests of its own, beside an exporter that goes on or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from late_exporter.commands.audit.report import Report
from late_exporter.commands.feed_choice import require_kept
from late_exporter.errors import ApiError, BadPayload
from late_exporter.ingest.audit import Audit, Rest, audit, grace, weigh
from late_exporter.ingest.steps import Read, Seen
from late_exporter.model import Coverage, Feed, Known, Reading, Scope, Series, Tally, Total
from late_exporter.protocols import Client, Log
from late_exporter.store import Records

__all__ = ["Examiner"]

LIMIT = 100
DAY = 86_400_000

LATE = 3_600_000
"""With nobody to count what comes late, a log may have been written this much after its createdAt."""

FADING = 300_000
"""Logs that are about to expire may have done so already."""

SILENT_POLLS = 5
LEAST_SILENCE = 120.0
"""An exporter that has not polled for so many intervals, and for so long, is none."""

LOOK_AGAIN = 5.0
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_WALK = "late_exporter_reconcile_last_completed_timestamp_seconds"


class Examiner:
    """Audits one feed of one workspace.

    Args:
        scope: The feed of the workspace.
        choose: Gives the log list for what the state has of it.
        client: Reads the API.
        records: Opens the state as it is at that moment.
        interval: Between two polls of the exporter, in seconds.
        wait: How long an exporter may take to count what is in doubt, in seconds.
        log: Hears that it is waited for.
    """

    def __init__(
        self,
        scope: Scope,
        choose: Callable[[Coverage], Awaitable[Feed]],
        *,
        client: Client,
        records: Callable[[], Records],
        interval: float,
        wait: float,
        log: Log,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._scope = scope
        self._choose = choose
        self._client = client
        self._records = records
        self._interval = interval
        self._wait = wait
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._requests = 0
        self._skew = 0.0
        self._former: set[str] = set()

    async def examine(self, since: float | None = None) -> Report:
        """Compare the logs of the last so many seconds, or all.

        Raises:
            StoreError: The state cannot be read.
            ConfigError: Logs are not kept for so long.
        """
        started = self._monotonic()
        scope = self._scope
        coverage, last_poll, _ = self._state()
        trouble = _trouble(coverage)
        if coverage is None or trouble:
            return Report(workspace=scope.workspace, feed=scope.feed, trouble=trouble)
        try:
            feed = await self._choose(coverage)
        except ApiError as exc:
            return Report(workspace=scope.workspace, feed=scope.feed, trouble=str(exc))
        require_kept(since, feed)
        polled = self._clock() - last_poll <= max(SILENT_POLLS * self._interval, LEAST_SILENCE)
        seen: set[str] = set()
        plan = Audit(
            coverage=coverage,
            since=0 if since is None else int((self._clock() - since) * 1000),
            grace=grace(self._interval) if polled else LATE,
            polled=polled,
            seen=seen,
        )
        try:
            walked = await self._walk(plan, feed)
        except ApiError as exc:
            return Report(workspace=scope.workspace, feed=scope.feed, trouble=str(exc), requests=self._requests)
        tally, deleted = self._weigh(plan, feed, seen)
        return Report(
            workspace=scope.workspace,
            feed=scope.feed,
            since=max(plan.lower, plan.coverage.checked - feed.retention),
            until=plan.due,
            polled=polled,
            walked=walked,
            logs=len(seen) - len(plan.early) - len(plan.unread),
            requests=self._requests,
            seconds=self._monotonic() - started,
            differences=plan.differences,
            imbalances=weigh(scope, feed, tally),
            tally=tally,
            early=len(plan.early),
            unread=len(plan.unread),
            deleted=deleted,
        )

    async def _walk(self, plan: Audit, feed: Feed) -> bool:
        """Do what the auditor asks for; tells whether the exporter had its whole chance."""
        steps = audit(plan)
        walked = False
        answer: Seen | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return walked
            if isinstance(step, Rest):
                walked, answer = await self._rest(plan, feed), None
            else:
                answer = await self._look(step, feed)

    async def _look(self, step: Read, feed: Feed) -> Seen:
        params: dict[str, str | int] = {**feed.query, "days": feed.retention // DAY, "limit": LIMIT, "skip": step.skip}
        self._requests += 1
        answer = await self._client.get(feed.path, params, endpoint=feed.path)
        if answer is None:
            raise BadPayload(f"404: the API has no {feed.path}")
        if answer.date is not None:
            self._skew = answer.date - self._clock()
        page = feed.parse(answer.body)
        with self._records() as records:
            met = records.known(self._scope, page.entries, settles=feed.settles)
        self._former |= met.former
        return Seen(page, Known(met.statuses))

    async def _rest(self, plan: Audit, feed: Feed) -> bool:
        """Wait until all doubts are counted or a whole walk has passed them; tells whether one has."""
        begun, until = self._clock() + self._skew, self._monotonic() + self._wait
        walked = False
        if plan.polled and self._wait:
            self._log.info(
                "some logs look different; waiting for the exporter to count them",
                logs=len(plan.doubts),
                at_most=f"{self._wait:g}s",
            )
        while plan.polled and not walked and self._in_doubt(plan, feed) and (left := until - self._monotonic()) > 0:
            await self._sleep(min(left, LOOK_AGAIN))
            walked = self._state()[2] > begun
        plan.coverage = self._state()[0] or plan.coverage
        return walked

    def _in_doubt(self, plan: Audit, feed: Feed) -> bool:
        entries = [doubt.entry for doubt in plan.doubts.values()]
        with self._records() as records:
            counted = records.known(self._scope, entries, settles=feed.settles).statuses
        return any(entry.status not in counted.get(entry.key, ()) for entry in entries)

    def _state(self) -> tuple[Coverage | None, float, float]:
        """The coverage, and when the last successful poll was and the last whole walk began."""
        with self._records() as records:
            if self._scope not in records.scopes:
                return None, 0.0, 0.0
            totals, coverage = records.totals(), records.feed(self._scope).coverage
        return coverage, self._reading(totals, LAST_POLL), self._reading(totals, LAST_WALK)

    def _reading(self, totals: Mapping[Series, Total], family: str) -> float:
        total = totals.get((family, (self._scope.workspace, self._scope.feed)))
        return float(total.value.value) if total is not None and isinstance(total.value, Reading) else 0.0

    def _weigh(self, plan: Audit, feed: Feed, seen: set[str]) -> tuple[Tally, int]:
        """The books, and how many logs on record the API no longer shows."""
        lower = max(plan.lower, plan.coverage.checked - feed.retention + FADING)
        with self._records() as records:
            held = {
                counted.key
                for counted in records.counted(self._scope)
                if counted.created is not None and lower <= counted.created <= plan.due
            }
            return records.tally(self._scope), len(held - seen - self._former)


def _trouble(coverage: Coverage | None) -> str:
    if coverage is None:
        return "nothing has been counted yet"
    return "" if coverage.synced else "the first sync is not complete: nothing can be compared yet"
