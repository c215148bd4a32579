import math

import pytest

from fucina.schemas.evaluation import Evaluation, ModelEvaluation
from fucina.train.compare import compare, figure, t_quantile


def test_mean_and_standard_error():
    """Values 1, 2, 3, 4: mean 2.5, s² = 5/3, standard error √(5/12)."""
    found = figure([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.se == pytest.approx(math.sqrt(5 / 12))
    assert figure([3.0]).se is None


@pytest.mark.parametrize(
    ("freedom", "exact"), [(4, 2.7764), (5, 2.5706), (9, 2.2622), (31, 2.0395), (100, 1.9840), (10000, 1.9602)]
)
def test_quantiles_of_students_t(freedom, exact):
    assert t_quantile(0.975, freedom) == pytest.approx(exact, rel=0.01)


def test_a_shift_common_to_all_rows_is_seen_through_large_spread():
    """Unpaired, the rows' spread (se about 9) would hide a difference of 0.1."""
    base = [float(value) for value in range(0, 100, 5)]
    shifted = [value - 0.1 - 0.01 * (index % 3) for index, value in enumerate(base)]
    assert compare(shifted, base, lower_is_better=True).outcome == "better"
    assert compare(shifted, base, lower_is_better=False).outcome == "worse"
    assert compare(base, shifted, lower_is_better=True).outcome == "worse"


def test_differences_that_cancel_are_noise():
    base = [1.0] * 20
    other = [1.0 + (0.5 if index % 2 else -0.5) for index in range(20)]
    found = compare(other, base, lower_is_better=True)
    assert found.outcome == "within noise"
    assert found.low < 0 < found.high


def test_identical_models_are_noise():
    values = [0.1, 0.4, 0.9, 0.2, 0.7, 0.3]
    found = compare(values, values, lower_is_better=True)
    assert (found.difference.mean, found.difference.se, found.outcome) == (0.0, 0.0, "within noise")


def test_four_rows_claim_nothing():
    found = compare([0.0] * 4, [1.0] * 4, lower_is_better=True)
    assert (found.outcome, found.low) == ("within noise", None)


def test_rows_must_match():
    with pytest.raises(ValueError, match="shorter"):
        compare([1.0, 2.0], [1.0], lower_is_better=True)


def test_evaluation_round_trips():
    model = ModelEvaluation(name="base", digest="d", nll=figure([1.0, 2.0]))
    evaluation = Evaluation(key="k", base="base", language="it", models=[model], seconds=1.0, packages={})
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
