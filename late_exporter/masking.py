"""Secrets in texts, which every output masks: API keys, and the secrets of this process."""

from __future__ import annotations

import os.path
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
        self._by_start: dict[str, list[str]] = {}
        self._short: list[str] = []

    def add(self, value: str) -> None:
        """Mask a text from now on, also if it is quoted, escaped, or a key without its prefix."""
        import json  # noqa: PLC0415 - takes long to import
        from urllib.parse import quote  # noqa: PLC0415 - as above

        spellings = {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe="")}
        bare = re.sub("^(?:sk|zrk)[_-]", "", value)
        if len(bare) >= MIN_LONG:
            spellings.add(bare)
        for spelling in spellings - {""}:
            same = self._short
            if len(spelling) >= MIN_LONG:
                same = self._by_start.setdefault(spelling[:MIN_LONG], [])
            if spelling not in same:
                same.append(spelling)

    def mask(self, text: str, mask: str, *, short: bool) -> str:
        """Replace secrets, and the beginnings of long ones, which a text may have been cut to.

        ``short`` also replaces those that may be words, so not in labels.
        """
        long = sorted(self.candidates(text), key=len, reverse=True)
        found = sorted([*long, *self._short], key=len, reverse=True) if short else long
        for spelling in found:
            text = text.replace(spelling, mask)
        while any(spelling[:MIN_LONG] in text for spelling in long):
            starts = [_common_start(spelling, text) for spelling in long]
            text = text.replace(max(starts, key=len), mask)
        return text

    def candidates(self, text: str) -> list[str]:
        """Return the long secrets that have their beginning in common with a part of a text."""
        if not self._by_start:
            return []
        starts = {text[at : at + MIN_LONG] for at in range(len(text) - MIN_LONG + 1)}
        return [spelling for start in starts for spelling in self._by_start.get(start, ())]


def _common_start(secret: str, text: str) -> str:
    """Return the beginning of a secret that a text contains."""
    at = text.find(secret[:MIN_LONG])
    return os.path.commonprefix([secret, text[at:]]) if at >= 0 else ""  # noqa: RUF071 - texts


SECRETS = Secrets()
"""Secrets of this process."""


def mask_keys(text: str, mask: str = "***") -> str:
    """Replace every API key in a text, and the long secrets of this process."""
    text = SECRETS.mask(text, mask, short=False)
    if "_" not in text and "-" not in text:  # like most ids, which are many
        return text
    return _KEY.sub(mask, text)
