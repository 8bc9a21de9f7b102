"""Build a webhook of every event with the models of zernio-sdk, in a process of its own like ``zernio_client``.

The argument is the timestamp. Print a JSON list of the event, the text of the body, and whether the client has a model
of that body. An event without a model has only the documented fields that all have in common.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID, uuid5

from late.models._generated import models  # type: ignore[import-untyped]
from pydantic import AnyUrl, AwareDatetime, BaseModel, EmailStr

MAX_DEPTH = 6
"""Depth below which optional fields and lists are left empty; some models contain themselves."""

NAMESPACE = UUID(int=0)
SIMPLE_VALUES: dict[object, Any] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    Any: "anything",
    date: "2026-11-25",
    datetime: "2026-11-25T12:00:00Z",
    AwareDatetime: "2026-11-25T12:00:00Z",
    AnyUrl: "https://example.org/",
    EmailStr: "someone@example.org",
    UUID: str(NAMESPACE),
}


def example(annotation: Any, depth: int) -> Any:
    """Return a value that a model accepts for a type."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (Annotated, Union, types.UnionType):
        value = example(next(argument for argument in arguments if argument is not type(None)), depth)
    elif origin is list:
        value = [example(arguments[0], depth + 1)] if depth < MAX_DEPTH else []
    elif origin is dict:
        value = {"key": example(arguments[1], depth + 1)} if depth < MAX_DEPTH else {}
    elif origin is Literal:
        value = arguments[0]
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        value = next(iter(annotation)).value
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        value = fields_of(annotation, depth + 1)
    else:
        value = SIMPLE_VALUES[annotation]
    return value


def fields_of(model: type[BaseModel], depth: int = 0) -> Any:
    """Return values of the fields of a model."""
    if "root" in model.model_fields:
        return example(model.model_fields["root"].annotation, depth)
    return {
        field.alias or name: example(field.annotation, depth)
        for name, field in model.model_fields.items()
        if field.is_required() or depth < MAX_DEPTH
    }


def payload_models() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every event that has a model of its body, with that model."""
    for name, model in vars(models).items():
        if name.startswith("WebhookPayload") and isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields["event"].annotation
            for vocabulary in get_args(annotation) or (annotation,):
                if vocabulary is not type(None):
                    yield from ((event.value, model) for event in vocabulary)


def body_of(event: str, model: type[BaseModel] | None, timestamp: str) -> str:
    """Return the body of a webhook, with an id of its own."""
    common = {"id": str(uuid5(NAMESPACE, event)), "event": event, "timestamp": timestamp}
    if model is None:
        return json.dumps(common)
    return model.model_validate({**fields_of(model), **common}).model_dump_json(by_alias=True)


def main() -> None:
    """Print the webhooks."""
    (timestamp,) = sys.argv[1:]
    by_event = dict(payload_models())
    events = sorted({*by_event, *(event.value for event in models.Event)})
    webhooks = [(event, body_of(event, by_event.get(event), timestamp), event in by_event) for event in events]
    json.dump(webhooks, sys.stdout)


if __name__ == "__main__":
    main()
