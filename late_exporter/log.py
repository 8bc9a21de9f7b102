"""Structured logs on standard error: one line an entry, without secrets, and without lines forged by foreign text."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, cast
from urllib.parse import quote

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = [
    "FORMATS",
    "LEVELS",
    "add_secret",
    "configure",
    "escape",
    "get_logger",
    "reconfigure",
    "redact",
    "redacted_traceback",
]

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json")

_REDACTED = "[redacted]"
_LEAST = 12
"""Characters of a secret that give it away."""
_TOKENS = re.compile(r"sk_[0-9a-fA-F]{8,}|bearer\s+[^\s\"']+", re.IGNORECASE)
_LEVEL_NAMES = {"DEBUG": "debug", "INFO": "info", "WARNING": "warn", "ERROR": "error", "CRITICAL": "error"}

_spellings: tuple[str, ...] = ()


def configure(level: str = "info", format: str = "logfmt", secrets: Iterable[str] = ()) -> None:  # noqa: A002 - the flag's word
    """Send everything that is logged, by us and by libraries, to standard error.

    Args:
        level: One of LEVELS; what is below is dropped.
        format: One of FORMATS.
        secrets: Texts that must never be written; they replace those of an earlier call.
    """
    _set_secrets(secrets)
    reconfigure(level, format)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True


def reconfigure(level: str, format: str) -> None:  # noqa: A002 - as in configure
    """Log from another level on, or in another format; what is secret stays so."""
    root = logging.getLogger()
    root.handlers = [_Handler(format), *(handler for handler in root.handlers if not isinstance(handler, _Handler))]
    root.setLevel(level.upper())


def get_logger(name: str) -> BoundLogger:
    """A logger whose methods take an event and fields: ``log.info("poll done", feed="publishing", logs=3)``."""
    processors: list[Processor] = [structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter]
    logger = structlog.wrap_logger(logging.getLogger(name), processors=processors, wrapper_class=BoundLogger)
    return cast("BoundLogger", logger)


def add_secret(value: str) -> None:
    """Never write this text again, nor its usual spellings in other texts."""
    global _spellings  # noqa: PLW0603 - logging is global, and so is what it must not say
    spellings = {*_spellings, value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe="")} - {""}
    _spellings = tuple(sorted(spellings, key=len, reverse=True))


def redact(text: str) -> str:
    """The text without registered secrets, and without what looks like a key or a bearer token."""
    for spelling in _spellings:
        text = text.replace(spelling, _REDACTED)
    while beginning := max((_beginning(spelling, text) for spelling in _spellings), key=len, default=""):
        text = text.replace(beginning, _REDACTED)
    return _TOKENS.sub(_REDACTED, text)


def _beginning(secret: str, text: str) -> str:
    """As much of a secret as stands in a text that was cut in the middle of it."""
    at = text.find(secret[:_LEAST])
    if len(secret) < _LEAST or at < 0:
        return ""
    return "".join(char for char, _ in takewhile(lambda pair: pair[0] == pair[1], zip(secret, text[at:], strict=False)))


def escape(text: str) -> str:
    """The text with everything that could start a line or steer a terminal written as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def redacted_traceback(error: BaseException) -> str:
    """A traceback for people; it is indented, so that no line of it can pass itself off as an entry."""
    lines = redact("".join(traceback.format_exception(error))).splitlines()
    return "".join(f"  {escape(line)}\n" for line in lines)


class _Handler(logging.StreamHandler[Any]):
    """Writes to whatever standard error is at the time, and says nothing of an entry that it cannot write."""

    def __init__(self, format: str) -> None:  # noqa: A002 - as in configure
        super().__init__(sys.stderr)
        render = _render_json if format == "json" else _render_logfmt
        self.setFormatter(ProcessorFormatter(processors=[structlog.processors.format_exc_info, _entry, render]))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name logging gave it
        """The inherited one prints the arguments, and with them perhaps a key."""
        if not isinstance(sys.exc_info()[1], OSError):
            sys.stderr.write(f'level=error msg="an entry could not be written" logger={escape(record.name)}\n')


def _set_secrets(secrets: Iterable[str]) -> None:
    global _spellings  # noqa: PLW0603 - as in add_secret
    _spellings = ()
    for secret in secrets:
        add_secret(secret)


def _entry(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What is written of an entry, in its order; a field cannot pass itself off as the time or the level."""
    record = event.pop("_record")
    event.pop("_from_structlog")
    head = {
        "ts": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        + f"{int(record.created * 1000) % 1000:03}Z",
        "level": _LEVEL_NAMES.get(record.levelname, "info"),
        "msg": _cleaned(event.pop("event")),
        "logger": record.name,
    }
    return {**head, **{key: _cleaned(value) for key, value in event.items() if key not in head}}


def _cleaned(value: object) -> Any:
    """The value as JSON has it, with redacted texts."""
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            return {redact(str(key)): _cleaned(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_cleaned(item) for item in value]
        case _:
            return redact(str(value))


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return escape(json.dumps(event, ensure_ascii=False))


def _render_logfmt(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return " ".join(f"{_bare(key)}={_logfmt(value)}" for key, value in event.items())


def _bare(key: str) -> str:
    return re.sub(r'[\s="\\]', "_", escape(key))


def _logfmt(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text and text.isprintable() and not set(text) & set(' ="\\'):
        return text
    return escape(json.dumps(text, ensure_ascii=False))
