from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import log
from late_exporter.feeds.schema import SECRET
from late_exporter.masking import mask_keys

UNRESTRICTED = "sk_" + "0123456789abcdef" * 4
RESTRICTED = "zrk_" + "4f1d8c6b" * 8
KEYS = [
    UNRESTRICTED,
    "sk_" + "a" * 64,
    "SK_0123456789ABCDEF",
    "sk-0123456789abcdef",
    RESTRICTED,
    "zrk_" + "e" * 64,
    "zrk_Qm-9_vX2-tR",
    "ZRK-0123456789abcdef",
]
CONTEXTS = [
    "{}",
    "a {} b",
    "key={}",
    '{{"key": "{}"}}',
    "https://example.org/?key={}&a=b",
    "Bearer {}",
    "a%3D{}",
    "\\n{}",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_keys_are_masked(key: str, context: str) -> None:
    """No trace of a key is left, and the text around it is."""
    assert context.format("***") == mask_keys(context.format(key))
    assert key[4:12] not in log.redact(context.format(key))


@pytest.mark.parametrize("key", KEYS)
def test_samples_of_the_api_hold_no_key(key: str) -> None:
    """A sample of a drifted field masks a key as well."""
    assert "***" == SECRET.sub("***", key)


@pytest.mark.parametrize("cut", range(12, 68, 8))
def test_a_truncated_key_is_masked(cut: int) -> None:
    """The beginning of a key is masked, if it is long enough to help someone."""
    assert ("***", "***") == (mask_keys(RESTRICTED[:cut]), mask_keys(UNRESTRICTED[:cut]))


@given(before=st.text(), after=st.text("/?&=:;\"' \n%"), key=st.sampled_from([UNRESTRICTED, RESTRICTED]))
def test_a_key_is_masked_in_any_text(before: str, after: str, key: str) -> None:
    """Whatever is around a key, and however it is quoted, no output contains it."""
    text = f"{before}{key}{after}"
    for spelling in (text, repr(text), json.dumps(text), quote(text)):
        assert key[4:16] not in mask_keys(spelling)
        assert key[4:16] not in log.redact(spelling)


@pytest.mark.parametrize(
    "text", ["sk_0123", "zrk_0123", "task_completed", "disk_usage_in_bytes", "risk_assessment", "zrk"]
)
def test_other_words_are_kept(text: str) -> None:
    """Words that only look similar stay, and so do names of series."""
    assert text == mask_keys(text)
