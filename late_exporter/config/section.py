"""A section of a file as a pydantic model, and the reasons of its errors."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import ErrorDetails

from late_exporter.config.types import EMPTY_VALUES

REASONS = MappingProxyType(
    {
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "dict_type": "must be a mapping",
        "extra_forbidden": "unknown",
        "model_type": "must be a mapping",
        "string_type": "must be one value",
        "tuple_type": "must be a list",
    }
)
"""Messages for pydantic's error types."""


class Section(BaseModel):
    """A section of a file: unknown keys are rejected, keys without a value keep their default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_values(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in cls.model_fields or value not in EMPTY_VALUES}


def error_reason(error: ErrorDetails) -> str:
    """Return what the value must be, as a message."""
    match error["type"]:
        case "literal_error":
            words = re.findall("'([^']*)'", error["ctx"]["expected"])
            return f"must be one of {', '.join(filter(None, words))}"
        case "value_error":
            return str(error["ctx"]["error"])
        case kind:
            return REASONS.get(kind) or str(error["msg"]).removeprefix("Input ")
