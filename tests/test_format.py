from __future__ import annotations

import pytest

from late_exporter.format import human_duration, iso_time, plural


def test_a_time_is_iso_8601_in_utc() -> None:
    """A time is shown to the second or the millisecond, and is empty beyond the calendar."""
    assert iso_time(1999) == "1970-01-01T00:00:01Z"
    assert iso_time(1999, precise=True) == "1970-01-01T00:00:01.999Z"
    assert iso_time(10**18) == ""


def test_a_count_has_the_right_form_of_its_noun() -> None:
    """Only one thing takes the singular."""
    assert [plural(count, "log") for count in (0, 1, 1234)] == ["0 logs", "1 log", "1,234 logs"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 ms"),
        (0.15, "150 ms"),
        (2.34, "2.3 s"),
        (45.4, "45 s"),
        (65.0, "1 min 5 s"),
        (240.0, "4 min"),
        (608_400.0, "7 d 1 h"),
        (86_400.0 * 1_234, "1,234 d"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, expected: str) -> None:
    """A duration is shown in its two largest units."""
    assert expected == human_duration(seconds)


def test_a_rough_duration_has_one_unit() -> None:
    """A rough duration leaves out the smaller unit."""
    assert human_duration(3_960.0, rough=True) == "1 h"
