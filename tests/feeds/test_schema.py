from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from late.models._generated import models  # type: ignore[import-untyped]

from late_exporter.feeds import DOCUMENTED_PATHS, GENERATIONS
from late_exporter.feeds.connections import ConnectionRow
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.publishing import PublishingRow
from late_exporter.feeds.schema import MAX_PATHS, DocumentReader, documented_fields
from late_exporter.feeds.zernio import ZernioRow
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.model import Deviation, IncCounter
from tests.feeds.test_feeds import CONNECTED, CONNECTION, MISSING, PUBLISHED, body, with_changes
from tests.feeds.test_zernio import LOG as LOGGED
from tests.support.clock import VirtualClock
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

DRIFTED = "late_exporter_api_schema_drift_total"
KEY = "sk_" + "0" * 64

Row: TypeAlias = dict[str, Any]

PAGINATION = {"total": 150, "limit": 50, "skip": 0, "pages": 3, "hasMore": True}
LATE, ZERNIO = GENERATIONS["late"], GENERATIONS["zernio"]
LATE_PUBLISHING, LATE_CONNECTIONS, ZERNIO_LOGS = LATE["publishing"], LATE["connections"], ZERNIO["publishing"]
DOCUMENTATION: tuple[tuple[Feed, Row], ...] = (
    (LATE_PUBLISHING, PUBLISHED),
    (LATE_CONNECTIONS, CONNECTION),
    (LATE_CONNECTIONS, CONNECTED),
    (ZERNIO_LOGS, LOGGED),
    (
        ZERNIO["api_request"],
        # The logs of requests to the API have some fields of their own.
        {**LOGGED, **dict.fromkeys(("method", "path", "operation_id", "ip_address", "user_agent"), "203.0.113.77")},
    ),
)
ROW_TYPES = {LATE_PUBLISHING.path: PublishingRow, LATE_CONNECTIONS.path: ConnectionRow, ZERNIO_LOGS.path: ZernioRow}


