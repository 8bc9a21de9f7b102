from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import log
from late_exporter.commands.columns import detail, duration
from late_exporter.commands.terminal import (
    JOINERS,
    Column,
    CsvFormatter,
    JsonFormatter,
    TableFormatter,
    Terminal,
    clean,
    json_line,
)
from late_exporter.feeds.feed import LogView

KEY = "sk_" + "0123456789abcdef" * 4
COLUMNS = (
    Column("NAME", lambda log: log.username),
    Column("TRY", lambda log: log.status_code, align_right=True),
    Column("STATUS", lambda log: log.status, is_status=True),
    Column("DETAIL", detail),
)

any_text = st.text(st.characters(exclude_categories=())).filter(lambda text: text == log.redact(text))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


class TtyStream(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True, scope="module")
def secret() -> Iterator[None]:
    """Register the key as a secret, as the program does."""
    log.add_secret(KEY)
    yield
    log.configure()


def log_view(username: str = "@acme", **fields: Any) -> LogView:
    """Return a log."""
    needed = {"key": "k", "row": {}, "platform": "x", "action": "publish", "status": "failed"}
    return LogView(**{**needed, "username": username, **fields})


def table(*logs: LogView, terminal: Terminal | None = None) -> list[str]:
    """Return the lines of a table."""
    return list(TableFormatter(COLUMNS, terminal or Terminal()).lines(logs))


def test_a_table_is_aligned() -> None:
    """Cells stand below their headings, numbers to the right, in any script."""
    assert [
        "NAME      TRY  STATUS   DETAIL",
        "@acme     429  failed   RATE_LIMITED: Slow down",
        "ラーメン    -  success  https://example.org",
        "e\u0301           7  failed   -",
    ] == table(
        log_view(status_code="429", error_code="RATE_LIMITED", error="Slow down"),
        log_view("ラーメン", status="success", url="https://example.org"),
        log_view("e\u0301", status_code="7"),
    )


def test_columns_widen_with_later_logs() -> None:
    """The heading is printed once, before the first log."""
    formatter = TableFormatter(COLUMNS, Terminal())

    assert [] == list(formatter.lines([]))
    assert ["NAME   TRY  STATUS  DETAIL", "@acme    -  failed  -"] == list(formatter.lines([log_view()]))
    assert ["@acmecorp    -  failed  -"] == list(formatter.lines([log_view("@acmecorp")]))
    assert ["@acme        -  failed  -"] == list(formatter.lines([log_view()]))


def test_a_narrow_terminal_folds_rows() -> None:
    """A row that does not fit continues on an indented line, and nothing is cut."""
    lines = table(
        log_view(status_code="429", error="one two three four five six seven"),
        terminal=Terminal(width=24, colour=False),
    )

    assert [
        "NAME   TRY  STATUS",
        "@acme  429  failed",
        "    one two three four",
        "    five six seven",
    ] == lines
    assert [
        "NAME   TRY",
        "@acme  429",
        "    failed",
        "    https://example.org/long/path",
    ] == table(log_view(status_code="429", url="https://example.org/long/path"), terminal=Terminal(width=14))


def test_statuses_are_coloured() -> None:
    """Colours do not change the alignment."""
    terminal = Terminal(width=80, colour=True)
    heading, line = table(log_view(), terminal=terminal)

    assert "\x1b[1mNAME   TRY  STATUS  DETAIL\x1b[0m" == heading
    assert "@acme    -  \x1b[31mfailed\x1b[0m  -" == line
    assert "odd" == terminal.coloured("odd", "odd")


@pytest.mark.parametrize(
    ("stream", "environ", "terminal"),
    [
        (io.StringIO(), {"TERM": "xterm"}, Terminal(None, colour=False)),
        (TtyStream(), {"TERM": "xterm"}, Terminal(50, colour=True)),
        (TtyStream(), {"TERM": "xterm", "NO_COLOR": "1"}, Terminal(50, colour=False)),
        (TtyStream(), {"TERM": "xterm", "NO_COLOR": ""}, Terminal(50, colour=True)),
        (TtyStream(), {"TERM": "dumb"}, Terminal(50, colour=False)),
        (TtyStream(), {}, Terminal(50, colour=False)),
    ],
    ids=range(6),
)
def test_colours_depend_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environ: dict[str, str], terminal: Terminal
) -> None:
    """Colours need a terminal that supports them, and NO_COLOR switches them off."""
    monkeypatch.setenv("COLUMNS", "50")

    assert terminal == Terminal.detect(stream, environ)


