"""Structured logs on standard error: a line per entry, without secrets and forged lines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from late_exporter.format import iso_time
from late_exporter.masking import KEY_PATTERN, SECRETS

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict, Processor, WrappedLogger

_REDACTED = "[redacted]"
_TOKENS = re.compile(rf"{KEY_PATTERN}|bearer\s+[^\s\"']+", re.IGNORECASE)


class Logger(Protocol):
    """Logger of events with fields."""

    def debug(self, event: str, **fields: Any) -> object:
        """Log an event of interest in troubleshooting."""

    def info(self, event: str, **fields: Any) -> object:
        """Log a normal event."""

    def warning(self, event: str, **fields: Any) -> object:
        """Log an event that may need action."""


def configure(level: str = "info", format: str = "logfmt", secrets: Iterable[str] = ()) -> None:  # noqa: A002 - the name of the flag
    """Write all logs, also those of libraries, to standard error, without ``secrets``.

    May be called again.
    """
    for secret in secrets:
        SECRETS.add(secret)
    # An entry that cannot be written is dropped: a report of it would print its arguments.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers = [_create_handler(format)]  # At once: other threads may be logging.
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of each write to a connection whose client has left.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def get_logger(name: str) -> BoundLogger:
    """Return a logger whose methods take an event and fields, as in ``info("done", logs=3)``."""
    import structlog  # noqa: PLC0415 - commands that do not log start faster without it

    stdlib = structlog.stdlib
    processors = (stdlib.filter_by_level, stdlib.ProcessorFormatter.wrap_for_formatter)
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), processors, stdlib.BoundLogger
    )
    return logger


add_secret = SECRETS.add


def redact(text: str) -> str:
    """Replace registered secrets, keys and bearer tokens in a text."""
    return _TOKENS.sub(_REDACTED, SECRETS.mask(text, _REDACTED, short=True))


def escape(text: str) -> str:
    """Escape line breaks and control characters as in JSON."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _create_handler(format: str) -> logging.Handler:  # noqa: A002 - as in configure
    from structlog.processors import JSONRenderer, LogfmtRenderer, format_exc_info  # noqa: PLC0415 - as in get_logger
    from structlog.stdlib import ProcessorFormatter  # noqa: PLC0415

    render: Processor = LogfmtRenderer(bool_as_flag=False)
    if format == "json":
        render = JSONRenderer(ensure_ascii=False)
    handler = logging.StreamHandler()
    handler.setFormatter(ProcessorFormatter(processors=[format_exc_info, _entry, render, _escape]))
    return handler


def _entry(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Return the fields of an entry in their order.

    Values are numbers, or texts without secrets.
    """
    record = event.pop("_record")
    event.pop("_from_structlog")
    level = record.levelname.lower()
    entry: EventDict = {
        "ts": iso_time(record.created * 1000, precise=True),
        "level": "warn" if level == "warning" else level,
        "msg": event.pop("event"),
        "logger": record.name,
        **event,
    }
    return {
        key: value if isinstance(value, int | float | None) else redact(str(value))
        for key, value in entry.items()
    }


def _escape(_logger: WrappedLogger, _method: str, line: Any) -> str:
    return escape(line)
