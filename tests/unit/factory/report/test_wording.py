import pytest

from fucina.factory.report.wording import duration, percent, short


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0%"),
        (0, 0, "0%"),
        (1, 2000, "<0.1%"),
        (1, 40, "2.5%"),
        (1, 3, "33%"),
        (9999, 10000, "99.9%"),
        (5, 5, "100%"),
    ],
)
def test_percent_rounds_neither_to_nothing_nor_to_everything(part, whole, text):
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "<0.1 s"),
        (8.25, "8.2 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.8, "1 h 00 min"),
        (4000, "1 h 06 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(950, "950"), (9_999, "9,999"), (12_345, "12.3k"), (2_500_000, "2.5M")])
def test_short(value, text):
    assert short(value) == text
