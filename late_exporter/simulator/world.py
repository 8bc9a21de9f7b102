"""A simulated world of posts and connections, the same for the same seed and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import ACCOUNTS, SimulatedAccount
from late_exporter.simulator.activity import ActivitySimulation
from late_exporter.simulator.connections import ConnectionSimulation
from late_exporter.simulator.events import DAY, HOUR, MINUTE, EventQueue
from late_exporter.simulator.incidents import Incident, WorldConditions, find_incident_kind
from late_exporter.simulator.log_list import LogList
from late_exporter.simulator.publishing import PublishingSimulation

__all__ = ["RETENTION", "ZERNIO_RETENTION", "SimulatedWorld"]

RETENTION = 7 * DAY
ZERNIO_RETENTION = 90 * DAY
"""That of generation ``zernio``."""


class SimulatedWorld:
    """What users of Late post and what becomes of it.

    What has happened by a time depends on the seed and the incidents started, never on how often ``advance`` is called.

    Args:
        seed: Decides everything that happens.
        start: Unix time up to which there is a history when the world has been built.
        logs_per_day: About how many publishing logs a day.
        history: Seconds before ``start`` at which the world is empty.
        accounts: Who posts.
        scripted: The history has an outage two days and a revoked token one day before ``start``.
        publishing: Where the publishing logs go; None is an archive of its own.
        retention: Seconds after which logs are swept.
        active: There are logs of the further types that generation ``zernio`` has, too.
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        logs_per_day: float = 5000,
        history: float = RETENTION,
        accounts: Sequence[SimulatedAccount] = ACCOUNTS,
        with_past_incidents: bool = True,
        publishing: LogList | None = None,
        retention: float = RETENTION,
        with_activity: bool = False,
    ) -> None:
        self.publishing = LogList() if publishing is None else publishing
        self.connections = LogList()
        self.activity: Mapping[str, LogList] = {}
        self._retention = retention
        self._events = EventQueue(seed, start - history)
        self._conditions = WorldConditions()
        self._connection_simulation = ConnectionSimulation(self._events, self.connections, self._conditions, accounts)
        callbacks = {}
        if with_activity:
            activity = ActivitySimulation(self._events, seed, accounts)
            self.activity, callbacks = activity.log_lists, {"on_result": activity.on_result}
        PublishingSimulation(self._events, self.publishing, self._conditions, accounts, logs_per_day, **callbacks)
        self._events.schedule_in(MINUTE, self._expire_logs)
        if with_past_incidents and history > 2 * DAY:
            self.start_incident("platform-outage", duration=3 * HOUR, start_time=start - 2 * DAY)
            self.start_incident("revoked-token", duration=5 * HOUR, start_time=start - DAY)
        self.advance(start)

    @property
    def now(self) -> float:
        """Unix time up to which everything has happened."""
        return self._events.now

    @property
    def incidents(self) -> Sequence[Incident]:
        """The incidents under way."""
        return tuple(self._conditions.incidents)

    def advance(self, now: float) -> None:
        """Let everything happen up to a Unix time; an earlier one changes nothing."""
        self._events.run_until(now)

    def start_incident(
        self, name: str, *, platform: str | None = None, duration: float = 30 * MINUTE, start_time: float | None = None
    ) -> None:
        """Begin an incident, now or later; raises ConfigError where it cannot be.

        Args:
            name: One of INCIDENTS.
            platform: Where it strikes; None leaves it to the incident.
            duration: In seconds.
            start_time: Unix time of its beginning.
        """
        kind = find_incident_kind(name, platform)
        affected_platform = platform or kind.platform
        if name == "revoked-token" and self._connection_simulation.find_connected(affected_platform) is None:
            raise ConfigError(f"no connected account on {affected_platform or 'any platform'}")
        if start_time is None or start_time <= self.now:
            self._begin_incident(name, affected_platform, self.now + duration)
        else:
            self._events.schedule_at(
                start_time, partial(self._begin_incident, name, affected_platform, start_time + duration)
            )

    def stop_incident(self, name: str) -> Sequence[Incident]:
        """End the incidents of that name; returns which they were."""
        find_incident_kind(name, None)
        stopped = [incident for incident in self.incidents if incident.name == name]
        for incident in stopped:
            self._end_incident(incident)
        return stopped

    def _begin_incident(self, name: str, platform: str | None, until: float) -> None:
        incident = Incident(name, platform, until)
        if name == "revoked-token":
            account = self._connection_simulation.find_connected(platform)
            if account is None:
                return
            self._connection_simulation.disconnect(account)
            incident = Incident(name, account.platform.name, until, account.id)
        self._conditions.incidents.append(incident)
        self._events.schedule_at(until, partial(self._end_incident, incident))

    def _end_incident(self, incident: Incident) -> None:
        if incident not in self._conditions.incidents:
            return
        self._conditions.incidents.remove(incident)
        if incident.account_id:
            self._connection_simulation.reconnect(incident.account_id)

    def _expire_logs(self) -> None:
        for archive in (self.publishing, self.connections, *self.activity.values()):
            archive.expire(self.now - self._retention)
        self._events.schedule_in(MINUTE, self._expire_logs)
