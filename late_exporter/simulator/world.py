"""A simulated world of posts and connections, the same for the same seed and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import ACCOUNTS, Account
from late_exporter.simulator.activity import Activity
from late_exporter.simulator.connections import Connecting
from late_exporter.simulator.events import DAY, HOUR, MINUTE, Agenda
from late_exporter.simulator.incidents import Conditions, Incident, incident_kind
from late_exporter.simulator.log_list import Archive
from late_exporter.simulator.publishing import Posting

__all__ = ["LONG_RETENTION", "RETENTION", "World"]

RETENTION = 7 * DAY
LONG_RETENTION = 90 * DAY
"""That of generation ``zernio``."""


class World:
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
        accounts: Sequence[Account] = ACCOUNTS,
        scripted: bool = True,
        publishing: Archive | None = None,
        retention: float = RETENTION,
        active: bool = False,
    ) -> None:
        self.publishing = Archive() if publishing is None else publishing
        self.connections = Archive()
        self.activity: Mapping[str, Archive] = {}
        self._retention = retention
        self._agenda = Agenda(seed, start - history)
        self._conditions = Conditions()
        self._connecting = Connecting(self._agenda, self.connections, self._conditions, accounts)
        listening = {}
        if active:
            activity = Activity(self._agenda, seed, accounts)
            self.activity, listening = activity.archives, {"tell": activity.tell}
        Posting(self._agenda, self.publishing, self._conditions, accounts, logs_per_day, **listening)
        self._agenda.after(MINUTE, self._sweep)
        if scripted and history > 2 * DAY:
            self.start_incident("platform-outage", duration=3 * HOUR, at=start - 2 * DAY)
            self.start_incident("revoked-token", duration=5 * HOUR, at=start - DAY)
        self.advance(start)

    @property
    def now(self) -> float:
        """Unix time up to which everything has happened."""
        return self._agenda.now

    @property
    def incidents(self) -> Sequence[Incident]:
        """The incidents under way."""
        return tuple(self._conditions.incidents)

    def advance(self, now: float) -> None:
        """Let everything happen up to a Unix time; an earlier one changes nothing."""
        self._agenda.run(now)

    def start_incident(
        self, name: str, *, platform: str | None = None, duration: float = 30 * MINUTE, at: float | None = None
    ) -> None:
        """Begin an incident, now or later; raises ConfigError where it cannot be.

        Args:
            name: One of INCIDENTS.
            platform: Where it strikes; None leaves it to the incident.
            duration: In seconds.
            at: Unix time of its beginning.
        """
        kind = incident_kind(name, platform)
        place = platform or kind.platform
        if name == "revoked-token" and self._connecting.connected(place) is None:
            raise ConfigError(f"no connected account on {place or 'any platform'}")
        if at is None or at <= self.now:
            self._begin(name, place, self.now + duration)
        else:
            self._agenda.at(at, partial(self._begin, name, place, at + duration))

    def stop_incident(self, name: str) -> Sequence[Incident]:
        """End the incidents of that name; returns which they were."""
        incident_kind(name, None)
        stopped = [incident for incident in self.incidents if incident.name == name]
        for incident in stopped:
            self._end(incident)
        return stopped

    def _begin(self, name: str, platform: str | None, until: float) -> None:
        incident = Incident(name, platform, until)
        if name == "revoked-token":
            account = self._connecting.connected(platform)
            if account is None:
                return
            self._connecting.disconnect(account)
            incident = Incident(name, account.platform.name, until, account.id)
        self._conditions.incidents.append(incident)
        self._agenda.at(until, partial(self._end, incident))

    def _end(self, incident: Incident) -> None:
        if incident not in self._conditions.incidents:
            return
        self._conditions.incidents.remove(incident)
        if incident.account_id:
            self._connecting.reconnect(incident.account_id)

    def _sweep(self) -> None:
        for archive in (self.publishing, self.connections, *self.activity.values()):
            archive.expire(self.now - self._retention)
        self._agenda.after(MINUTE, self._sweep)
