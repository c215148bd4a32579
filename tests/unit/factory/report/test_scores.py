import polars as pl
import pytest

from fucina.factory.report.scores import BINS, POINTS, lengths, score_panels


def verdicts(scores: dict[str, list[float | None]], aspect: str = "nll", judge: str = "perplexity") -> pl.DataFrame:
    return pl.DataFrame(
        [(origin, "chosen" if number % 2 else "unused", judge, aspect, score) for origin, values in scores.items()
         for number, score in enumerate(values)],
        schema=["origin", "fate", "judge", "aspect", "score"],
        orient="row",
    )  # fmt: skip


def candidates(pairs: list[tuple[int, int]]) -> pl.DataFrame:
    rows = [
        (f"p{number:04d}", fate, chars, False)
        for number, pair in enumerate(pairs)
        for fate, chars in zip(("chosen", "rejected"), pair, strict=True)
    ]
    return pl.DataFrame(rows, schema=["prompt_id", "fate", "chars", "error"], orient="row")


def test_every_score_is_in_a_bar_or_counted_beyond_the_axis():
    scores = [index / 10 for index in range(400)] + [9_000.0, -9_000.0]
    [panel] = score_panels(verdicts({"teacher": scores, "student": [1.0, 2.0]}), ["teacher", "student"])
    teacher, student = panel.strips
    assert sum(map(sum, teacher.bars.values())) + teacher.below + teacher.above == len(scores) == teacher.scored
    assert (teacher.below, teacher.above) == (1, 1)
    assert (student.scored, student.median) == (2, 1.5)
    assert panel.unit.startswith("nats per token")


def test_marks_get_one_bar_each():
    [panel] = score_panels(verdicts({"teacher": [1, 2, 2, 5, 4, 4, 4]}, "helpfulness", "rubric"), ["teacher"])
    [strip] = panel.strips
    assert [sum(stack) for stack in zip(*strip.bars.values(), strict=True)] == [1, 2, 0, 3, 1]
    assert [tick.label for tick in panel.axis.ticks] == ["1", "2", "3", "4", "5"]
    assert panel.unit == "score"


def test_a_score_that_most_answers_share_does_not_dwarf_the_others():
    [panel] = score_panels(verdicts({"teacher": [0.0] * 500 + [0.4, 0.8]}, "repetition", "rules"), ["teacher"])
    [strip] = panel.strips
    assert (panel.common, strip.common, strip.above, strip.tallest) == (0, 500, 0, 1)
    assert sum(map(sum, strip.bars.values())) == 2


def test_no_score_is_common_where_none_has_the_majority():
    [panel] = score_panels(verdicts({"teacher": [0.0, 0.0, 0.25, 0.5]}), ["teacher"])
    assert panel.common is None
    assert panel.strips[0].median == 0.125


def test_two_valued_scores_are_gates_and_nulls_are_no_scores():
    assert score_panels(verdicts({"teacher": [0, 1, 1, 0, None]}), ["teacher"]) == []


def test_lengths_of_pairs():
    found = lengths(candidates([(200, 100), (300, 100), (50, 100), (100, 100), (8_000, 100)]), None, seed=1)
    assert found is not None
    assert (found.pairs, found.longer) == (5, 3)
    assert (found.chosen_median, found.rejected_median, found.ratio_median) == (200, 100, 2)
    assert sum(found.ratios) == 5
    assert found.ratios[-1] == 1, "80 times as long belongs to the last bar"
    assert found.ratios[BINS // 2] == 1, "equal lengths stand right of the middle line"


def test_lengths_keep_to_the_prompts_of_the_data_set():
    every = candidates([(200, 100), (300, 100)])
    found = lengths(every, pl.Series(["p0001"]), seed=1)
    assert found is not None
    assert found.points == ((100, 300),)
    assert lengths(every, pl.Series(["other"]), seed=1) is None


def test_many_pairs_are_sampled_the_same_way_in_any_order():
    every = candidates([(100 + index, 50) for index in range(POINTS + 200)])
    one, other = (lengths(frame, None, seed=3) for frame in (every, every.reverse()))
    assert one == other
    assert one is not None
    assert (one.pairs, len(one.points)) == (POINTS + 200, POINTS)


def test_a_prompt_without_a_rejected_answer_is_no_pair():
    assert lengths(candidates([(10, 20)]).filter(pl.col("fate") == "chosen"), None, seed=1) is None


@pytest.mark.parametrize("chars", [0, 1])
def test_empty_answers_have_a_length_too(chars):
    found = lengths(candidates([(chars, 10)]), None, seed=1)
    assert found is not None
    assert found.axis.low > 0
