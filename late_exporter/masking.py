"""Secrets in texts, which every output masks: API keys, and the secrets of this process."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import takewhile

KEY_PATTERN = r"(?i:sk[_-](?=[a-z]*[0-9]|[a-z]{20})[0-9a-z]{8,}|zrk[_-][0-9a-z_-]{8,})"
"""Regular expression of an API key, or of the beginning of one.

The API documentation describes unrestricted keys as ``sk_`` and 64 hexadecimal digits, and
restricted ones as ``zrk_`` and an unspecified rest. Words such as ``task_completed`` do not match:
they have no digit and fewer letters. Names of options are also written with hyphens, so a key among
them is as well.
"""

MIN_START = 16
"""Length from which the beginning of a secret is masked."""

_KEY = re.compile(KEY_PATTERN)


class Secrets:
    """Spellings of secrets, indexed by their beginning, so that masking takes no longer the more there are."""

    def __init__(self) -> None:
        self._by_start: dict[str, list[str]] = {}
        self._short: list[str] = []

    def add(self, value: str) -> None:
        """Mask a text from now on, even if it is quoted, escaped or encoded, or a key without its prefix."""
        for spelling in set(_spellings(value)) - {""}:
            is_long = len(spelling) >= MIN_START
            same = self._by_start.setdefault(spelling[:MIN_START], []) if is_long else self._short
            if spelling not in same:
                same.append(spelling)

    def mask(self, text: str, mask: str, *, short: bool) -> str:
        """Replace secrets and the beginnings of long ones; ``short`` ones may be words, so not in labels."""
        found = self.candidates(text)
        if not found and not short:
            return text
        for spelling in sorted([*found, *(self._short if short else ())], key=len, reverse=True):
            text = text.replace(spelling, mask)
        while start := max(
            (_common_start(spelling, text) for spelling in found), key=len, default=""
        ):
            text = text.replace(start, mask)
        return text

    def candidates(self, text: str) -> list[str]:
        """Return the long spellings that a text may contain, or the beginning of which."""
        by_start = self._by_start
        places = range(len(text) - MIN_START + 1) if by_start else ()
        starts = {
            text[at : at + MIN_START] for at in places if text[at : at + MIN_START] in by_start
        }
        return [spelling for start in starts for spelling in by_start[start]]


def _spellings(secret: str) -> Iterator[str]:
    import json  # noqa: PLC0415 - takes long to import
    from urllib.parse import quote  # noqa: PLC0415 - as above

    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""))
    bare = re.sub("^(?:sk|zrk)[_-]", "", secret)
    if len(bare) < MIN_START:
        return
    yield bare
    for offset in range(
        3
    ):  # Base64 encodes three bytes at a time, so that it depends on the length of what is before.
        data = bytes(offset) + bare.encode()
        # Without the characters that also encode a part of what is before or after.
        text = binascii.b2a_base64(data, newline=False)[
            (offset * 8 + 5) // 6 : len(data) * 8 // 6
        ].decode()
        yield from (text, text.translate({ord("+"): "-", ord("/"): "_"}))


def _common_start(secret: str, text: str) -> str:
    """Return the beginning of a secret with which a truncated text ends."""
    at = text.find(secret[:MIN_START])
    same = (
        takewhile(lambda pair: pair[0] == pair[1], zip(secret, text[at:], strict=False))
        if at >= 0
        else ()
    )
    return "".join(char for char, _ in same)


SECRETS = Secrets()
"""Secrets of this process."""


def mask_keys(text: str, mask: str = "***") -> str:
    """Replace every API key in a text, and the secrets of this process that are long enough to be no word."""
    text = SECRETS.mask(text, mask, short=False)
    if "_" not in text and "-" not in text:  # like most ids, which are many
        return text
    return _KEY.sub(mask, text)
