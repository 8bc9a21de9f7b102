from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from late.models._generated import models  # type: ignore[import-untyped]

from late_exporter import log
from late_exporter.api.client import ApiKey, LateClient, RateLimiter
from late_exporter.commands.check import Finding, Level, check_api, format_findings
from late_exporter.feeds import FEEDS
from late_exporter.feeds.schema import (
    DOCUMENTED_PATHS,
    LATE_CONNECTIONS,
    LATE_PUBLISHING,
    ZERNIO_LOGS,
    Schema,
    SchemaChecker,
)
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import Deviation, IncCounter
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from late_exporter.store import open_store
from tests.feeds.test_feeds import CONNECTED, CONNECTION, POST_LOG, PUBLISHED, anything
from tests.ingest.test_poller import Rig
from tests.ingest.test_poller import row as polled

DRIFTED = "late_exporter_api_schema_drift_total"
KEY = "sk_" + "0" * 64
CAPTION = "Meet us at 5 pm behind the old harbour"
MISSING = object()

Row: TypeAlias = dict[str, Any]

LOGGED: Row = {
    "type": "publishing",
    "action": "post.published",
    "user_id": "64e1f0a9e2b5af0012ab34de",
    "platform": "instagram",
    "account_id": "64e1f0a9e2b5af0012ab34ef",
    "status": "success",
    "status_code": 200,
    "error_message": None,
    "error_code": None,
    "duration_ms": 2340,
    "endpoint": "/api/v1/posts",
    "request_body": '{"content": "Hello"}',
    "response_body": "{}",
    "created_at": "2026-11-01T10:00:05.000Z",
    "metadata": "{}",
    "request_id": "req_1",
}
PAGINATION = {"total": 150, "limit": 50, "skip": 0, "pages": 3, "hasMore": True}
DOCUMENTATION: tuple[tuple[Schema, Row], ...] = (
    (LATE_PUBLISHING, PUBLISHED),
    (LATE_PUBLISHING, POST_LOG),
    (LATE_CONNECTIONS, CONNECTION),
    (LATE_CONNECTIONS, CONNECTED),
    (ZERNIO_LOGS, LOGGED),
)
EXPECTED = {
    "publishing": {"_id", "platform", "action", "status", "createdAt"},
    "connections": {"_id", "platform", "eventType", "createdAt"},
    "zernio": {"type", "action", "status", "created_at"},
}
SHAPES = {"publishing": LATE_PUBLISHING, "connections": LATE_CONNECTIONS, "zernio": ZERNIO_LOGS}


def body(*rows: object, **around: object) -> bytes:
    """An answer."""
    return json.dumps({"logs": rows, **around}).encode()


def changed(row: Row, **changes: object) -> Row:
    """A row with some fields changed."""
    return {name: value for name, value in {**row, **changes}.items() if value is not MISSING}


def found(shape: Schema, *rows: object, **around: object) -> list[Deviation]:
    """What is not as documented in one of the rows."""
    looks = SchemaChecker(shape).check(body(*rows, **around))
    return [deviation for deviations in looks for deviation in deviations]


# What the documentation has is no drift.


@pytest.mark.parametrize(("shape", "row"), DOCUMENTATION)
def test_the_documentation_is_no_drift(shape: Schema, row: Row) -> None:
    """Neither the documented examples, alone or in a page, nor those with every optional field null deviate."""
    nulls = {name: None if not field.required else row[name] for name, field in shape.items()}
    for rows in ([row], [row, nulls], []):
        assert [] == found(shape, *rows)
        assert [] == found(shape, *rows, pagination=PAGINATION)
        assert [] == found(shape, *rows, count=1, postId="65f1c0a9e2b5af0012ab34cd")


def test_what_the_official_client_knows_is_documented() -> None:
    """The fields are those of late-sdk, down to the nested objects."""
    for shape, model in ((LATE_PUBLISHING, models.PostLog), (LATE_CONNECTIONS, models.ConnectionLog)):
        assert {field.alias or name for name, field in model.model_fields.items()} == set(shape)
    nested = {
        "request": models.Request,
        "response": models.Response,
        "error": models.Error,
        "success": models.Success,
        "context": models.Context,
    }
    for name, model in nested.items():
        assert set(model.model_fields) == set({**LATE_PUBLISHING, **LATE_CONNECTIONS}[name].fields)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_expected(name: str) -> None:
    """Only what every log has can be missing."""
    assert EXPECTED[name] == {field for field, about in SHAPES[name].items() if about.required}
    assert {(field, "missing") for field in EXPECTED[name]} == {(one.path, one.kind) for one in found(SHAPES[name], {})}


