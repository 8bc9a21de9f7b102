from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from late_exporter.api.client import network_error
from late_exporter.api.responses import (
    MAX_MESSAGE_LENGTH,
    MAX_NAME_LENGTH,
    parse_date,
    parse_error,
    request_id,
    status_error,
)

KEY = "sk_" + "0123456789abcdef" * 4
OTHER_KEYS = ("sk_" + "fedcba9876543210" * 4, "zrk_" + "AbcXyz0123456789" * 3)


def message(status: int, **document: object) -> str:
    """Return the message for an error response."""
    return str(status_error(status, parse_error(json.dumps(document).encode(), KEY)))


@pytest.mark.parametrize("key", [KEY, *OTHER_KEYS])
@pytest.mark.parametrize("field", ["error", "code", "param", "required_group", "details"])
@pytest.mark.parametrize("before", ["", "x" * 30, "x" * (MAX_NAME_LENGTH - 8), "x" * (MAX_MESSAGE_LENGTH - 8)])
def test_keys_are_redacted(key: str, field: str, before: str) -> None:
    """No part of a key, of this or another workspace, is in a message, however the text is cut."""
    value: object = {"field": before + " " + key} if field == "details" else before + " " + key
    text = message(403, **{"error": "Forbidden", field: value})
    assert key[:12] not in text
    assert key[-8:] not in text


def test_messages_are_bounded_and_in_one_line() -> None:
    """Every text of an error is short and in one line, whatever the API sends."""
    junk = "line one\nline two \x1b[31m\u202e\u2028" + "y" * 100_000
    text = message(403, error=junk, code=junk, param=junk, required_group=junk)
    assert text.isprintable()
    assert len(text) < MAX_MESSAGE_LENGTH + 3 * MAX_NAME_LENGTH + 100


@pytest.mark.parametrize(
    "reason",
    [
        "self-signed certificate (_ssl.c:1028)",
        "unable to get local issuer certificate (_ssl.c:1028)",
        "unable to verify the first certificate (_ssl.c:1028)",
    ],
)
def test_an_unknown_ca_has_a_remedy(reason: str) -> None:
    """Every version of OpenSSL has words of its own."""
    error = httpx.ConnectError(f"certificate verify failed: {reason}")
    _, failure = network_error(error, "zernio.com", 30.0)
    remedy = "to trust it, set SSL_CERT_FILE to a file with the certificate of its CA"
    assert str(failure) == f"no connection to zernio.com: certificate verify failed: {reason}; {remedy}"
    _, failure = network_error(httpx.ConnectError("Hostname mismatch"), "zernio.com", 30.0)
    assert str(failure) == "no connection to zernio.com: Hostname mismatch"


@pytest.fixture
def local_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the local time be five hours behind UTC."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("local_zone")
@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 2026 08:49:37 GMT",
        "Sunday, 06-Nov-26 08:49:37 GMT",
        "Sun Nov  6 08:49:37 2026",
        "Sun, 06 Nov 2026 08:49:37 -0000",
    ],
)
def test_dates(text: str) -> None:
    """A date is in UTC in each format of HTTP, wherever the exporter runs."""
    assert parse_date(text) == 1793954977


@pytest.mark.parametrize("text", ["req_01JABC", "5f0c9d3e-7a6b-4f6e-9d0b-2a1c3b4d5e6f", "iad1::abc-123", "x" * 64])
def test_request_ids(text: str) -> None:
    """A short printable id is used."""
    assert request_id({"X-Request-Id": f" {text} "}) == text


@pytest.mark.parametrize("text", [None, "", " ", "x" * 65, "a b", "a\x1b[31m", "a\nb", "ä", "<b>", 'a"b'])
def test_unusable_request_ids(text: str | None) -> None:
    """An id that is missing, long or not plain is left out."""
    assert request_id({} if text is None else {"X-Request-Id": text}) == ""
