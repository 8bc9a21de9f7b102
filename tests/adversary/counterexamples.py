"""Short programs for which a check did not hold once, or does not yet."""

from __future__ import annotations

from collections.abc import Mapping

from tests.adversary.program import Break, Events, MoveClock, Poll, Polls, Program, Rest, Setup, ShortLives, Switch
from tests.support.clock import DAY, HOUR

COUNTEREXAMPLES: Mapping[str, Program] = {
    "late row": Program(
        Setup(),
        (
            Poll(),
            Polls(count=10, events=Events(actions=(("publish", 18, 0),))),
            Poll(events=Events(actions=(("late", 3, 0), ("delete", 0, 3)))),
            Polls(count=3, events=Events(actions=(("delete", 0, 2),))),
        ),
    ),
    "short lives": Program(
        Setup(),
        (
            Poll(events=Events(actions=(("publish", 25, 0),))),
            Poll(events=Events(seconds=3 * HOUR, actions=(("publish", 101, 0),))),
            Poll(events=Events(actions=(("late", 170, 0), ("delete", 0, 3)))),
            ShortLives(count=12),
        ),
    ),
    "history of a lying list": Program(Setup(history=130), (Poll(fault=(4, "stale page")),)),
    "one request": Program(
        Setup(),
        (
            Poll(events=Events(actions=(("publish", 1, 3),))),
            Poll(events=Events(actions=8 * (("publish", 2, 1),))),
            Break(failure="post 500"),
            Poll(events=Events(actions=(("settle", 0, 0),))),
            Polls(count=2),
        ),
    ),
    "pending": Program(
        Setup(distinct_times=True, history=25, commit_size=1),
        (
            Switch(
                shape="html",
                events=Events(
                    seconds=1.0,
                    actions=(("publish", 55, 22), ("settle", 0, 0), ("publish", 3, 9)),
                    between=((3, ("late", 180, 25)), (6, ("alike", 5, 0)), (4, ("delete", 17, 11))),
                ),
            ),
            Rest(),
            Rest(),
            Poll(
                events=Events(
                    actions=(("publish", 55, 57),),
                    between=((5, ("delete", 56, 27)), (7, ("delete", 37, 11)), (1, ("publish", 11, 35))),
                ),
                fault=(2, "stale page"),
            ),
            Rest(),
        ),
    ),
    "own times": Program(
        Setup(history=3), (Poll(), MoveClock(seconds=30 * DAY), Poll(), MoveClock(seconds=-30 * DAY), Poll())
    ),
    "coverage": Program(Setup(history=25), (Poll(), Poll(fault=(0, "wrong date")))),
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
    "pending at rest": Program(
        Setup(generation="zernio"),
        (
            Poll(events=Events(seconds=1.0, actions=(("publish", 1, 23),))),
            Poll(events=Events(seconds=1.0, actions=(("alike", 8, 0), ("publish", 3, 0), ("delete", 11, 1)))),
        ),
    ),
    "unfiltered alike logs": Program(
        Setup(generation="zernio", time_filter="rejected"),
        (Poll(events=Events(actions=(("alike", 8, 57),), between=((0, ("publish", 29, 10)),))),),
    ),
    "catch-up": Program(
        Setup(distinct_times=True, latency=2.0, has_dates=False, history=25, commit_size=1),
        (
            Poll(),
            Switch(shape="500"),
            Poll(events=Events(seconds=1.0, actions=(("publish", 25, 18), ("publish", 97, 0))), kill=12),
            Poll(events=Events(seconds=1.0, actions=(("publish", 25, 18), ("publish", 97, 0))), kill=12),
        ),
    ),
}
"""Programs by the check that fails."""