def test_a_simulated_week_is_no_drift() -> None:
    """Every page of a week of the simulated world, and the logs of its posts, are as documented."""
    world = SimulatedWorld(7, 1_763_993_002.0, logs_per_day=800)
    service = SimulatedApi(world, clock=lambda: world.now, rate_limit=10**6)
    headers = {"Authorization": f"Bearer {KEY}"}
    sentinels = {
        "/v1/posts/logs": SchemaChecker(LATE_PUBLISHING),
        "/v1/connections/logs": SchemaChecker(LATE_CONNECTIONS),
    }
    for path, sentinel in sentinels.items():
        looked = 0
        while True:
            answer = service.handle("GET", path, f"limit=100&skip={looked}", headers).body
            assert () == sentinel.check(answer)
            rows = json.loads(answer)["logs"]
            for post in {row["postId"]["_id"] for row in rows[:3] if "postId" in row}:
                assert () == sentinel.check(service.handle("GET", f"/v1/posts/{post}/logs", "", headers).body)
            if not rows:
                break
            looked += len(rows)
        assert looked > (3000 if "posts" in path else 50)


# What is not documented is drift.

DEVIATIONS: tuple[tuple[Schema, Row, list[Deviation]], ...] = (
    (LATE_PUBLISHING, {**PUBLISHED, "region": "eu-west"}, [Deviation("region", "unknown", "string", "eu-west")]),
    (LATE_PUBLISHING, {**PUBLISHED, "score": 0.5}, [Deviation("score", "unknown", "number", "0.5")]),
    (LATE_PUBLISHING, {**PUBLISHED, "beta": True}, [Deviation("beta", "unknown", "boolean", "true")]),
    (LATE_PUBLISHING, {**PUBLISHED, "beta": None}, [Deviation("beta", "unknown", "null")]),
    (LATE_PUBLISHING, {**PUBLISHED, "meta": {"a": {"b": 1}}}, [Deviation("meta", "unknown", "object", "of length 1")]),
    (LATE_PUBLISHING, {**PUBLISHED, "tags": [1, 2]}, [Deviation("tags", "unknown", "array", "of length 2")]),
    (LATE_PUBLISHING, {**PUBLISHED, "caption": CAPTION}, [Deviation("caption", "unknown", "string", "of length 38")]),
    (
        LATE_PUBLISHING,
        changed(PUBLISHED, status=MISSING, state="success"),
        [Deviation("state", "unknown", "string", "success"), Deviation("status", "missing")],
    ),
    (LATE_PUBLISHING, changed(PUBLISHED, platform=None), [Deviation("platform", "missing")]),
    (LATE_PUBLISHING, changed(PUBLISHED, profileId=MISSING, endpoint=None), []),
    (LATE_PUBLISHING, changed(PUBLISHED, statusCode="200"), [Deviation("statusCode", "type", "string", "200")]),
    (LATE_PUBLISHING, changed(PUBLISHED, statusCode=True), [Deviation("statusCode", "type", "boolean", "true")]),
    (LATE_PUBLISHING, changed(PUBLISHED, statusCode=200.5), []),
    (LATE_PUBLISHING, changed(PUBLISHED, createdAt=1730455), [Deviation("createdAt", "type", "number", "1730455")]),
    (LATE_PUBLISHING, changed(PUBLISHED, postId=7), [Deviation("postId", "type", "number", "7")]),
    (LATE_PUBLISHING, changed(PUBLISHED, postId={"id": "a"}), [Deviation("postId.id", "unknown", "string", "a")]),
    (LATE_PUBLISHING, changed(PUBLISHED, request=[]), [Deviation("request", "type", "array", "of length 0")]),
    (
        LATE_PUBLISHING,
        changed(PUBLISHED, response={"errorKode": "RATE_LIMITED", "errorCode": 7, "rawBody": {"x": 1}}),
        [
            Deviation("response.errorKode", "unknown", "string", "RATE_LIMITED"),
            Deviation("response.errorCode", "type", "number", "7"),
        ],
    ),
    (LATE_CONNECTIONS, changed(CONNECTION, metadata={"any": ["thing"]}), []),
    (LATE_CONNECTIONS, changed(CONNECTION, error={"rawResponse": {"x": 1}}), []),
    (
        LATE_CONNECTIONS,
        changed(CONNECTION, context={"isBYOK": "no"}),
        [Deviation("context.isBYOK", "type", "string", "no")],
    ),
    (
        LATE_CONNECTIONS,
        changed(CONNECTED, success={"permissions": "read"}),
        [Deviation("success.permissions", "type", "string", "read")],
    ),
    (LATE_CONNECTIONS, changed(CONNECTION, eventType=MISSING), [Deviation("eventType", "missing")]),
    (ZERNIO_LOGS, {**LOGGED, "id": 12}, [Deviation("id", "unknown", "number", "12")]),
    (ZERNIO_LOGS, changed(LOGGED, created_at=MISSING), [Deviation("created_at", "missing")]),
    (ZERNIO_LOGS, changed(LOGGED, duration_ms="12"), [Deviation("duration_ms", "type", "string", "12")]),
    (ZERNIO_LOGS, changed(LOGGED, metadata={"now": "an object"}), []),
)


