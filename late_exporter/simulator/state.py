"""State of a simulated world, and the clock of its processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeAlias

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.incidents import Incident
from late_exporter.simulator.log_list import DAY, JsonObject, LogList, StaticLogs, timestamp

TOKEN_LIFETIME = 60 * DAY
Process: TypeAlias = Iterator[float]
"""Process of the world. It yields the Unix time until which it waits."""


class Post(msgspec.Struct):
    """Post to accounts of one customer.

    Args:
        kind: ``text``, ``image`` or ``video``.
        created_at: Unix time of its creation.
        accounts: Accounts of its targets, in the order of those.
        document: The post in the format of ``GET /v1/posts``.
        reference: Field ``postId`` of its logs.
        request: Field ``request`` of its logs.
    """

    kind: str
    created_at: float
    accounts: list[SimulatedAccount]
    document: JsonObject
    reference: JsonObject
    request: JsonObject

    @property
    def id(self) -> str:
        return str(self.reference["_id"])

    @property
    def is_scheduled(self) -> bool:
        return "scheduledFor" in self.request

    def log_time(self, time: float) -> str:
        """Return a time as the logs of the post show it."""
        return timestamp(time, whole_seconds=self.is_scheduled)

    def set_status(self, status: str, now: float) -> None:
        self.reference["status"] = status
        self.document.update(self.reference, updatedAt=timestamp(now))

    def change_target(self, account: SimulatedAccount, now: float, **changes: Any) -> None:
        """Change the state of the post on one account, from which that of the post follows."""
        targets = self.document["platforms"]
        targets[self.accounts.index(account)].update(changes)
        results = {target["status"] for target in targets}
        is_active = bool(results & {"pending", "processing"})
        self.set_status("publishing" if is_active else results.pop() if len(results) == 1 else "partial", now)


class WorldState(StaticLogs):
    """Accounts, logs, posts and incidents of a world, which processes change.

    Random numbers are drawn only by processes, in the order of time, so the result does not depend on the times at
    which ``advance`` is called.

    Attributes:
        posts: Posts by id, in the order of their creation.
        token_expiries: Unix times at which the tokens of accounts expire, by account id.
        incidents: Active incidents, in the order of their start.
        webhook_fired_at: Unix time of the last successful delivery of the webhook.
    """

    def __init__(self, seed: int, now: float, accounts: Sequence[SimulatedAccount], publishing: LogList | None) -> None:
        super().__init__(publishing)
        self.now = now
        self.random = Random(seed)  # noqa: S311 - simulation, not cryptography
        self.accounts = tuple(accounts)
        self.activity = {name: LogList() for name in ("webhooks", "messaging", "workflow_event", "api_request")}
        self.posts: dict[str, Post] = {}
        self.token_expiries: dict[str, float] = {}
        self.incidents: tuple[Incident, ...] = ()
        self.webhook_fired_at: float | None = None
        self._machine_id = self.random.getrandbits(40)
        self._id_count = 0
        self._wait_count = 0
        self._waiting: list[tuple[float, int, Process]] = []

    def start(self, process: Process) -> None:
        """Run a process until it waits for the first time."""
        time = next(process, None)
        if time is not None:
            self._wait_count += 1
            heappush(self._waiting, (max(time, self.now), self._wait_count, process))

    def advance(self, now: float) -> None:
        """Advance to a Unix time. An earlier time changes nothing."""
        while self._waiting and self._waiting[0][0] <= now:
            self.now, _, process = heappop(self._waiting)
            self.start(process)
        self.now = max(self.now, now)

    def object_id(self) -> str:
        """Return a new id that begins with its creation time in seconds, like an ObjectId of MongoDB."""
        self._id_count += 1
        return f"{int(self.now):08x}{self._machine_id:010x}{self._id_count % 0x1000000:06x}"

    def renew_token(self, account: SimulatedAccount) -> None:
        self.token_expiries[account.id] = self.now + TOKEN_LIFETIME

    def incidents_of(self, account: SimulatedAccount) -> Iterator[Incident]:
        """Yield the incidents that affect an account, the newest first."""
        return (incident for incident in reversed(self.incidents) if incident.affects(account))

    def is_connected(self, account: SimulatedAccount) -> bool:
        return not any(incident.kind.disconnects for incident in self.incidents_of(account))

    def shown_fields(self, document: str, account: SimulatedAccount | None = None) -> JsonObject:
        """Return the fields of a document, of an account or the workspace, that incidents change."""
        fields: JsonObject = {}
        for incident in sorted(self.incidents, key=lambda incident: incident.until):
            if document in incident.kind.shown and (account is None or incident.affects(account)):
                fields |= incident.kind.shown[document](incident)
        return fields
