from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import log
from late_exporter.commands.output import json_line
from late_exporter.commands.tables import JOINERS, Row, Table, clean

KEY = "sk_" + "0123456789abcdef" * 4
COLUMNS = ("NAME", "TRY>", "STATUS", "DETAIL")

any_text = st.text(st.characters(exclude_categories=())).filter(lambda text: text == log.redact(text))


@pytest.fixture(autouse=True)
def secret() -> None:
    """Register the key as a secret, as the program does."""
    log.add_secret(KEY)


def row(name: str = "@acme", attempt: str = "", detail: str = "", status: str = "failed") -> Row:
    """Return a row of the table."""
    return {"NAME": name, "TRY>": attempt, "STATUS": status, "DETAIL": detail}


def table(*rows: Row) -> list[str]:
    """Return the lines of a table."""
    return list(Table(COLUMNS).lines(rows))


def test_a_table_is_aligned() -> None:
    """Cells stand below their headings, numbers to the right, in any script; joiners of emoji take no width."""
    emoji = "\U0001f468\u200d\U0001f4bb"
    assert table(
        row(attempt="429", detail="RATE_LIMITED: Slow down"),
        row("ラーメン", status="success", detail="https://example.org"),
        row("e\u0301", "7"),
        row(emoji),
    ) == [
        "NAME      TRY  STATUS   DETAIL",
        "@acme     429  failed   RATE_LIMITED: Slow down",
        "ラーメン    -  success  https://example.org",
        "e\u0301           7  failed",
        f"{emoji}        -  failed",
    ]


def test_columns_widen_with_later_rows() -> None:
    """The heading is printed once, before the first row; only very long cells are cut."""
    lines = Table(COLUMNS).lines
    assert list(lines([])) == []
    assert list(lines([row()])) == ["NAME   TRY  STATUS  DETAIL", "@acme    -  failed"]
    assert list(lines([row("@acmecorp")])) == ["@acmecorp    -  failed"]
    assert list(lines([row()])) == ["@acme        -  failed"]
    assert list(lines([row("x" * 50, detail="x" * 50)])) == [f"{'x' * 39}…    -  failed  {'x' * 50}"]


@given(text=any_text)
def test_no_text_controls_the_terminal(text: str) -> None:
    """Any text from the API is printable in every format, and a row without a detail is one line."""
    rows = row(text, text, text, text), row(text, text, "", text)
    lines = [*table(*rows), json_line({text: [text]}), clean(text)]
    assert [line for line in lines if not line.translate(dict.fromkeys(map(ord, JOINERS))).isprintable()] == []
    assert len(lines) == 5


@given(text=any_text, number=st.floats(allow_nan=False, allow_infinity=False))
def test_json_is_exact(text: str, number: float) -> None:
    """A line of JSON parses to the value it was made of, but JSON has no infinite numbers."""
    value = {text: [text, None, True, {"a": number}]}
    assert value == json.loads(json_line(value))
    assert json_line(["\u202e🥨", float("inf"), float("nan")]) == '["\\u202e🥨", null, null]'