@pytest.mark.parametrize(("shape", "row", "deviations"), DEVIATIONS)
def test_deviations(shape: Schema, row: Row, deviations: list[Deviation]) -> None:
    """A field that is not as documented is found by its path, in an answer of good logs too."""
    assert deviations == found(shape, row)
    good = next(good for of, good in DOCUMENTATION if of is shape)
    looks = SchemaChecker(shape).check(body(good, row, good, pagination=PAGINATION))
    assert ([(), tuple(deviations), ()] if deviations else []) == list(looks)


AROUND: tuple[tuple[Row, list[Deviation]], ...] = (
    ({"pagination": PAGINATION, "nextCursor": "abc"}, [Deviation("nextCursor", "unknown", "string", "abc")]),
    ({"pagination": 7}, [Deviation("pagination", "type", "number", "7")]),
    (
        {"pagination": {"total": "150", "more": True}},
        [
            Deviation("pagination.total", "type", "string", "150"),
            Deviation("pagination.more", "unknown", "boolean", "true"),
            Deviation("pagination.hasMore", "missing"),
        ],
    ),
)


@pytest.mark.parametrize(("around", "deviations"), AROUND)
def test_what_stands_around_the_logs(around: Row, deviations: list[Deviation]) -> None:
    """What has changed around the logs is found with each of them."""
    assert [tuple(deviations)] * 2 == list(SchemaChecker(LATE_PUBLISHING).check(body(PUBLISHED, POST_LOG, **around)))


def test_an_odd_row_is_no_drift() -> None:
    """A row that is no object has no fields; the others are looked at all the same."""
    looks = SchemaChecker(LATE_PUBLISHING).check(body(None, [], {**PUBLISHED, "a": 1}, "x"))
    assert [(), (), (Deviation("a", "unknown", "number", "1"),), ()] == list(looks)


@pytest.mark.parametrize("answer", [b"", b"\xff", b"[]", b"7", b'{"logs": null}', b'{"logs": {}}', b"[" * 99_999])
def test_what_is_no_answer(answer: bytes) -> None:
    """What holds no logs is for others to refuse."""
    assert () == SchemaChecker(LATE_PUBLISHING).check(answer)


@given(st.lists(anything, max_size=4), anything)
def test_any_json(rows: list[Any], pagination: object) -> None:
    """Whatever JSON comes, there are as many looks as rows or none, and what is said of it is short."""
    for shape in SHAPES.values():
        looks = SchemaChecker(shape).check(body(*rows, pagination=pagination))
        assert len(looks) in {0, len(rows)}
        for deviation in (deviation for deviations in looks for deviation in deviations):
            assert deviation.kind in {"unknown", "missing", "type"}
            assert len(deviation.path) <= 64
            assert len(deviation.sample) <= 40
            assert (deviation.path + deviation.sample).isprintable()


