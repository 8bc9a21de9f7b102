"""The columns of tables and CSV files of logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType

from late_exporter.commands.terminal import Column
from late_exporter.feeds.feed import LogView
from late_exporter.format import human_duration, iso_time


def duration(log: LogView) -> str:
    return "" if log.duration is None else human_duration(log.duration / 1_000_000).replace(" ", "")


def _status(log: LogView) -> str:
    return f"{log.status}, was {log.previous_status}" if log.previous_status else log.status


def detail(log: LogView) -> str:
    return ": ".join(filter(None, (log.error_code, log.error))) or log.url


def _attempt(log: LogView) -> str:
    return "" if log.attempt is None else str(log.attempt)


def _field(name: str) -> Column:
    return Column(name, attrgetter(name))


_TIME = Column("TIME", lambda log: log.time)
_STATUS = Column("STATUS", _status, is_status=True)
_PLATFORM = Column("PLATFORM", lambda log: log.platform)
_ACCOUNT = Column("ACCOUNT", lambda log: log.username or log.account_id)
_ACTION = Column("ACTION", lambda log: log.action)
_TRY = Column("TRY", _attempt, align_right=True)
_HTTP = Column("HTTP", lambda log: log.status_code, align_right=True)
_TOOK = Column("TOOK", duration, align_right=True)
_LOG = Column("LOG", lambda log: log.log_id)
_DETAIL = Column("DETAIL", detail)
_EVENT = Column("EVENT", lambda log: log.action, is_status=True)
_METHOD = Column("METHOD", lambda log: log.method)
_POST = Column("POST", lambda log: log.post_id)
_ENDPOINT = Column("ENDPOINT", lambda log: log.endpoint)

TABLE_COLUMNS: Mapping[str, Sequence[Column]] = MappingProxyType(
    {
        "publishing": (_TIME, _STATUS, _PLATFORM, _ACCOUNT, _ACTION, _TRY, _HTTP, _TOOK, _POST, _DETAIL),
        "connections": (_TIME, _PLATFORM, _ACCOUNT, _EVENT, _METHOD, _TOOK, _LOG, _DETAIL),
    }
)
ACTIVITY_COLUMNS: Sequence[Column] = (_TIME, _STATUS, _PLATFORM, _ACCOUNT, _ACTION, _HTTP, _TOOK, _ENDPOINT, _DETAIL)
"""Columns of all other feeds."""

POST_COLUMNS: Sequence[Column] = (_TIME, _STATUS, _PLATFORM, _ACCOUNT, _ACTION, _TRY, _HTTP, _TOOK, _LOG, _DETAIL)

CSV_COLUMNS: Sequence[Column] = (
    Column("time", lambda log: (iso_time(log.created, precise=True) if log.created is not None else "") or log.time),
    *map(_field, ("log_id", "post_id", "platform", "account_id", "username", "action", "method", "status")),
    Column("attempt", _attempt),
    _field("status_code"),
    Column("duration_seconds", lambda log: "" if log.duration is None else f"{log.duration / 1_000_000:.15g}"),
    *map(_field, ("error_code", "error", "url", "endpoint")),
)
"""Columns of CSV output, the same for all feeds."""
