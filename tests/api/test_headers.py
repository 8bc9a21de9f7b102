from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from late_exporter.api.headers import parse_date, request_id


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
    assert text == request_id({"X-Request-Id": f" {text} "})


@pytest.mark.parametrize("text", [None, "", " ", "x" * 65, "a b", "a\x1b[31m", "a\nb", "ä", "<b>", 'a"b'])
def test_unusable_request_ids(text: str | None) -> None:
    """An id that is missing, long or not plain is left out."""
    assert request_id({} if text is None else {"X-Request-Id": text}) == ""
