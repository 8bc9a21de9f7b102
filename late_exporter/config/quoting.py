"""Values as messages quote them, without keys and without the passwords of URLs and connection strings."""

from __future__ import annotations

import re

from late_exporter.masking import mask_keys

MAX_SHOWN = 100
"""Maximum number of characters of a value that messages quote."""

MAX_SEARCHED = 4096
"""Length beyond which messages give only the length of a value: anyone can send one, with a password at any place."""

_PASSWORD = re.compile(r"(password\s*=\s*)(?:'[^']*'|\S+)", re.IGNORECASE)

_URL_OR_USER = re.compile("://|:.*@", re.DOTALL)


def quote(value: object, *, url: bool = False) -> str:
    """Return a value as messages quote it: keys and passwords masked, long texts cut, and nothing for other types.

    Of a very long text only the length is given.
    """
    import json  # noqa: PLC0415 - takes long to import

    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_SEARCHED:
        return f" of {len(value)} characters"
    text = _PASSWORD.sub(r"\1***", mask_keys(value))
    text = mask_url(text) if url or _URL_OR_USER.search(text) else text
    return " " + json.dumps(
        text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...", ensure_ascii=False
    )


def mask_url(url: str) -> str:
    """Mask user, password, query and fragment of a URL, or all after the scheme if they cannot be told apart."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    if "@" in rest and re.search(r"[?#]", rest):
        return f"{scheme}{slashes}***"
    rest = re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)
    return scheme + slashes + re.sub(r"([?#]).+", r"\1***", rest, flags=re.DOTALL)