@pytest.fixture(autouse=True)
def new_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept new unknown fields, although the feeds of this process have met others in other tests."""
    monkeypatch.setattr("late_exporter.feeds.schema.MAX_PATHS", 1_000_000)


def deviations_of(feed: Feed, *rows: object, **around: object) -> list[Deviation]:
    """Return the deviations of rows."""
    return [deviation for entry in feed.parse(body(*rows, **around)).entries for deviation in entry.deviations]


# Documented responses.


@pytest.mark.parametrize(("feed", "row"), DOCUMENTATION)
def test_documented_examples_have_no_deviations(feed: Feed, row: Row) -> None:
    """The documented examples have no deviations, alone, in a page, and with null in all optional fields."""
    fields = documented_fields(ROW_TYPES[feed.path])
    nulls = {name: row[name] if field.is_required else None for name, field in fields.items()}
    for rows in ([row], [row, nulls], []):
        assert deviations_of(feed, *rows) == []
        assert deviations_of(feed, *rows, pagination=PAGINATION) == []
        assert deviations_of(feed, *rows, count=1, postId="65f1c0a9e2b5af0012ab34cd") == []


def test_schemas_match_the_official_client() -> None:
    """The fields are those of late-sdk, including nested objects."""
    for row_type, model in ((PublishingRow, models.PostLog), (ConnectionRow, models.ConnectionLog)):
        assert {field.alias or name for name, field in model.model_fields.items()} == set(documented_fields(row_type))
    nested = {
        "request": models.Request,
        "response": models.Response,
        "error": models.Error,
        "success": models.Success,
        "context": models.Context,
    }
    for name, model in nested.items():
        object_type = {**documented_fields(PublishingRow), **documented_fields(ConnectionRow)}[name].object_type
        assert object_type is not None
        assert set(model.model_fields) == set(documented_fields(object_type))


# Deviations.

DEVIATIONS: tuple[tuple[Feed, Row, list[Deviation]], ...] = (
    (LATE_PUBLISHING, {**PUBLISHED, "region": "eu-west"}, [Deviation("region", "unknown", "string")]),
    (LATE_PUBLISHING, {**PUBLISHED, "meta": {"a": {"b": 1}}}, [Deviation("meta", "unknown", "object")]),
    (
        LATE_PUBLISHING,
        with_changes(PUBLISHED, status=MISSING, state="success"),
        [Deviation("state", "unknown", "string"), Deviation("status", "missing")],
    ),
    (LATE_PUBLISHING, with_changes(PUBLISHED, statusCode="200"), [Deviation("statusCode", "type", "string")]),
    (
        LATE_PUBLISHING,
        with_changes(PUBLISHED, response={"errorKode": "RATE_LIMITED", "errorCode": 7, "rawBody": {"x": 1}}),
        [
            Deviation("response.errorKode", "unknown", "string"),
            Deviation("response.errorCode", "type", "number"),
        ],
    ),
    (LATE_CONNECTIONS, with_changes(CONNECTION, metadata={"any": ["thing"]}), []),
    (
        LATE_CONNECTIONS,
        with_changes(CONNECTION, context={"isBYOK": "no"}),
        [Deviation("context.isBYOK", "type", "string")],
    ),
    (ZERNIO_LOGS, with_changes(LOGGED, created_at=MISSING), [Deviation("created_at", "missing")]),
    (ZERNIO_LOGS, with_changes(LOGGED, request_body={"now": "an object"}), []),
    (ZERNIO_LOGS, with_changes(LOGGED, metadata={"a": 1}), [Deviation("metadata", "type", "object")]),
)


@pytest.mark.parametrize(("feed", "row", "deviations"), DEVIATIONS)
def test_deviations(feed: Feed, row: Row, deviations: list[Deviation]) -> None:
    """A deviation is reported with its path, also in a page of valid logs."""
    assert deviations == deviations_of(feed, row)
    good = next(good for of, good in DOCUMENTATION if of is feed)
    entries = feed.parse(body(good, row, good, pagination=PAGINATION)).entries
    assert [entry.deviations for entry in entries] == [(), tuple(deviations), ()]


def test_deviations_of_the_envelope() -> None:
    """A deviation of the response is reported for each log."""
    page = LATE_PUBLISHING.parse(body(PUBLISHED, PUBLISHED, pagination={"total": [150], "more": True}, nextCursor="a"))
    assert [{(one.path, one.kind) for one in entry.deviations} for entry in page.entries] == [
        {("nextCursor", "unknown"), ("pagination.total", "type"), ("pagination.more", "unknown")}
    ] * 2


EXAMPLES = {("late", "publishing"): PUBLISHED, ("late", "connections"): CONNECTED, ("zernio", "publishing"): LOGGED}
UNDOCUMENTED = ("id", "_id", "profileId", "profile_id", "retryable")


@pytest.mark.parametrize("feed", EXAMPLES)
@given(data=st.data())
def test_the_fast_way_to_decode_changes_nothing(feed: tuple[str, str], data: st.DataObject) -> None:
    """A response without deviations has the same logs as by the way of the others, and no other takes the fast way."""
    generation, name = feed
    example = EXAMPLES[feed]
    fields = st.sampled_from([*example, *UNDOCUMENTED])
    odd = st.sampled_from([MISSING, None, "", "x" * 200, 200.0, 200.5, {"_id": "p"}, {"errorCode": "E"}, {"code": 7}])
    values = odd | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(), max_size=3)
    rows = [with_changes(example, **data.draw(st.dictionaries(fields, values, max_size=2))) for _ in range(2)]
    pagination = data.draw(
        st.sampled_from([PAGINATION, {**PAGINATION, "total": 1.0}, {**PAGINATION, "skip": "0"}, None])
    )
    answer = body(*rows, pagination=pagination)
    parse = GENERATIONS[generation][name].parse
    other_way = b'{"logs": NaN, ' + answer[1:]  # No typed pass accepts NaN, and of two equal names the last one counts.
    assert parse(other_way) == parse(answer)


def test_unknown_paths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 50 unknown fields further ones share a path, and are not masked; documented paths are kept."""
    masked: list[str] = []
    monkeypatch.setattr("late_exporter.feeds.schema.MAX_PATHS", MAX_PATHS)

    def mask(text: str) -> str:
        masked.append(text)
        return text

    monkeypatch.setattr("late_exporter.feeds.schema.mask_keys", mask)
    reader = DocumentReader()
    deviations: dict[Deviation, None] = {}
    for first in (0, 0, 5000):
        names = (f"field{number}" for number in range(first, first + 10_000))
        reader.read({**PUBLISHED, **dict.fromkeys(names, 1), "status": 1}, PublishingRow, deviations)

    expected = {*(f"field{number}" for number in range(50)), "other", "status"}
    assert {each.path for each in deviations} == expected
    assert len(masked) == MAX_PATHS == 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ip_address":"203.0.113.7', '{"ip_address":"***'),
        ("from 2001:db8::1 and ::1", "from *** and ***"),
        (f"key {KEY}", "key ***"),
        ("2026-11-24T12:00:00.123Z", "2026-11-24T12:00:00.123Z"),
        ("version 1.4.1385, skip=100", "version 1.4.1385, skip=100"),
    ],
)
def test_the_name_of_a_field_is_masked(text: str, expected: str) -> None:
    """An unknown field is reported without addresses, also if they are cut, and API keys, but with times."""
    (deviation,) = deviations_of(LATE_PUBLISHING, {**PUBLISHED, text: 1})
    assert deviation.path == expected


