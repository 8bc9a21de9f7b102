from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import log
from late_exporter.config.messages import MAX_SEARCHED
from late_exporter.config.messages import quote as quote_value
from late_exporter.feeds.decoder import id_text, label_text, log_key
from late_exporter.masking import SECRETS, mask_keys

UNRESTRICTED = "sk_" + "0123456789abcdef" * 4
RESTRICTED = "zrk_" + "4f1d8c6b" * 8
KEYS = [UNRESTRICTED, "SK_0123456789ABCDEF", "sk-0123456789abcdef", RESTRICTED, "zrk_Qm-9_vX2-tR"]
CONTEXTS = ["a {} b", '{{"key": "{}"}}', "https://example.org/?key={}&a=b", "a%3D{}", "\\n{}"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_keys_are_masked(key: str, context: str) -> None:
    """No trace of a key is left, and the text around it is."""
    assert context.format("***") == mask_keys(context.format(key))
    assert key[4:12] not in log.redact(context.format(key))


@given(before=st.text(), after=st.text("/?&=:;\"' \n%"), key=st.sampled_from([UNRESTRICTED, RESTRICTED]))
def test_a_key_is_masked_in_any_text(before: str, after: str, key: str) -> None:
    """Whatever is around a key, and however it is quoted, no output contains it."""
    text = f"{before}{key}{after}"
    for spelling in (text, repr(text), json.dumps(text), quote(text)):
        assert key[4:16] not in mask_keys(spelling)
        assert key[4:16] not in log.redact(spelling)


@pytest.mark.parametrize("key", [UNRESTRICTED, RESTRICTED, "sk_" + "Kq7Zx/+w?~" * 4, "Zx9" * 16], ids=len)
def test_the_own_key_is_masked_in_any_spelling(key: str) -> None:
    """An API that echoes the key in another form gets it neither into a log nor a label, an id, a key or a message."""
    SECRETS.add(key)
    bare = key.removeprefix("sk_").removeprefix("zrk_")
    for echo in (key, bare, repr(key), json.dumps(key), quote(key, safe="")):
        for text in (echo, f"user {echo} end", f"cut {echo[:40]}"):
            for output in (mask_keys, log.redact, label_text, id_text, log_key, quote_value):
                assert bare[4:16] not in output(text), output


def test_short_secrets_are_masked_in_logs_only() -> None:
    """A password that is a word keeps no platform out of the metrics."""
    SECRETS.add("instagram")
    assert (label_text("instagram"), log.redact("instagram")) == ("instagram", "[redacted]")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("user:secret@host", ""),
        ("host=db PASSWORD = 'a secret'", ""),
        ("https://host/?key=secret", ""),
        ("host:1", ' "host:1"'),
        ("x" * MAX_SEARCHED, f' "{"x" * 100}..."'),
        ("x" * (MAX_SEARCHED + 1), ""),  # it would take long to search it for a password
    ],
)
def test_quoted_values(text: str, quoted: str) -> None:
    """What may contain a password is not quoted, and long texts are cut."""
    assert quoted == quote_value(text)


@pytest.mark.parametrize(
    "text", ["sk_0123", "zrk_0123", "task_completed", "disk_usage_in_bytes", "risk_assessment", "zrk"]
)
def test_other_words_are_kept(text: str) -> None:
    """Words that only look similar stay, and so do names of series."""
    assert text == mask_keys(text)
