"""Secrets in texts, which every output masks: API keys, and the secrets of this process."""

from __future__ import annotations

import re

KEY_PATTERN = r"(?i:sk[_-](?=[a-z]*[0-9]|[a-z]{20})[0-9a-z]{8,}|zrk[_-][0-9a-z_-]{8,})"
"""Regular expression of an API key, or of the beginning of one.

The API documentation describes unrestricted keys as ``sk_`` and 64 hexadecimal digits, and
restricted ones as ``zrk_`` and an unspecified rest. Words such as ``task_completed`` do not match:
they have no digit and fewer letters. Names of options are also written with hyphens, so a key among
them is as well.
"""

MIN_LONG = 16
"""Length from which a secret cannot be a word."""

_KEY = re.compile(KEY_PATTERN)


class Secrets:
    """Secrets as they may be written in a text.

    Long ones are indexed by their beginning, so that a text is not compared with all of them.
    """

    def __init__(self) -> None:
        self._by_start: dict[str, set[str]] = {}
        self._short: set[str] = set()

    def add(self, value: str) -> None:
        """Mask a text from now on, also if it is quoted, escaped, or a key without its prefix."""
        import json  # noqa: PLC0415 - takes long to import
        from urllib.parse import quote  # noqa: PLC0415 - as above

        spellings = {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe="")}
        bare = re.sub("^(?:sk|zrk)[_-]", "", value)
        if len(bare) >= MIN_LONG:
            spellings.add(bare)
        for spelling in spellings - {""}:
            if len(spelling) < MIN_LONG:
                self._short.add(spelling)
            else:
                self._by_start.setdefault(spelling[:MIN_LONG], set()).add(spelling)

    def mask(self, text: str, mask: str, *, short: bool) -> str:
        """Replace secrets, and the beginnings of long ones, which a text may have been cut to.

        ``short`` also replaces those that may be words, so not in labels.
        """
        at = 0
        while self._by_start and at <= len(text) - MIN_LONG:
            spellings = self._by_start.get(text[at : at + MIN_LONG], ())
            if spellings:
                rest = text[at:]
                length = max(_shared_length(each, rest) for each in spellings)
                text = text[:at] + mask + rest[length:]
                at += len(mask)
            else:
                at += 1
        if short:
            for spelling in sorted(self._short, key=len, reverse=True):
                text = text.replace(spelling, mask)
        return text


def _shared_length(first: str, second: str) -> int:
    """Return the length of the beginning that two texts have in common."""
    for length, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return length
    return min(len(first), len(second))


SECRETS = Secrets()
"""Secrets of this process."""


def mask_keys(text: str, mask: str = "***") -> str:
    """Replace every API key in a text, and the long secrets of this process."""
    text = SECRETS.mask(text, mask, short=False)
    if "_" not in text and "-" not in text:  # like most ids, which are many
        return text
    return _KEY.sub(mask, text)
