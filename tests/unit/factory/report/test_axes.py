import math

import pytest

from fucina.factory.report.axes import linear_axis, log_axis


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.03, 0.97, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (1.2, 3.1, ["1.0", "1.5", "2.0", "2.5", "3.0", "3.5"]),
        (-4, 11, ["−5", "0", "5", "10", "15"]),
        (3, 880, ["0", "250", "500", "750", "1,000"]),
    ],
)
def test_linear_ticks_are_round_and_hold_the_values(low, high, labels):
    axis = linear_axis(low, high)
    assert [tick.label for tick in axis.ticks] == labels
    assert axis.low <= low
    assert axis.high >= high
    assert [axis.at(float(label.replace(",", "").replace("−", "-"))) for label in labels] == pytest.approx(
        [t.at for t in axis.ticks]
    )


@pytest.mark.parametrize("value", [0.0, 7.0, -2.5, 1e-9])
def test_one_value_still_has_an_axis(value):
    axis = linear_axis(value, value)
    assert axis.low < value < axis.high or math.isclose(axis.at(value), 0.5, abs_tol=0.3)
    assert len(axis.ticks) >= 2


def test_values_beyond_the_ends_are_put_on_them():
    axis = linear_axis(0, 10)
    assert (axis.at(-3), axis.at(30)) == (0, 1)


def test_log_ticks_stand_where_their_labels_say():
    axis = log_axis(12, 4_000)
    for tick in axis.ticks:
        assert axis.at(float(tick.label.replace(",", ""))) == pytest.approx(tick.at)
    assert [tick.label for tick in axis.ticks] == ["20", "50", "100", "200", "500", "1,000", "2,000"]


def test_log_axis_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="0 < low"):
        log_axis(0, 5)