@given(text=any_text)
def test_no_text_controls_the_terminal(text: str) -> None:
    """Any text from the API is one printable line in every format."""
    log = log_view(text, error=text, url=text, status_code=text, row={"text": text, text: [text]})
    lines = [*table(log), *CsvFormatter(COLUMNS).lines([log]), *JsonFormatter().lines([log]), clean(text)]

    assert [] == [line for line in lines if not line.translate(dict.fromkeys(map(ord, JOINERS))).isprintable()]
    assert 2 + 2 + 1 + 1 == len(lines)


def test_joiners_are_kept() -> None:
    """Emoji and words with joiners are printed as in the metrics, and the joiners take no width."""
    name = "\u0645\u06cc\u200c\u062e\u0648 \U0001f468\u200d\U0001f4bb"

    assert [f"{name}    -  failed  -", "012345678    -  failed  -"] == table(log_view(name), log_view("012345678"))[1:]
    assert [name, "'\u200d=1+1"] == list(CsvFormatter(COLUMNS[:1]).lines(map(log_view, (name, "\u200d=1+1"))))[1:]


@pytest.mark.parametrize("text", [KEY, f"key={KEY}&", f'"{KEY}"', KEY[:30], f"Bearer {KEY}"])
def test_no_output_contains_a_key(text: str) -> None:
    """A key that the API repeats, whole or in part, is redacted in every format."""
    log = log_view(text, error=text, url=text, row={"a": text, text: [{"b": text}]})
    lines = [*table(log), *CsvFormatter(COLUMNS).lines([log]), *JsonFormatter().lines([log])]

    assert [] == [line for line in lines if KEY[:20] in line]
    assert json.loads(lines[-1])


@given(value=values)
def test_json_is_exact(value: object) -> None:
    """A line of JSON parses to the value it was made of."""
    line = json_line(value)

    assert value == json.loads(line)
    assert line.isprintable()


def test_values_without_json_become_null() -> None:
    """Infinite numbers and very deep nesting become null."""
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]

    assert '{"a": [null, null], "b": "Bäcker \\"x\\" \\u202e🥨"}' == json_line(
        {"a": [float("inf"), float("nan")], "b": 'Bäcker "x" \u202e🥨'}
    )
    assert "[" * 64 + "null" + "]" * 64 == json_line(deep)


@given(cells=st.lists(any_text, min_size=3, max_size=3))
def test_csv_is_read_as_it_was_written(cells: list[str]) -> None:
    """A CSV reader returns every cell, cleaned, and none of them is a formula."""
    name, code, error = cells
    head, row = csv.reader(
        CsvFormatter(COLUMNS).lines([log_view(name, status_code=code, error=error, status="failed")])
    )

    assert ["NAME", "TRY", "STATUS", "DETAIL"] == head
    for text, cell in zip((name, code, error), (row[0], row[1], row[3]), strict=True):
        assert cell in (clean(text), f"'{clean(text)}")
    assert [] == [
        cell
        for cell in row
        if cell.startswith(("=", "+", "-", "@", "\t", "\r", *(chr(ord(sign) + 0xFEE0) for sign in "=+-@")))
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("\t=1+1", "'=1+1"),
        ("@acme", "'@acme"),
        ("-1", "'-1"),
        ("a,b", '"a,b"'),
        ('say "x"', '"say ""x"""'),
        ("", '""'),
    ],
)
def test_csv_cells_are_escaped(cell: str, expected: str) -> None:
    """Formulas get an apostrophe, and commas and quotation marks are quoted."""
    assert expected == list(CsvFormatter(COLUMNS[:1]).lines([log_view(cell)]))[1]


@pytest.mark.parametrize(
    ("micros", "expected"),
    [
        (None, ""),
        (0, "0ms"),
        (150_000, "150ms"),
        (2_340_000, "2.3s"),
        (65_000_000, "1min5s"),
        (7_380_000_000, "2h3min"),
    ],
)
def test_durations_are_compact(micros: int | None, expected: str) -> None:
    """A duration has no spaces, so that it stays one column."""
    assert expected == duration(log_view(duration=micros))
