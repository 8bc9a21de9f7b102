"""Programs: what happens to an API and to an exporter, as values that Hypothesis draws, shrinks and prints."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from hypothesis import strategies as st

from tests.adversary.api import FAILURES, FAULTS
from tests.adversary.events import ACTIONS, MOVES, NUMBERS, Action
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.late_api import TIME_FILTERS, VANISHED


class _Value(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A value whose text leaves out what is as usual."""


class Setup(_Value, frozen=True):
    """The API and the exporter at the beginning.

    Args:
        generation: API generation, ``late`` or ``zernio``.
        distinct_times: Whether no two logs have the same time.
        page_size: Maximum number of rows per page.
        latency: Duration of a request in seconds.
        history: Publishing logs of the last days.
        connections: Connection logs of the last hours.
        reconcile_interval: Seconds between two reconciliation scans.
        audit_interval: Seconds between two background audits; 0 disables them.
        commit_size: Logs that a catch-up commits together.
        max_skip: Largest ``skip`` that the API accepts, in generation zernio; None accepts any.
        time_filter: How the API reads ``from`` and ``to``.
    """

    generation: str = "late"
    distinct_times: bool = False
    page_size: int = 10
    latency: float = 0.0
    history: int = 1
    connections: int = 1
    reconcile_interval: float = 10 * MINUTE
    audit_interval: float = DAY
    commit_size: int = 1000
    max_skip: int | None = None
    time_filter: str = "inclusive"

    @property
    def can_lack_ids(self) -> bool:
        """Whether logs have no ids, or may lose them."""
        return self.generation != "late" or self.distinct_times


class Events(_Value, frozen=True):
    """What happens in the world around a poll.

    Args:
        seconds: Time that passes before it.
        actions: Actions before it.
        between: Actions before some of its requests, by their number.
    """

    seconds: float = 30.0
    actions: tuple[Action, ...] = ()
    between: tuple[tuple[int, Action], ...] = ()


class Poll(_Value, frozen=True):
    """Poll all feeds at once, with at most one kind of trouble.

    Args:
        fault: Number of a request and how it fails.
        store_failure: Number of a commit, and whether it fails ``before`` or ``after`` it is durable.
        kill: Step at which the process is killed, if the polls take so many.
        downtime: Seconds until it is started again.
    """

    events: Events = Events()
    fault: tuple[int, str] | None = None
    store_failure: tuple[int, str] | None = None
    kill: int | None = None
    downtime: float = 0.0


class Polls(_Value, frozen=True):
    """Poll all feeds several times, every 30 seconds, with the same events around each poll."""

    count: int
    events: Events = Events()


class Restart(_Value, frozen=True):
    """Stop the exporter and start it again."""

    downtime: float = 0.0


class Break(_Value, frozen=True):
    """Let one request fail until the next rest."""

    failure: str


class Switch(_Value, frozen=True):
    """Take the lists of generation late away.

    Args:
        shape: How they answer from then on.
    """

    shape: str = "404"
    events: Events = Events()


class Rest(_Value, frozen=True):
    """Let nothing happen until two reconciliation scans are complete; all failures end."""


Step: TypeAlias = Poll | Polls | Restart | Break | Switch | Rest


class Program(msgspec.Struct, frozen=True):
    """A setup, and steps that end with a rest."""

    setup: Setup
    steps: tuple[Step, ...]


SECONDS = st.sampled_from((1.0, 29.0, 30.0, 30.0, 90.0, 90.0, 20 * MINUTE, 3 * HOUR, DAY, 6.9 * DAY, 9 * DAY))
BURSTS = st.tuples(st.just("publish"), st.sampled_from((0, 3, 12, 25, 40, 55)), NUMBERS)
BETWEEN = st.lists(st.tuples(st.integers(0, 9), MOVES | ACTIONS), max_size=3).map(tuple)
EVENTS = st.builds(
    Events,
    seconds=SECONDS,
    actions=st.builds(lambda burst, actions: (burst, *actions), BURSTS, st.lists(ACTIONS, max_size=2)),
    between=BETWEEN,
)
STEADY_EVENTS = st.builds(
    Events, seconds=st.just(30.0), actions=st.lists(MOVES | ACTIONS, max_size=3).map(tuple), between=BETWEEN
)
TROUBLES = st.one_of(
    st.builds(Poll, events=EVENTS),
    st.builds(Poll, events=EVENTS, fault=st.tuples(st.integers(0, 8), st.sampled_from(sorted(FAULTS)))),
    st.builds(Poll, events=EVENTS, kill=st.integers(1, 90), downtime=SECONDS),
    st.builds(Poll, events=EVENTS, kill=st.integers(1, 30), downtime=st.just(0.0)),
    st.builds(
        Poll, events=EVENTS, store_failure=st.tuples(st.integers(0, 4), st.sampled_from(("before", "before", "after")))
    ),
)
STEPS = st.one_of(
    TROUBLES,
    TROUBLES,
    TROUBLES,
    st.builds(Polls, count=st.integers(2, 6), events=STEADY_EVENTS),
    st.builds(Restart, downtime=SECONDS),
    st.builds(Break, failure=st.sampled_from(sorted(FAILURES))),
    st.just(Rest()),
)
SETUP = {
    "page_size": st.sampled_from((10, 10, 10, 25, 100)),
    "latency": st.sampled_from((0.0, 0.0, 2.0)),
    "history": st.sampled_from((1, 3, 25, 130)),
    "connections": st.sampled_from((1, 2, 25)),
    "reconcile_interval": st.sampled_from((10 * MINUTE, 6 * HOUR)),
    "audit_interval": st.sampled_from((0.0, HOUR, DAY)),
    "commit_size": st.sampled_from((1, 15, 1000)),
}


def _steps(step: st.SearchStrategy[Step]) -> st.SearchStrategy[tuple[Step, ...]]:
    """Return lists that are long on average, and shrink to one step."""
    parts = st.lists(st.lists(step, min_size=1, max_size=8), min_size=1, max_size=6)
    return parts.map(lambda lists: tuple(each for part in lists for each in part))


MODES: dict[str, st.SearchStrategy[Program]] = {
    "polls": st.builds(
        Program,
        st.builds(Setup, history=st.sampled_from((1, 25)), commit_size=st.sampled_from((1, 15, 1000))),
        _steps(TROUBLES),
    ),
    "late": st.builds(Program, st.builds(Setup, generation=st.just("late"), **SETUP), _steps(STEPS)),
    "zernio": st.builds(
        Program,
        st.builds(
            Setup,
            generation=st.just("zernio"),
            max_skip=st.sampled_from((300, None)),
            time_filter=st.sampled_from(TIME_FILTERS[:4]),
            **SETUP,
        ),
        _steps(STEPS),
    ),
    "switch": st.builds(
        lambda setup, before, switch, after: Program(setup, (*before, switch, *after)),
        st.builds(
            Setup,
            generation=st.just("late"),
            distinct_times=st.sampled_from((True,)),
            **{**SETUP, "history": st.sampled_from((25, 130)), "page_size": st.sampled_from((25, 100))},
        ),
        _steps(STEPS),
        st.builds(Switch, shape=st.sampled_from(sorted(VANISHED)), events=EVENTS),
        _steps(STEPS),
    ),
}
"""Programs by what the API does about its generations; those of ``polls`` are cheap, because they do little else."""