# Metrics, log messages and findings.


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[ExporterHarness]:
    """Return an exporter before its first poll."""
    api = FakeLateApi(World(VirtualClock()))
    with closing(ExporterHarness(api, tmp_path / "state.db", reconcile_interval=NEVER)) as exporter:
        yield exporter


def drift_messages(exporter: ExporterHarness) -> list[dict[str, object]]:
    """Return the fields of the log messages about schema drift."""
    return [one for _, event, one in exporter.log.records if event == "the API has changed"]


def test_drift_counts_per_log_and_is_logged_once(exporter: ExporterHarness) -> None:
    """Each log counts once per status; each deviation is logged once per process."""
    world = exporter.api.world
    (waiting,) = world.publish(1, state="ok", status="pending")
    world.publish(1, over=1, state="ok")
    exporter.poll_repeatedly(3)
    assert exporter.scrape().family(DRIFTED) == {("publishing", "state", "unknown"): 2}
    world.change(waiting, "success")
    exporter.poll_repeatedly(2)
    assert exporter.scrape().family(DRIFTED) == {("publishing", "state", "unknown"): 3}
    assert drift_messages(exporter) == [{"field": "state", "kind": "unknown", "type": "string"}]
    exporter.restart()
    world.publish(1, platform=None, state="ok")
    exporter.poll()
    assert (exporter.scrape().family(DRIFTED)) == {
        ("publishing", "state", "unknown"): 4,
        ("publishing", "platform", "missing"): 1,
    }
    assert len(drift_messages(exporter)) == 3, "the process that was started has its own messages"


def test_fields_are_limited() -> None:
    """A workspace has a limited number of unknown fields, across restarts; documented ones do not count."""

    def drift(field: str, kind: str = "unknown") -> IncCounter:
        return IncCounter(DRIFTED, ("acme", "publishing", field, kind))

    limiter = LabelLimiter(CATALOGUE, max_values=2)
    limiter.restore([(DRIFTED, drift("a").labels)])
    documented = [drift(path, "missing") for path in DOCUMENTED_PATHS]
    assert list(limiter.apply([*documented, drift("a"), drift("b")])) == [*documented, drift("a"), drift("b")]
    overflow = IncCounter("late_exporter_label_overflow_total", ("acme", DRIFTED, "field"))
    assert list(limiter.apply([drift("c")])) == [overflow, drift("other")]


# Values.


VALUES: tuple[tuple[Feed, Row, Row, list[str]], ...] = (
    (
        LATE["publishing"],
        PUBLISHED,
        {"status": "exploded", "action": "dance"},
        ["action", "status"],
    ),
    (LATE["publishing"], PUBLISHED, {"platform": "mastodon", "response": {"errorCode": "E1234"}}, []),
    (LATE["connections"], CONNECTED, {"eventType": "merge_success"}, ["eventType"]),
    (ZERNIO["publishing"], LOGGED, {"action": "post.teleported"}, ["action"]),
    (ZERNIO["publishing"], LOGGED, {"action": "post.platform.deleted"}, []),
    (ZERNIO["connections"], LOGGED, {"action": "account.merged"}, ["action"]),
    (
        ZERNIO["connections"],
        LOGGED,
        {"action": "account.connected", "metadata": '{"connectionMethod": "telepathy"}', "status": "done"},
        ["status", "metadata.connectionMethod"],
    ),
    *(
        (ZERNIO[name], LOGGED, {"action": "anything.at.all", "status": "done"}, ["status"])
        for name in ("webhooks", "messaging", "workflow_event", "api_request")
    ),
)


@pytest.mark.parametrize(("feed", "row", "changes", "expected"), VALUES)
def test_undocumented_values(feed: Feed, row: Row, changes: Row, expected: list[str]) -> None:
    """Values that no vocabulary has are reported, those of open vocabularies are not."""
    found = [one for one in deviations_of(feed, with_changes(row, **changes)) if one.kind == "value"]
    assert expected == [one.path for one in found]
