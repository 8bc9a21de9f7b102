"""Simulated world: posts, connections and incidents, reproducible by seed and start time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import ACCOUNTS, SimulatedAccount
from late_exporter.simulator.activity import ActivitySimulation
from late_exporter.simulator.connections import ConnectionSimulation
from late_exporter.simulator.events import DAY, HOUR, MINUTE, EventQueue
from late_exporter.simulator.incidents import INCIDENTS, Incident, WorldConditions, find_incident_kind
from late_exporter.simulator.log_list import LogList
from late_exporter.simulator.posts import PostList
from late_exporter.simulator.publishing import PublishingSimulation
from late_exporter.simulator.webhooks import SimulatedWebhook

RETENTION = 7 * DAY
ZERNIO_RETENTION = 90 * DAY
"""Retention in generation ``zernio``."""


class SimulatedWorld:
    """Simulated customers of Zernio, with their posts and accounts, and the logs of these.

    The logs at a time depend on the seed and the started incidents, not on the number of calls of ``advance``.
    A history of more than two days has an outage two days and a revoked token one day before its end.

    Args:
        seed: Seed of the random generators.
        start: Unix time of the end of the generated history.
        logs_per_day: Approximate number of publishing logs per day.
        history: Length of the generated history, in seconds.
        accounts: Accounts of all customers.
        publishing: List that receives the publishing logs; None for a new one.
        retention: Age at which logs are deleted, in seconds.
        with_activity: Whether to write the log types that only generation ``zernio`` has.
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        logs_per_day: float = 5000,
        history: float = RETENTION,
        accounts: Sequence[SimulatedAccount] = ACCOUNTS,
        publishing: LogList | None = None,
        retention: float = RETENTION,
        with_activity: bool = False,
    ) -> None:
        self.publishing = LogList() if publishing is None else publishing
        self.connections = LogList()
        self.activity: Mapping[str, LogList] = {}
        self.webhooks: Sequence[SimulatedWebhook] = ()
        self.accounts = tuple(accounts)
        self.conditions = WorldConditions()
        self._retention = retention
        self._events = EventQueue(seed, start - history)
        self._connection_simulation = ConnectionSimulation(self._events, self.connections, self.conditions, accounts)
        on_result = None
        if with_activity:
            activity = ActivitySimulation(self._events, seed, accounts, self.conditions)
            self.activity, self.webhooks, on_result = activity.log_lists, activity.webhooks, activity.on_result
        self.posts: PostList = PublishingSimulation(
            self._events, self.publishing, self.conditions, accounts, logs_per_day, on_result
        ).posts
        self._events.schedule_in(MINUTE, self._expire_logs)
        if history > 2 * DAY:
            self.start_incident("platform-outage", duration=3 * HOUR, start_time=start - 2 * DAY)
            self.start_incident("revoked-token", duration=5 * HOUR, start_time=start - DAY)
        self.advance(start)

    @property
    def now(self) -> float:
        """Unix time up to which the world has advanced."""
        return self._events.now

    @property
    def incidents(self) -> Sequence[Incident]:
        return tuple(self.conditions.incidents)

    def advance(self, now: float) -> None:
        """Advance to a Unix time. An earlier time changes nothing."""
        self._events.run_until(now)

    def start_incident(
        self, name: str, *, platform: str | None = None, duration: float = 30 * MINUTE, start_time: float | None = None
    ) -> None:
        """Start an incident now or at a Unix time, on its default platform or on another one.

        Raises:
            ConfigError: The incident or the platform is unknown, or there is no account to disconnect.
        """
        kind = find_incident_kind(name, platform)
        affected_platform = platform or kind.platform
        if kind.scope == "account" and self._connection_simulation.find_connected(affected_platform) is None:
            raise ConfigError(f"no connected account on {affected_platform or 'any platform'}")
        if start_time is None or start_time <= self.now:
            self._begin_incident(name, affected_platform, self.now + duration)
        else:
            begin = partial(self._begin_incident, name, affected_platform, start_time + duration)
            self._events.schedule_at(start_time, begin)

    def stop_incident(self, name: str) -> Sequence[Incident]:
        """Stop the incidents of a name and return them."""
        find_incident_kind(name, None)
        stopped = [incident for incident in self.incidents if incident.name == name]
        for incident in stopped:
            self._end_incident(incident)
        return stopped

    def _begin_incident(self, name: str, platform: str | None, until: float) -> None:
        incident = Incident(name, platform, self.now, until)
        if INCIDENTS[name].scope == "account":
            account = self._connection_simulation.find_connected(platform)
            if account is None:
                return
            incident = Incident(name, account.platform.name, self.now, until, account.id)
            if name == "revoked-token":
                self._connection_simulation.disconnect(account)
        self.conditions.incidents.append(incident)
        self._events.schedule_at(until, partial(self._end_incident, incident))

    def _end_incident(self, incident: Incident) -> None:
        if incident not in self.conditions.incidents:
            return
        self.conditions.incidents.remove(incident)
        if incident.name == "revoked-token" and incident.account_id:
            self._connection_simulation.reconnect(incident.account_id)

    def _expire_logs(self) -> None:
        for log_list in (self.publishing, self.connections, *self.activity.values()):
            log_list.expire(self.now - self._retention)
        self.posts.expire(self.now - self._retention)
        self._events.schedule_in(MINUTE, self._expire_logs)
