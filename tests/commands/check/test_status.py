from __future__ import annotations

import httpx
import pytest

from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.quota import RateLimiter
from late_exporter.commands.check.api import check_api
from late_exporter.commands.check.finding import Finding, Level, format_findings
from late_exporter.commands.check.status import check_status_feeds
from late_exporter.errors import ApiUnavailable, BadPayload, Forbidden, LateError, RateLimited, Unauthorized
from late_exporter.feeds import FEEDS
from late_exporter.feeds.status import STATUS_FEEDS
from late_exporter.ingest.status_poller import StatusConfig
from tests.support.status_api import SECRETS, WEBHOOK, StatusApi

CONFIG = StatusConfig(intervals=dict.fromkeys(STATUS_FEEDS, 300.0))


async def findings_of(api: StatusApi, config: StatusConfig = CONFIG) -> dict[str, Finding]:
    """Return the findings by feed."""
    findings = await check_status_feeds(api, config)
    return {finding.subject.removeprefix("status feed "): finding for finding in findings}


async def test_every_feed_has_a_finding() -> None:
    """Each feed that is read costs one request and has one finding."""
    api = StatusApi()
    findings = await findings_of(api)
    assert {name: (Level.OK, f"reads {feed.path}") for name, feed in STATUS_FEEDS.items()} == {
        name: (finding.level, finding.message) for name, finding in findings.items()
    }
    assert dict.fromkeys(api.documents, 1) == dict(api.paths)


async def test_only_configured_feeds_are_checked() -> None:
    api = StatusApi()
    assert ["billing"] == list(await findings_of(api, StatusConfig(intervals={"billing": 60.0})))
    assert {} == await findings_of(api, StatusConfig())
    assert ["posts"] == list(
        await findings_of(api, StatusConfig(intervals={"posts": 60.0, "accounts": 60.0}, max_accounts=0))
    )
    assert {"/v1/billing", "/v1/posts"} == set(api.paths)


LACKING = "403: the API key lacks a right: insufficient; grant the key the group accounts"


@pytest.mark.parametrize(
    ("failure", "message", "hint"),
    [
        (Forbidden(LACKING, required_group="accounts"), f"off: {LACKING}", "or leave it out of --status.feeds"),
        (Forbidden("403: no"), "off: 403: no", "leave it out of --status.feeds"),
        (None, "off: 404: the API has no /v1/accounts", "leave it out of --status.feeds"),
        (ApiUnavailable("500: oops", status=500), "500: oops", ""),
        (Unauthorized("401: rejected", status=401), "401: rejected", ""),
        (BadPayload("the response is not JSON"), "the response is not JSON", ""),
    ],
)
async def test_a_feed_that_cannot_be_read(failure: LateError | None, message: str, hint: str) -> None:
    """A feed that is off or fails is a warning that says why, because the logs are counted anyway."""
    api = StatusApi()
    api.documents["/v1/accounts"] = failure
    findings = await findings_of(api)
    assert (Level.WARNING, message, hint) == (
        findings["cooldowns"].level,
        findings["cooldowns"].message,
        findings["cooldowns"].hint,
    )
    assert [Level.OK] * 4 == [finding.level for name, finding in findings.items() if name != "cooldowns"]


async def test_no_request_follows_a_rate_limit() -> None:
    """A further request would wait for the next minute."""
    api = StatusApi()
    api.documents["/v1/accounts/health"] = RateLimited("429: slow down", until=0.0)
    assert ["posts", "accounts"] == list(await findings_of(api))


@pytest.mark.parametrize("body", [{"webhooks": [WEBHOOK]}, {"webhooks": WEBHOOK}, [WEBHOOK], str(WEBHOOK)])
async def test_no_secret_of_a_webhook_is_printed(body: object) -> None:
    api = StatusApi()
    api.documents["/v1/webhooks/settings"] = body
    text = "\n".join(format_findings(list((await findings_of(api)).values())))
    assert "webhooks" in text
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(("status", "is_checked"), [(200, True), (403, True), (401, False), (429, False), (500, False)])
async def test_status_feeds_are_checked_if_the_api_answers(status: int, *, is_checked: bool) -> None:
    """A key without the right to logs may read status feeds; after other failures these would fail too."""
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        is_list = request.url.path.endswith("/logs")
        body = b'{"logs": []}' if is_list else b'{"accounts": []}'
        headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "599"}
        return httpx.Response(status if is_list else 200, headers=headers, stream=httpx.ByteStream(body))

    config = StatusConfig(intervals={"accounts": 30.0})
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LateClient(
            http, base_url="http://127.0.0.1/api", key=ApiKey("key"), rate_limiter=RateLimiter(1.0), timeout=5.0
        )
        findings = await check_api("acme", client, list(FEEDS.values()), interval=30.0, quota_share=0.5, status=config)
    messages = {finding.subject: finding.message for finding in findings}
    assert is_checked == ("/api/v1/accounts/health" in paths) == ("status feed accounts" in messages)
    assert "polling takes about 8" in messages["quota"]