@given(st.binary())
def test_any_bytes(answer: bytes) -> None:
    """Whatever bytes come, nothing breaks."""
    assert () == SchemaChecker(LATE_PUBLISHING).check(answer)


@given(st.dictionaries(st.text(max_size=90), st.none(), min_size=1, max_size=5))
def test_any_name(fields: dict[str, None]) -> None:
    """Names of strangers are cut and cleaned, so that they can be labels and lines."""
    for deviation in found(LATE_PUBLISHING, {**PUBLISHED, **{f"x{name}": None for name in fields}}):
        assert 0 < len(deviation.path) <= 64
        assert deviation.path.isprintable()
        assert deviation.path.encode()


def test_names_are_bounded() -> None:
    """Past 50 unknown fields further ones are one, once a log, and documented ones keep their names."""
    sentinel = SchemaChecker(LATE_PUBLISHING)
    seen = {
        deviation.path
        for number in range(200)
        for deviation in sentinel.check(body({**PUBLISHED, f"field{number}": 1, f"more{number}": 1, "status": 1}))[0]
    }
    assert 50 + len({"other", "status"}) == len(seen)
    last = sentinel.check(body({**PUBLISHED, "status": 1, "yet": 1, "another": 2}))
    assert {("status", "type"), ("other", "unknown")} == {(deviation.path, deviation.kind) for deviation in last[0]}


@pytest.mark.parametrize(
    ("value", "sample"),
    [
        (KEY, "of length 67"),
        ("sk_0123456789abcdef", "***"),
        ("65f1c0a9e2b5af0012ab34cd", "***"),
        ("550e8400-e29b-41d4-a716-446655440000", "***-e29b-41d4-a716-***"),
        ("4915112345678", "***"),
        ("dGhpc2lzYXNlY3JldA", "***"),
        ("user@example.com", "of length 16"),
        ("two words", "of length 9"),
        ("", "of length 0"),
        ("x\n", "of length 2"),
        ("2026-11-01T10:00:05Z", "2026-11-01T10:00:05Z"),
        (10**60, f"1{'0' * 39}"),
    ],
)
def test_what_is_shown_of_a_value(value: object, sample: str) -> None:
    """Words of a machine are shown, texts of people and what looks like a secret are not."""
    (deviation,) = found(LATE_PUBLISHING, {**PUBLISHED, "novelty": value})
    assert sample == deviation.sample


