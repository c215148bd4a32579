"""Distributions: scores by origin and fate, and the length of chosen against rejected answers."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

from fucina.factory.hashing import order_key
from fucina.factory.report.axes import Axis, Tick, linear_axis, log_axis
from fucina.factory.report.rows import FATES

BINS = 24
POINTS = 600
_RATIO_END = 3  # doublings: from 1/8 to 8 times as long
_UNITS = {
    ("rules", "length"): "words",
    ("rules", "repetition"): "share of words in repeated passages",
    ("rules", "language"): "share of words in another language",
    ("perplexity", "nll"): "nats per token; lower is more predictable",
    ("perplexity", "bits_per_char"): "bits per character; lower is more predictable",
}


@dataclass(frozen=True)
class Strip:
    """Scores of one origin: a histogram for each fate, stacked in the order of FATES.

    Of `scored` answers, `common` have the panel's common score and `below` and `above` lie beyond its axis; the
    bars hold all others.
    """

    origin: str
    scored: int
    median: float
    common: int
    below: int
    above: int
    bars: dict[str, tuple[int, ...]]

    @property
    def tallest(self) -> int:
        """Highest stack."""
        return max(map(sum, zip(*self.bars.values(), strict=True)))


@dataclass(frozen=True)
class ScorePanel:
    """Scores of one judge on one aspect; its strips share the axis of scores.

    A score that more than half of all answers have, mostly the 0 of a share, would dwarf all bars: it is `common`.
    """

    judge: str
    aspect: str
    unit: str
    common: float | None
    axis: Axis
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Lengths:
    """Characters of the two answers of each pair. `points` is a sample of POINTS at most: (rejected, chosen)."""

    pairs: int
    longer: int
    chosen_median: float
    rejected_median: float
    ratio_median: float
    axis: Axis
    points: tuple[tuple[int, int], ...]
    ratio_axis: Axis
    ratios: tuple[int, ...]


def score_panels(verdicts: pl.DataFrame, origins: list[str]) -> list[ScorePanel]:
    """A panel for each aspect whose scores are a distribution; two-valued scores are gates and stand in their table."""
    scored = verdicts.filter(pl.col("score").is_finite()).with_columns(
        pl.col("judge", "aspect", "origin", "fate").cast(pl.String)
    )
    panels: list[ScorePanel] = []
    for (judge, aspect), part in scored.group_by(["judge", "aspect"], maintain_order=True):
        if part["score"].n_unique() > 2:
            panels.append(_panel(str(judge), str(aspect), part, origins))
    return panels


def _panel(judge: str, aspect: str, part: pl.DataFrame, origins: list[str]) -> ScorePanel:
    scores = part["score"]
    value, count = scores.value_counts(sort=True).row(0)
    common = float(value) if 2 * count > scores.len() else None
    rest = scores if common is None else scores.filter(scores != common)
    bins, axis = _bins(rest, low=_number(scores.min()), high=_number(scores.max()))
    strips = [_strip(name, part.filter(pl.col("origin") == name), axis, bins, common) for name in origins]
    return ScorePanel(
        judge=judge,
        aspect=aspect,
        unit=_UNITS.get((judge, aspect), "score"),
        common=common,
        axis=axis,
        strips=tuple(strip for strip in strips if strip is not None),
    )


def _bins(scores: pl.Series, low: float, high: float) -> tuple[int, Axis]:
    """How many bars, over which axis."""
    if (scores == scores.floor()).all() and high - low < BINS:
        # Marks such as 1 to 5: one bar each, the mark in its middle.
        bins = int(high - low) + 1
        ticks = tuple(Tick((index + 0.5) / bins, f"{low + index:g}") for index in range(0, bins, bins // 6 + 1))
        return bins, Axis(low - 0.5, high + 0.5, ticks)
    # A few extreme scores must not flatten all others; they are counted beside the strip.
    inner = _number(scores.quantile(0.01, "lower")), _number(scores.quantile(0.99, "higher"))
    return BINS, linear_axis(*(inner if inner[0] < inner[1] else (low, high)))


def _strip(origin: str, part: pl.DataFrame, axis: Axis, bins: int, common: float | None) -> Strip | None:
    if not part.height:
        return None
    score = pl.col("score")
    rest = part if common is None else part.filter(score != common)
    inside = rest.filter(score.is_between(axis.low, axis.high)).with_columns(
        bin=((score - axis.low) / (axis.high - axis.low) * bins).floor().clip(0, bins - 1).cast(pl.Int64)
    )
    counts = {(fate, number): count for fate, number, count in inside.group_by("fate", "bin").len().iter_rows()}
    return Strip(
        origin=origin,
        scored=part.height,
        median=_median(part["score"]),
        common=part.height - rest.height,
        below=rest.filter(score < axis.low).height,
        above=rest.filter(score > axis.high).height,
        bars={fate: tuple(counts.get((fate, number), 0) for number in range(bins)) for fate in FATES},
    )


def lengths(candidates: pl.DataFrame, only: pl.Series | None, seed: int) -> Lengths | None:
    """Compare the pairs of the run, or those of the prompts in `only`; None when there are none."""
    answers = candidates.filter(~pl.col("error")).select("prompt_id", "fate", pl.col("chars").clip(1).cast(pl.Int64))
    chosen, rejected = (
        answers.filter(pl.col("fate") == fate).select("prompt_id", pl.col("chars").alias(fate))
        for fate in ("chosen", "rejected")
    )
    pairs = chosen.join(rejected, on="prompt_id")
    if only is not None:
        pairs = pairs.filter(pl.col("prompt_id").is_in(only.to_list()))
    if not pairs.height:
        return None
    pairs = pairs.with_columns(
        ratio=pl.col("chosen") / pl.col("rejected"),
        order=pl.Series([order_key(seed, prompt_id) for prompt_id in pairs["prompt_id"]], dtype=pl.String),
    ).sort("order")
    both = pl.concat([pairs["chosen"], pairs["rejected"]])
    return Lengths(
        pairs=pairs.height,
        longer=pairs.filter(pl.col("ratio") > 1).height,
        chosen_median=_median(pairs["chosen"]),
        rejected_median=_median(pairs["rejected"]),
        ratio_median=_median(pairs["ratio"]),
        axis=log_axis(_number(both.min()), _number(both.max())),
        points=tuple(pairs.head(POINTS).select("rejected", "chosen").iter_rows()),
        ratio_axis=_ratio_axis(),
        ratios=_ratio_counts(pairs["ratio"]),
    )


def _ratio_axis() -> Axis:
    """Doublings from 1/8 to 8; the outermost bars hold everything beyond."""
    labels = ["≤ ⅛", "¼", "½", "1", "2", "4", "≥ 8"]
    last = len(labels) - 1
    return Axis(-_RATIO_END, _RATIO_END, tuple(Tick(number / last, label) for number, label in enumerate(labels)))


def _ratio_counts(ratio: pl.Series) -> tuple[int, ...]:
    places = ((ratio.log(2) + _RATIO_END) / (2 * _RATIO_END) * BINS).floor().clip(0, BINS - 1).cast(pl.Int64)
    counts = Counter(places.to_list())
    return tuple(counts[number] for number in range(BINS))


def _median(values: pl.Series) -> float:
    return _number(values.median())


def _number(value: object) -> float:
    """Statistics of a non-empty numeric column; polars types them by what any column could give."""
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)
