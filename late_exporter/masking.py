"""The API keys in a text, which every output masks."""

from __future__ import annotations

import re

KEY_PATTERN = r"(?i:sk[_-](?=[a-z]*[0-9]|[a-z]{20})[0-9a-z]{8,}|zrk[_-][0-9a-z_-]{8,})"
"""Regular expression of an API key, or of the beginning of one.

The API documentation describes unrestricted keys as ``sk_`` and 64 hexadecimal digits, and restricted ones as ``zrk_``
and an unspecified rest. Words such as ``task_completed`` do not match: they have no digit and fewer letters. Names of
options are also written with hyphens, so a key among them is as well.
"""


_key = re.compile(KEY_PATTERN)


def mask_keys(text: str, mask: str = "***") -> str:
    """Replace every API key in a text."""
    if "_" not in text and "-" not in text:  # like most ids, which are many
        return text
    return _key.sub(mask, text)
