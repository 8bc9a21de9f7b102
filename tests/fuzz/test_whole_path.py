"""Fuzz tests of the whole path of a response, from raw JSON text to the metrics."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import NASTY, ROUND, damaged, for_a_while
from tests.fuzz.whole_path import LISTS, Rows, encode, follow, page_of, text_of

pytestmark = pytest.mark.fuzz

PARTS = ("logs", "pagination", "total", "hasMore", "errorCode", "code", "username", "tokenExpiresAt")
MEMBERS = ("postId", "attemptNumber", "accountUsername", "scheduledFor", "errorCode", "tokenExpiresAt")
FIELDS = sorted({name for kind in LISTS for name in Rows(*kind).names}.union(PARTS))

numbers = (
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
    | st.builds(
        lambda digit, count, end: f"{digit * count}{end}", st.sampled_from("19"), st.integers(1, 6000), st.just("")
    )
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "1e400", "-1e-400", "0.1e1", "-0.0", "1E+0000000000001"])
)
escapes = st.integers(0, 0xFFFF).map("\\u{:04x}".format) | st.sampled_from(
    ["\\n", "\\\\", '\\"', "\\/", "\\ud800", "\\udc00"]
)
strings = (
    st.lists(escapes | st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=8)
    | st.sampled_from(NASTY).map(lambda text: [encode(text)[1:-1]])
    | st.sampled_from(FIELDS).map(lambda name: [f'{{\\"{name}\\":\\"', "\\ud800", '\\"'])
).map(lambda parts: '"' + "".join(parts) + '"')
names = st.sampled_from(FIELDS).map(encode) | strings
scalars = numbers | strings | st.sampled_from(["null", "true", "false"])


def nested(value: str, depth: int, opening: str) -> str:
    """Return a JSON text within a number of lists or objects."""
    return opening * depth + value + ("]" if opening == "[" else "}") * depth


json_texts = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(names, inner), max_size=5).map(text_of)
    ),
    max_leaves=8,
)
members = st.tuples(st.sampled_from(MEMBERS).map(encode), scalars | numbers.map(encode) | st.just('"007"'))
objects_in_texts = st.lists(members, min_size=1, max_size=3).map(text_of).map(encode)
texts = (
    json_texts
    | objects_in_texts
    | st.builds(nested, scalars, st.sampled_from([1, 50, 100]), st.sampled_from(["[", '{"a":']))
)
changes = st.lists(st.tuples(st.integers(0, 20), texts), max_size=6)


def page_with(rows: Rows, changed: list[tuple[int, str]], odd: list[str], pagination: str) -> bytes:
    """Return a page with changed fields and odd rows among good rows."""
    fields = [rows.changed(rows.names[index % len(rows.names)], text, n) for n, (index, text) in enumerate(changed)]
    good = rows.good
    return page_of([*fields, good[0], *odd, *good[1:], *fields[::-1]], pagination).encode("utf-8", "surrogatepass")


def has_text_total(pagination: str) -> bool:
    """Return whether a pagination gives its total as text."""
    members = json.loads(pagination, parse_int=float)
    return isinstance(members, dict) and isinstance(members.get("total"), str)


@given(kind=st.sampled_from(LISTS), changed=changes, odd=st.lists(texts, max_size=3), pagination=texts)
@ROUND
def _mutated_page(kind: tuple[str, str], changed: list[tuple[int, str]], odd: list[str], pagination: str) -> None:
    rows = Rows(*kind)
    follow(rows, page_with(rows, changed, odd, pagination), has_text_total=has_text_total(pagination))


def test_mutated_pages() -> None:
    """Whatever the fields of some rows are, the other rows count, and everything can be shown."""
    for_a_while(_mutated_page)


@given(kind=st.sampled_from(LISTS), data=st.data())
@ROUND
def _damaged_page(kind: tuple[str, str], data: st.DataObject) -> None:
    rows = Rows(*kind)
    page = data.draw(damaged(page_of([*rows.good, rows.changed("x", "1")]).encode()))
    follow(rows, page, has_good_rows=False)


def test_damaged_pages() -> None:
    """A page whose bytes are cut, repeated or changed costs at most a poll."""
    for_a_while(_damaged_page)
