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
from late_exporter.commands.logview import LogView
from late_exporter.commands.terminal import (
    Column,
    CsvFormatter,
    JsonFormatter,
    TableFormatter,
    Terminal,
    clean,
    duration,
    explanation,
    json_line,
)

KEY = "sk_" + "0123456789abcdef" * 4
COLUMNS = (
    Column("NAME", lambda log: log.username),
    Column("TRY", lambda log: log.status_code, align_right=True),
    Column("STATUS", lambda log: log.status, is_status=True),
    Column("DETAIL", explanation),
)

everything = st.text(st.characters(exclude_categories=())).filter(lambda text: text == log.redact(text))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | everything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(everything, inner, max_size=4),
    max_leaves=10,
)


class TtyStream(io.StringIO):
    """Standard output that a person looks at."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True, scope="module")
def secret() -> Iterator[None]:
    """The key is known to be secret, as when the program runs."""
    log.add_secret(KEY)
    yield
    log.configure()


def entry(username: str = "@acme", **fields: Any) -> LogView:
    """A log."""
    needed = {"key": "k", "row": {}, "platform": "x", "action": "publish", "status": "failed"}
    return LogView(**{**needed, "username": username, **fields})


def table(*logs: LogView, screen: Terminal | None = None) -> list[str]:
    """The lines of a table."""
    return list(TableFormatter(COLUMNS, screen or Terminal()).lines(logs))


def test_a_table_is_aligned() -> None:
    """Columns stand below their names, numbers to the right, in whatever script they are."""
    assert [
        "NAME      TRY  STATUS   DETAIL",
        "@acme     429  failed   RATE_LIMITED: Slow down",
        "ラーメン    -  success  https://example.org",
        "e\u0301           7  failed   -",
    ] == table(
        entry(status_code="429", error_code="RATE_LIMITED", error="Slow down"),
        entry("ラーメン", status="success", url="https://example.org"),
        entry("e\u0301", status_code="7"),
    )


def test_a_table_grows() -> None:
    """The head comes once, before the first log; columns grow with what comes later."""
    growing = TableFormatter(COLUMNS, Terminal())

    assert [] == list(growing.lines([]))
    assert ["NAME   TRY  STATUS  DETAIL", "@acme    -  failed  -"] == list(growing.lines([entry()]))
    assert ["@acmecorp    -  failed  -"] == list(growing.lines([entry("@acmecorp")]))
    assert ["@acme        -  failed  -"] == list(growing.lines([entry()]))


def test_an_absurd_cell_spoils_one_row() -> None:
    """A name of a thousand characters is shown whole, and moves nothing in other rows."""
    _, long, short = table(entry("x" * 1000), entry())

    assert long.startswith("x" * 1000 + "  ")
    assert "@acme" + " " * 39 + "-  failed  -" == short


def test_a_narrow_terminal_folds() -> None:
    """A row that does not fit goes on below, set in; nothing is cut."""
    lines = table(
        entry(status_code="429", error="one two three four five six seven"), screen=Terminal(width=24, colour=False)
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
    ] == table(entry(status_code="429", url="https://example.org/long/path"), screen=Terminal(width=14))


def test_colours() -> None:
    """A terminal shows the status in its colour, and the line is aligned as without."""
    screen = Terminal(width=80, colour=True)
    head, line = table(entry(), screen=screen)

    assert "\x1b[1mNAME   TRY  STATUS  DETAIL\x1b[0m" == head
    assert "@acme    -  \x1b[31mfailed\x1b[0m  -" == line
    assert "odd" == screen.coloured("odd", "odd")


@pytest.mark.parametrize(
    ("stream", "environ", "screen"),
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
def test_screens(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environ: dict[str, str], screen: Terminal
) -> None:
    """Colours are for terminals that have them and people who want them."""
    monkeypatch.setenv("COLUMNS", "50")

    assert screen == Terminal.detect(stream, environ)


@given(text=everything)
def test_no_text_steers_a_terminal(text: str) -> None:
    """Whatever strangers write is one line of what can be printed, in every format."""
    log = entry(text, error=text, url=text, status_code=text, row={"text": text, text: [text]})
    lines = [*table(log), *CsvFormatter(COLUMNS).lines([log]), *JsonFormatter().lines([log]), clean(text)]

    assert [] == [line for line in lines if not line.isprintable()]
    assert 2 + 2 + 1 + 1 == len(lines)


@pytest.mark.parametrize("text", [KEY, f"key={KEY}&", f'"{KEY}"', KEY[:30], f"Bearer {KEY}"])
def test_no_output_holds_a_key(text: str) -> None:
    """A key that the API repeats, whole or in part, is in no format."""
    log = entry(text, error=text, url=text, row={"a": text, text: [{"b": text}]})
    lines = [*table(log), *CsvFormatter(COLUMNS).lines([log]), *JsonFormatter().lines([log])]

    assert [] == [line for line in lines if KEY[:20] in line]
    assert json.loads(lines[-1])


@given(value=values)
def test_json_is_exact(value: object) -> None:
    """A line of JSON is what it was made of, in one line."""
    line = json_line(value)

    assert value == json.loads(line)
    assert line.isprintable()


def test_json_of_what_json_has_no_word_for() -> None:
    """What JSON cannot say becomes null, and so does what nests absurdly deep."""
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]

    assert '{"a": [null, null], "b": "Bäcker \\"x\\" \\u202e🥨"}' == json_line(
        {"a": [float("inf"), float("nan")], "b": 'Bäcker "x" \u202e🥨'}
    )
    assert "[" * 64 + "null" + "]" * 64 == json_line(deep)


def test_json_stays_json_where_a_token_is_hidden() -> None:
    """A token beside a quotation mark is hidden without it."""
    assert {"a": '[redacted]"x'} == json.loads(json_line({"a": 'Bearer abc"x'}))


@given(cells=st.lists(everything, min_size=3, max_size=3))
def test_csv_is_read_as_it_was_written(cells: list[str]) -> None:
    """Readers of CSV find every cell, cleaned, and none is a formula."""
    name, code, error = cells
    head, row = csv.reader(CsvFormatter(COLUMNS).lines([entry(name, status_code=code, error=error, status="failed")]))

    assert ["NAME", "TRY", "STATUS", "DETAIL"] == head
    for text, cell in zip((name, code, error), (row[0], row[1], row[3]), strict=True):
        assert cell in (clean(text), f"'{clean(text)}")
    assert [] == [
        cell
        for cell in row
        if cell.startswith(("=", "+", "-", "@", "\t", "\r", *(chr(ord(sign) + 0xFEE0) for sign in "=+-@")))
    ]


@pytest.mark.parametrize(
    ("cell", "written"),
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
def test_csv_cells(cell: str, written: str) -> None:
    """A cell that a spreadsheet would run gets an apostrophe; commas and quotation marks are quoted."""
    assert written == list(CsvFormatter(COLUMNS[:1]).lines([entry(cell)]))[1]


@pytest.mark.parametrize(
    ("micros", "words"),
    [
        (None, ""),
        (0, "0ms"),
        (150_000, "150ms"),
        (999_999, "1000ms"),
        (2_340_000, "2.3s"),
        (59_999_999, "60.0s"),
        (65_000_000, "1m05s"),
        (3_599_900_000, "1h00m"),
        (7_380_000_000, "2h03m"),
    ],
)
def test_durations(micros: int | None, words: str) -> None:
    """A duration is told in the unit that fits it."""
    assert words == duration(entry(duration=micros))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"error_code": "X", "error": "bad", "url": "u"}, "X: bad"),
        ({"error": "bad"}, "bad"),
        ({"error_code": "X"}, "X"),
        ({"url": "u"}, "u"),
        ({}, ""),
    ],
    ids=str,
)
def test_explanations(fields: dict[str, str], words: str) -> None:
    """What went wrong comes before where it is."""
    assert words == explanation(entry(**fields))
