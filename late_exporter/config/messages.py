"""How messages name mistakes: values without secrets, suggestions, pydantic's errors in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from late_exporter.config.options import Location
from late_exporter.masking import mask_keys

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_SHOWN = 100
"""Maximum number of characters of a value that messages quote."""

MAX_SEARCHED = 4096
"""Length beyond which messages do not quote a value."""

MIN_SIMILARITY = 0.63  # of a name and a suggestion, where 1 is equal

KEY_NAMES = ("key", "api_key", "api.key", "ZERNIO_API_KEY", "LATE_API_KEY")
"""Keys of the configuration file by which users try to set an API key."""

REASONS = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be one value",
    "too_short": "must name at least one",
    "tuple_type": "must be a list",
}
"""Messages that are clearer than those of pydantic, by its error types."""

# As in URLs with a user or parameters.
_SENSITIVE = re.compile("[@?#]|password", re.IGNORECASE)


def quote(value: object) -> str:
    """Return a value as messages quote it, after a space; nothing for types other than texts.

    Keys are masked, and long texts cut. A text that may contain a password is not quoted.
    """
    import json  # noqa: PLC0415 - takes long to import

    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str) or len(value) > MAX_SEARCHED or _SENSITIVE.search(value):
        return ""
    text = mask_keys(value)
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "..."
    return " " + json.dumps(text, ensure_ascii=False)


def suggest(name: str, candidates: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean ...?" for the candidate that is closest to a name, or nothing.

    Args:
        name: What the user wrote.
        candidates: What the user may have meant.
        prefix: Beginning of many candidates, which is ignored: it makes all of them look close.
    """
    import difflib  # noqa: PLC0415 - for messages only

    names = {candidate.removeprefix(prefix): candidate for candidate in sorted(candidates)}
    matches = difflib.get_close_matches(name.removeprefix(prefix), names, 1, MIN_SIMILARITY)
    return f"; did you mean {names[matches[0]]}?" if matches else ""


def not_supported(place: str, supported: Iterable[str]) -> str:
    return f"{place}: not supported; supported are {', '.join(supported)}"


def key_in_file(place: str, remedy: str) -> str:
    """Return the error about an API key within the configuration file.

    Args:
        place: File, line and name of the key.
        remedy: How to name the file that has the API key instead.
    """
    return (
        f"{place}: API keys are not read from this file, which others may read; write the key to "
        f"a file of its own, and {remedy}"
    )


def describe(
    error: ErrorDetails,
    place: Callable[[Location], str],
    supported: Iterable[str],
    *,
    with_value: bool,
) -> str:
    """Return an error of pydantic as one line that begins with the place of the value.

    Args:
        error: An error of a ValidationError.
        place: Returns flag, variable, or file and line of a location.
        supported: Keys beside a key that is not supported.
        with_value: Whether to quote the value, which may be a secret.
    """
    location = tuple(key for key in error["loc"] if key != "[key]")
    if error["type"] == "missing":
        return f"{place(location[:-1])}: {location[-1]} is missing"
    if error["type"] == "extra_forbidden":
        return not_supported(place(location), supported)
    value = quote(error["input"]) if with_value else ""
    reason = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{place(location)}{value}: {REASONS.get(error['type'], reason)}"
