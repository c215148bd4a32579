"""Axes of the report's charts: round ticks, and where a value lies between the two ends."""

import math
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; `at` is 0 at the low end and 1 at the high end."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Place of a value, 0 to 1; what lies beyond an end is put on it."""
        return _place(min(max(value, self.low), self.high), self.low, self.high, log=self.log)


def linear_axis(low: float, high: float, wanted: int = 4) -> Axis:
    """An axis of about `wanted` round steps that holds both values."""
    if high <= low:
        margin = abs(low) / 10 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(r for r in _ROUND if r * magnitude >= rough * 0.999) * magnitude
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9), _decimals(step))
    ticks = tuple(
        Tick((number - first) / (last - first), f"{number * step:,.{decimals}f}".replace("-", "−"))
        for number in range(first, last + 1)
    )
    return Axis(first * step, last * step, ticks)


def log_axis(low: float, high: float) -> Axis:
    """A logarithmic axis over positive values, ticks at 1, 2 and 5 times the powers of ten."""
    if not 0 < low <= high:
        raise ValueError(f"a logarithmic axis needs 0 < low <= high, got {low} and {high}")
    low, high = low * 0.9, high * 1.1
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        marks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(marks) <= 7:
            break
    return Axis(low, high, tuple(Tick(_place(m, low, high, log=True), f"{m:,.10g}") for m in marks), log=True)


def _place(value: float, low: float, high: float, *, log: bool) -> float:
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _decimals(step: float) -> int:
    """Digits after the point that a round step needs."""
    return len(f"{step:.10f}".rstrip("0").partition(".")[2])
