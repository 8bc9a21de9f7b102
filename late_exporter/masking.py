"""Secrets in texts, which every output masks: API keys, and the passwords of URLs and connection strings."""

from __future__ import annotations

import re

KEY_PATTERN = r"(?i:sk[_-](?=[a-z]*[0-9]|[a-z]{20})[0-9a-z]{8,}|zrk[_-][0-9a-z_-]{8,})"
"""Regular expression of an API key, or of the beginning of one.

The API documentation describes unrestricted keys as ``sk_`` and 64 hexadecimal digits, and restricted ones as ``zrk_``
and an unspecified rest. Words such as ``task_completed`` do not match: they have no digit and fewer letters. Names of
options are also written with hyphens, so a key among them is as well.
"""

MAX_SHOWN = 100
"""Maximum number of characters of a value that messages quote."""

_KEY = re.compile(KEY_PATTERN)
_PASSWORD = re.compile(r"(password\s*=\s*)(?:'[^']*'|\S+)", re.IGNORECASE)
_USER = re.compile(r":[^@]*@")


def mask_keys(text: str, mask: str = "***") -> str:
    """Replace every API key in a text."""
    if "_" not in text and "-" not in text:  # like most ids, which are many
        return text
    return _KEY.sub(mask, text)


def quote(value: object, *, url: bool = False) -> str:
    """Return a value as messages quote it: keys and passwords masked, long texts cut, and nothing for other types."""
    import json  # noqa: PLC0415 - takes long to import

    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str):
        return ""
    text = mask_keys(value)
    text = _PASSWORD.sub(r"\1***", text)
    text = mask_url(text) if url or "://" in text or _USER.search(text) else text
    return " " + json.dumps(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...", ensure_ascii=False)


def mask_url(url: str) -> str:
    """Mask user, password, query and fragment of a URL, or all after the scheme if they cannot be told apart."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    if "@" in rest and re.search(r"[?#]", rest):
        return f"{scheme}{slashes}***"
    rest = re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)
    return scheme + slashes + re.sub(r"([?#]).+", r"\1***", rest, flags=re.DOTALL)
