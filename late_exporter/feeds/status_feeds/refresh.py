"""What a status feed is, and what all of them share.

A refresh is a generator without I/O: it yields the requests of a feed, receives the response
bodies, and returns what it reports: gauges of the present, and conditions that people should know.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.feeds.decoder import error_text, label_text, load_object, parse_millis
from late_exporter.health import Condition
from late_exporter.model import LatestValue, Series, SetLatest

MAX_NAME_LENGTH = 40
MAX_ID_LENGTH = 64
MAX_TEXT_LENGTH = 200
"""Lengths at which what people read is cut; an id of the API has 24 characters."""

MAX_NUMBER = 2**63
"""Number that stands for a missing one: no amount of money or posts is so large."""


class StatusRequest(NamedTuple):
    """A GET request of a status feed."""

    path: str
    params: Mapping[str, str | int] = MappingProxyType({})


class AccountState(msgspec.Struct, frozen=True, gc=False):
    """Whether posts can be published to an account.

    Args:
        username: Its name, or else its id.
        risk: Reason why they cannot, as in ``posts.RISKS``; empty if they can.
        cooldown_until: End of its cooldown in Unix seconds; 0 without one.
    """

    platform: str
    username: str
    risk: str = ""
    cooldown_until: float = 0.0

    @property
    def name(self) -> str:
        """Its name for people."""
        return account_name(self.platform, self.username)


class AccountList(msgspec.Struct, frozen=True):
    """The accounts of a workspace by id.

    Args:
        is_complete: Whether a post to any other account cannot be published.
    """

    states: Mapping[str, AccountState] = MappingProxyType({})
    is_complete: bool = False


class RefreshContext(msgspec.Struct, frozen=True, kw_only=True):
    """Circumstances of a refresh.

    Args:
        workspace: First label of the gauges.
        now: Time of the refresh in milliseconds.
        max_accounts: Maximum number of accounts with gauges.
        has_profile: Whether the workspace is limited to one profile.
        previous: Gauges of the last refreshes of all feeds; one that has not changed keeps its
            time.
        accounts: The accounts, if they are known.
        logged_username: Returns the name of an account by its platform and id, as logs have it;
            empty if unknown.
    """

    workspace: str
    now: int
    max_accounts: int
    has_profile: bool = False
    previous: Mapping[Series, LatestValue] = MappingProxyType({})
    accounts: AccountList = AccountList()
    logged_username: Callable[[str, str], str] = lambda _platform, _account_id: ""

    @property
    def seconds(self) -> float:
        """Time of the refresh in Unix seconds."""
        return self.now / 1000

    def gauge(self, family: str, value: float | tuple[str, ...], *labels: str) -> SetLatest:
        series = (family, (self.workspace, *labels))
        previous = self.previous.get(series)
        is_same = previous is not None and previous.value == value
        at = previous.at if previous is not None and is_same else self.now
        return SetLatest(*series, at=at, value=value)

    def gauges(self, values: Mapping[str, float | None], *labels: str) -> list[SetLatest]:
        """Return gauges of some families, except those without a value."""
        return [
            self.gauge(family, float(value), *labels)
            for family, value in values.items()
            if value is not None
        ]


Report: TypeAlias = SetLatest | Condition | AccountList
Refresh: TypeAlias = Generator[StatusRequest, bytes, list[Report]]


class StatusFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A status feed.

    Args:
        name: Value of the label ``feed``.
        refresh: Yield the requests of a refresh, and return its reports; an ApiError may be thrown
            in.
        max_requests: Requests of a refresh that fit its interval; one that takes more is repeated
            later.
        has_profiles: Whether the API can limit it to a profile.
    """

    name: str
    refresh: Callable[[RefreshContext], Refresh]
    max_requests: int = 1
    has_profiles: bool = False


class Fields:
    """Fields of an object in a response; what is missing, or has another type, is None or empty."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        return label_text(value) if isinstance(value, str) and value else None

    def long_text(self, name: str) -> str:
        """Return a text that people wrote, or write to people."""
        value = self._values.get(name)
        return error_text(value) if isinstance(value, str) else ""

    def code(self, name: str) -> str:
        """Return a code, which is a text or a number."""
        number = self.number(name)
        return self.text(name) or "" if number is None else str(number)

    def texts(self, name: str) -> list[str]:
        value = self._values.get(name)
        items = value if isinstance(value, list) else []
        return [label_text(item) for item in items if isinstance(item, str) and item]

    def raw_text(self, name: str) -> str:
        """Return a text that goes back to the API as it is."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def id(self, name: str) -> str | None:
        """Return the id of an object, which the API may embed in place of its id."""
        return self.object(name).text("_id") or self.text(name)

    def flag(self, name: str) -> bool | None:
        value = self._values.get(name)
        return value if isinstance(value, bool) else None

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return value if -MAX_NUMBER < value < MAX_NUMBER else None

    def amount(self, name: str) -> float | None:
        """Return a number that is not negative."""
        number = self.number(name)
        return None if number is None or number < 0 else number

    def time(self, name: str) -> float | None:
        """Return a time in Unix seconds."""
        value = self._values.get(name)
        millis = parse_millis(value) if isinstance(value, str) else None
        return None if millis is None else millis / 1000

    def object(self, name: str) -> Fields:
        value = self._values.get(name)
        return Fields(value if isinstance(value, dict) else {})

    def objects(self, name: str) -> Iterator[Fields]:
        value = self._values.get(name)
        items = value if isinstance(value, list) else []
        return (Fields(item) for item in items if isinstance(item, dict))

    def required_objects(self, name: str) -> Iterator[Fields]:
        """Return the objects of a list; raise BadPayload if there is no list."""
        if not isinstance(self._values.get(name), list):
            raise BadPayload(f"the response has no list of {name}")
        return self.objects(name)


NO_FIELDS = Fields({})


def parse_response(body: bytes) -> Fields:
    """Return the fields of a response; raise BadPayload, without an excerpt, if it is no object."""
    try:
        return Fields(load_object(body))
    except (BadPayload, RecursionError):  # An excerpt may have the secret of a webhook.
        raise BadPayload("the response is not an object in JSON") from None


def account_name(platform: str, username: str) -> str:
    """Return the name of an account for people."""
    return f"{shorten(username)} ({shorten(platform)})"


def shorten(name: str) -> str:
    """Return a name or a caption, with an ellipsis in place of what is too long."""
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"