# What becomes of it.


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A poller that has not begun."""
    with closing(open_store("sqlite://")) as store:
        yield Rig(store)


def told(rig: Rig) -> list[Mapping[str, Any]]:
    """What the log says of drift."""
    return [fields for level, event, fields in rig.diary.lines if (level, event) == ("warning", "the API has changed")]


async def test_a_poller_counts_and_tells_once(rig: Rig) -> None:
    """Logs count once however often they are read, in each status; a kind of drift is told once a process."""
    rig.rows = [polled(2, "pending", state="ok", postId="p2"), polled(1, state="ok")]
    for _ in range(3):
        await rig.poller.poll()
        rig.now += 700.0
    assert (
        2
        == rig.value(DRIFTED, "publishing", "state", "unknown")
        == rig.saved(DRIFTED, "publishing", "state", "unknown")
    )
    assert [{"field": "state", "kind": "unknown", "type": "string", "sample": "ok"}] == told(rig)

    rig.rows = [polled(3, state="ok"), polled(2, state="ok", postId="p2"), polled(1, state="ok")]
    await rig.poller.poll()
    assert 4 == rig.value(DRIFTED, "publishing", "state", "unknown")
    assert 1 == len(told(rig))

    rig.start()
    rig.rows.insert(0, polled(4, platform=None))
    await rig.poller.poll()
    assert 4 == rig.value(DRIFTED, "publishing", "state", "unknown")
    assert 1 == rig.value(DRIFTED, "publishing", "platform", "missing")
    assert [("platform", "missing"), ("state", "unknown")] == [(one["field"], one["kind"]) for one in told(rig)]


async def test_what_could_not_be_saved_is_not_counted_twice(rig: Rig) -> None:
    """Where a commit fails, the logs are read again and their drift counts once."""
    await rig.poller.poll()
    rig.rows = [polled(1, state="ok")]
    rig.store.failing.add("commit")
    await rig.poller.poll()
    rig.store.failing.clear()
    await rig.poller.poll()
    assert 1 == rig.value(DRIFTED, "publishing", "state", "unknown")


async def test_a_log_without_an_id_drifts_too(rig: Rig) -> None:
    """The rename of the id itself is seen, though its log cannot be counted."""
    odd = polled(1)
    rig.rows = [{**{name: value for name, value in odd.items() if name != "_id"}, "id": odd["_id"]}]
    for _ in range(2):
        await rig.poller.poll()
    assert 1 == rig.value(DRIFTED, "publishing", "_id", "missing") == rig.value(DRIFTED, "publishing", "id", "unknown")
    assert 1 == rig.value("late_exporter_entries_rejected_total", "publishing", "no_id")


def test_the_governor_bounds_fields() -> None:
    """A workspace brings so many unknown fields at most, across restarts; documented ones take no place."""

    def drift(field: str, kind: str = "unknown") -> IncCounter:
        return IncCounter(DRIFTED, ("acme", "publishing", field, kind))

    governor = LabelLimiter(CATALOGUE, max_values=2)
    governor.restore([(DRIFTED, drift("a").labels)])
    documented = [drift(path, "missing") for path in DOCUMENTED_PATHS]
    assert [*documented, drift("a"), drift("b")] == list(governor.apply([*documented, drift("a"), drift("b")]))
    overflow = IncCounter("late_exporter_label_overflow_total", ("acme", DRIFTED, "field"))
    assert [overflow, drift("other")] == list(governor.apply([drift("c")]))


def test_nothing_private_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither captions nor keys nor user names are in the line that the log has of drift."""
    stream = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    log.configure("info", "logfmt", secrets=["hunter2hunter2"])
    private = {"text": CAPTION, "key": KEY, "owner": "@acmecorp", "password": "hunter2hunter2", "words": ["a b c"]}
    (page,) = [FEEDS["publishing"].parse(body({**PUBLISHED, **private}))]
    logger = log.get_logger("late_exporter")
    for deviation in page.entries[0].deviations:
        logger.warning("the API has changed", **msgspec.to_builtins(deviation))
    written = stream.getvalue()
    assert len(private) == written.count("the API has changed")
    for secret in (CAPTION, "harbour", KEY, "acmecorp", "hunter2", "a b c", PUBLISHED["request"]["contentPreview"]):
        assert secret not in written


def answered(*rows: Row) -> httpx.Response:
    """A page."""
    return httpx.Response(200, stream=httpx.ByteStream(body(*rows, pagination=PAGINATION)))


async def checked(*rows: Row) -> Sequence[Finding]:
    """What a check finds at an API with such publishing logs."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/connections/logs"):
            return answered(CONNECTION)
        if not request.url.path.endswith("/v1/posts/logs"):
            return httpx.Response(404, stream=httpx.ByteStream(b"{}"))
        return answered(*rows[: int(request.url.params["limit"])])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LateClient(
            http, base_url="http://127.0.0.1/api", key=ApiKey(KEY), rate_limiter=RateLimiter(1.0), timeout=5.0
        )
        return await check_api("acme", client, list(FEEDS.values()), interval=30.0, share=0.5, clock=time.time)


async def test_check_warns_of_drift() -> None:
    """Each deviation of the first page has a line with a sample and what to do, in text and JSON."""
    drifted = changed(PUBLISHED, caption=CAPTION, status=MISSING, statusCode="200")
    findings = await checked(PUBLISHED, drifted, drifted)
    warnings = [finding for finding in findings if finding.level is Level.WARNING]
    assert [
        "statusCode has another type than documented: string 200",
        "caption is not documented: string of length 38",
        "status is missing",
    ] == [finding.message for finding in warnings]
    assert {("acme", "/v1/posts/logs", "the API has changed; look for a newer late-exporter")} == {
        (finding.workspace, finding.subject, finding.hint) for finding in warnings
    }
    for printed in ("\n".join(format_findings(findings)), msgspec.json.encode(findings).decode()):
        assert 3 == printed.count("look for a newer late-exporter")
        assert CAPTION not in printed


async def test_check_is_content_with_what_is_documented() -> None:
    """An API as documented has no such line."""
    assert {Level.OK} == {finding.level for finding in await checked(PUBLISHED, {**POST_LOG, "userId": None})}
