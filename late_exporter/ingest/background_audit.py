"""Audits a feed while it is polled: some pages after each poll, until the audit is through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from late_exporter.errors import BadPayload
from late_exporter.ingest.audit import Audit, AuditSteps, Difference, Imbalance, Rest, audit, extra, missing, weigh
from late_exporter.ingest.steps import Read, Seen, Walk
from late_exporter.model import Coverage, Feed, Increment, Reading, Scope, Series, Take, Tally, Total
from late_exporter.protocols import Log

__all__ = ["SHOWN", "Inspector", "last_audit"]

MISSING = "late_exporter_audit_missing_logs"
EXTRA = "late_exporter_audit_extra_logs"
LAST = "late_exporter_audit_last_completed_timestamp_seconds"
SHOWN = (MISSING, EXTRA, LAST)
"""What an audit is to show; the state keeps it from one to the next."""

NAMED = 10
"""Logs that are named in the exporter's log; the command names them all."""


class Inspector:
    """The audit of one feed, again and again.

    The chance that it gives the exporter is a whole reconcile walk: what is written late, or settles where no poll
    looks, is counted by the end of the next one. So the first audit begins after the first walk, too.

    Args:
        scope: The feed of the workspace.
        feed: The log list.
        look: Reads a page, and what is counted of it.
        tally: Gives what the books of the state itself say.
        log: Hears of what is found.
        last: When an audit last came to its end, a Unix time in seconds; 0 for never.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        look: Callable[[Read], Awaitable[Seen]],
        tally: Callable[[], Awaitable[Tally]],
        log: Log,
        last: float = 0.0,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._look = look
        self._tally = tally
        self._log = log
        self._last = last
        self._plan: Audit | None = None
        self._steps: AuditSteps | None = None
        self._step: Read | Rest | None = None
        self._walked = False
        self._too_early: Walk | None = None

    def follow(self, feed: Feed) -> None:
        """Go on with the feed of another generation of the API; an audit of the old list is void."""
        self._feed = feed
        self._plan = self._steps = None

    def is_due(self, now: float, interval: float) -> bool:
        """Whether there is an audit to begin or to go on with."""
        return interval > 0 and self._walked and (self._steps is not None or now - self._last >= interval)

    def note_walk(self, walk: Walk) -> None:
        """Take note of a walk over the whole list that has ended, and of which all is saved."""
        # One that was under way when the doubts were raised had passed some of them already.
        self._walked = self._walked or walk is not self._too_early

    async def go_on(
        self, coverage: Coverage, walk: Walk | None, *, pages: int, grace: int, now: float
    ) -> Sequence[Increment]:
        """Look at some pages; gives what is to be shown once the audit is through.

        Args:
            coverage: As last made durable.
            walk: The walk under way.
            pages: How many.
            grace: How long before the last poll a log was created for that poll to have had its chance.
            now: Unix time in seconds.

        Raises:
            LateError: The same page is looked at the next time, or the audit begun anew where it cannot go on.
        """
        if self._plan is None or self._steps is None:
            self._plan = Audit(coverage=coverage, grace=grace)
            self._steps = audit(self._plan)
            self._step = next(self._steps)
        elif isinstance(self._step, Rest):
            self._plan.coverage = coverage
            self._step = next(self._steps)
        for _ in range(pages):
            if isinstance(self._step, Read):
                seen = await self._look(self._step)
                self._step = self._take(self._steps, seen, now)
            if self._step is None:
                return self._show(self._plan, weigh(self._scope, self._feed, await self._tally()), now)
            if isinstance(self._step, Rest):
                self._walked, self._too_early = False, walk
                break
        return ()

    def _take(self, steps: AuditSteps, seen: Seen, now: float) -> Read | Rest | None:
        """The step after a page; None where it was the last one."""
        try:
            return steps.send(seen)
        except StopIteration:
            return None
        except BadPayload:
            self._last = now
            self._plan = self._steps = None
            raise

    def _show(self, plan: Audit, imbalances: Sequence[Imbalance], now: float) -> Sequence[Increment]:
        self._plan = self._steps = None
        self._last = now
        found = {MISSING: missing(plan.differences, imbalances), EXTRA: extra(imbalances)}
        self._tell(plan.differences, imbalances, missing=found[MISSING], extra=found[EXTRA])
        names = (self._scope.workspace, self._scope.feed)
        return [Take(family, names, at=int(now * 1000), value=value) for family, value in {**found, LAST: now}.items()]

    def _tell(
        self, differences: Sequence[Difference], imbalances: Sequence[Imbalance], *, missing: int, extra: int
    ) -> None:
        if not missing and not extra:
            self._log.info("audit ended", missing=missing, extra=extra)
            return
        self._log.warning("audit found differences", missing=missing, extra=extra)
        for difference in differences[:NAMED]:
            entry, counted = difference.entry, ",".join(sorted(difference.counted)) or "none"
            self._log.warning("log not counted", id=entry.key, status=entry.status, counted=counted)
        for imbalance in imbalances:
            what = imbalance.family or "logs on record"
            self._log.warning("count is wrong", of=what, expected=imbalance.expected, found=imbalance.found)


def last_audit(totals: Mapping[Series, Total], scope: Scope) -> float:
    """When an audit of a feed last came to its end, a Unix time in seconds; 0 for never."""
    total = totals.get((LAST, (scope.workspace, scope.feed)))
    return float(total.value.value) if total is not None and isinstance(total.value, Reading) else 0.0
