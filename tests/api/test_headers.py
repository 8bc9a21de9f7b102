from __future__ import annotations

import pytest

from late_exporter.api.headers import request_id


@pytest.mark.parametrize("text", ["req_01JABC", "5f0c9d3e-7a6b-4f6e-9d0b-2a1c3b4d5e6f", "iad1::abc-123", "x" * 64])
def test_request_ids(text: str) -> None:
    """A short printable id is used."""
    assert text == request_id({"X-Request-Id": f" {text} "})


@pytest.mark.parametrize("text", [None, "", " ", "x" * 65, "a b", "a\x1b[31m", "a\nb", "ä", "<b>", 'a"b'])
def test_unusable_request_ids(text: str | None) -> None:
    """An id that is missing, long or not plain is left out."""
    assert "" == request_id({} if text is None else {"X-Request-Id": text})
