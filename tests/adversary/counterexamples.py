"""Short programs for which a check did not hold once, or does not yet."""

from __future__ import annotations

from collections.abc import Mapping

from tests.adversary.program import Break, Events, Poll, Polls, Program, Setup, ShortLives, Switch
from tests.support.clock import DAY, HOUR

COUNTEREXAMPLES: Mapping[str, Program] = {
    "history": Program(Setup(history=130), (Poll(fault=(4, "stale page")),)),
    "gauge of a short run": Program(Setup(history=130), (Poll(), ShortLives(count=2))),
    "list that has become empty": Program(
        Setup(),
        (
            Poll(events=Events(between=((0, ("publish", 1, 0)),))),
            Poll(events=Events(actions=(("delete", 0, 1),))),
        ),
    ),
    "wait after a refused list": Program(
        Setup(page_size=25, reconcile_interval=6 * HOUR),
        (
            Poll(events=Events(seconds=6.9 * DAY, actions=(("publish", 40, 24),))),
            Poll(),
            Break(failure="pending 500", number=7),
            Polls(count=6),
            Poll(events=Events(seconds=3 * HOUR), downtime=90.0),
            Poll(events=Events(seconds=29.0)),
        ),
    ),
    "logs of one time": Program(
        Setup(history=25),
        (
            Poll(
                events=Events(
                    seconds=3 * HOUR,
                    actions=(("publish", 3, 51), ("late", 13, 43), ("publish", 2, 22)),
                    between=((3, ("delete", 41, 9)),),
                ),
                store_failure=(0, "before"),
            ),
            Poll(
                events=Events(
                    actions=(("publish", 40, 5),), between=((2, ("publish", 18, 9)), (3, ("delete", 32, 11)))
                ),
                store_failure=(3, "before"),
            ),
            Poll(
                events=Events(
                    seconds=DAY,
                    actions=(("publish", 3, 4), ("late", 38, 60), ("moment", 9, 33)),
                    between=((2, ("moment", 99, 57)), (5, ("delete", 15, 15)), (1, ("late", 23, 28))),
                )
            ),
            Poll(events=Events(seconds=DAY, actions=(("publish", 25, 40),))),
        ),
    ),
    "gap below deleted logs": Program(
        Setup(distinct_times=True, history=25, commit_size=1),
        (
            Poll(events=Events(seconds=1.0)),
            Switch(shape="400", events=Events(seconds=1.0)),
            Poll(
                events=Events(seconds=1.0, actions=(("publish", 18, 0),), between=((2, ("delete", 0, 10)),)),
                kill=13,
                downtime=1.0,
            ),
        ),
    ),
    "alike logs": Program(
        Setup(generation="zernio"),
        (Poll(events=Events(actions=(("alike", 8, 57),), between=((0, ("publish", 29, 10)),))),),
    ),
    "pending alike logs": Program(
        Setup(generation="zernio"),
        (
            Poll(events=Events(seconds=1.0, actions=(("publish", 2, 0),))),
            Poll(
                events=Events(
                    seconds=1.0,
                    actions=(("alike", 7, 33), ("publish", 1, 0)),
                    between=((0, ("publish", 1, 0)), (2, ("alike", 2, 0))),
                )
            ),
        ),
    ),
}
"""Programs by the check that did not hold, or by what is special about them."""
