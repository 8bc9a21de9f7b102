"""A section of the web configuration file as a pydantic model, and the reasons of pydantic's errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import ErrorDetails

from late_exporter.config.quoting import quote
from late_exporter.config.types import EMPTY_VALUES

REASONS = {
    "dict_type": "must be a mapping",
    "extra_forbidden": "unknown",
    "model_type": "must be a mapping",
    "string_type": "must be one value",
    "tuple_type": "must be a list",
}
"""Messages that are clearer than those of pydantic, by its error types."""


class Section(BaseModel):
    """A section of a file: unknown keys are rejected, keys without a value keep their default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_values(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            key: value
            for key, value in values.items()
            if key not in cls.model_fields or value not in EMPTY_VALUES
        }


def describe(error: ErrorDetails, place: str, *, with_value: bool) -> str:
    """Return an error as one line that begins with the place of the value; a value may be a secret."""
    if error["type"] == "missing":
        return f"{place}: {error['loc'][-1]} is missing"
    is_quoted = with_value and error["type"] != "extra_forbidden"
    value = quote(error["input"], url=str(error["loc"][-1]).endswith("url")) if is_quoted else ""
    reason = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{place}{value}: {REASONS.get(error['type'], reason)}"
