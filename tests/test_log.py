import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import log

KEY = "sk_0123456789abcdef"


def log_output(act: Callable[[structlog.stdlib.BoundLogger], None], **options: str) -> str:
    """Return the output of a logger on standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        log.configure(**options, secrets=["hunter22"])
        act(log.get_logger("poller"))
    return stderr.getvalue()


def test_logfmt() -> None:
    """An entry is one line of time, level, message, logger and fields."""
    line = log_output(lambda logger: logger.info("poll done", feed="publishing", logs=3, took=0.5, error=None, ok=True))

    assert re.fullmatch(
        r'ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info msg="poll done" logger=poller '
        r"feed=publishing logs=3 took=0\.5 error= ok=true\n",
        line,
    )


def test_json() -> None:
    """The same entry in JSON keeps the types of its fields."""
    entry = json.loads(log_output(lambda logger: logger.warning("slow", took=1.5, feeds=2), format="json"))

    assert list(entry) == ["ts", "level", "msg", "logger", "took", "feeds"]
    assert (entry["level"], entry["msg"], entry["took"], entry["feeds"]) == ("warn", "slow", 1.5, 2)


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)], ids=str)
def test_levels(level: str, lines: int) -> None:
    """Entries below the level are dropped."""

    def act(logger: structlog.stdlib.BoundLogger) -> None:
        logger.debug("a")
        logger.info("b")
        logger.warning("c")
        logger.error("d")

    assert lines == len(log_output(act, level=level).splitlines())


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_secrets_are_redacted_everywhere(format: str) -> None:  # noqa: A002 - the flag's word
    """Registered secrets, keys and tokens are in no message, field, exception or traceback."""

    def act(logger: structlog.stdlib.BoundLogger) -> None:
        logger.info("key hunter22", header="Bearer abc.def", nested={"hunter22": [KEY, b"hunter22", {"k": KEY}]})
        try:
            _ = os.environ[f"hunter22 {KEY}"]
        except KeyError:
            logger.exception("it failed")
        logging.getLogger("uvicorn.error").error("key %s", KEY, exc_info=ValueError("hunter22"))

    text = log_output(act, format=format)

    assert len(text.splitlines()) == 3
    assert "[redacted]" in text
    assert [secret for secret in ("hunter22", KEY, "abc.def") if secret in text] == []


@pytest.mark.parametrize("format", ["logfmt", "json"])
@given(text=st.text())
def test_foreign_text_forges_nothing(format: str, text: str) -> None:  # noqa: A002 - as above
    """An entry is one printable line for any text, and so is one with a traceback."""
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        log.configure(format=format)
        log.get_logger("x").info(text, value=text)
        logging.getLogger("other").info("%s", text, exc_info=ValueError(text))
    lines = stderr.getvalue().splitlines()

    assert len(lines) == 2
    assert all(line.isprintable() and line.startswith(("ts=", '{"ts": ')) for line in lines)


def test_libraries_use_the_same_lines() -> None:
    """Entries of libraries have the same format."""
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)  # a server in an earlier test has raised it

    def act(_: structlog.stdlib.BoundLogger) -> None:
        logging.getLogger("uvicorn.error").info("listening on %s", ":10077", extra={"color_message": "x"})

    assert log_output(act).endswith('level=info msg="listening on :10077" logger=uvicorn.error\n')


def test_clients_that_left_write_no_lines() -> None:
    """Asyncio warns of each write to a connection that is gone, which strangers can cause without limit."""
    assert log_output(lambda _: logging.getLogger("asyncio").warning("socket.send() raised exception.")) == ""
    assert "level=error" in log_output(lambda _: logging.getLogger("asyncio").error("Task exception"))


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11"])
def test_libraries_log_no_requests(name: str) -> None:
    """The level debug does not write paths and queries, which may contain a token."""
    assert log_output(lambda _: logging.getLogger(name).debug('"GET /v1/logs?token=x'), level="debug") == ""


def test_an_entry_that_cannot_be_written_shows_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong call of a logger does not print its arguments."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    text = log_output(lambda _: logging.getLogger("other").info("%d", "hunter22"))

    assert text == ""


@given(texts=st.lists(st.text("ab[]", max_size=14)), secrets=st.lists(st.text("ab", min_size=1, max_size=16)))
def test_redaction_finds_every_secret(texts: list[str], secrets: list[str]) -> None:
    """No secret is left in a text, wherever it begins."""
    log.configure(secrets=secrets)
    redacted = log.redact("-".join([*texts, *secrets]))
    assert not any(secret in redacted.replace("[redacted]", "|") for secret in secrets)
