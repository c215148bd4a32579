"""A verdict or candidate that says nothing, or two things at once, cannot be made."""

import pytest
from pydantic import ValidationError

from fucina.schemas.generation import GenerationResult
from fucina.schemas.rows import Candidate, Verdict
from fucina.schemas.sets import DpoRow


def test_a_failed_verdict_has_an_error_and_no_score() -> None:
    failed = Verdict(judge="j", version="1", aspect="a", error="the server was down")
    assert failed.score is None
    with pytest.raises(ValidationError, match="failed verdict carries no score"):
        Verdict(judge="j", version="1", aspect="a", score=0.0, error="the server was down")
    with pytest.raises(ValidationError, match="a score, a label or an error"):
        Verdict(judge="j", version="1", aspect="a")


@pytest.mark.parametrize("fields", [{}, {"response": "x", "error": "y"}])
def test_a_candidate_has_a_response_or_an_error(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="either a response or an error"):
        Candidate.model_validate({"candidate_id": "c", "origin": "o", "model": "m", **fields})
    with pytest.raises(ValidationError, match="either a response or an error"):
        GenerationResult.model_validate({"request_id": "r", **fields})


def test_an_empty_answer_is_an_answer() -> None:
    assert GenerationResult(request_id="r", response="").error is None


def test_a_pair_cannot_tie() -> None:
    same = [{"role": "assistant", "content": "sì"}]
    with pytest.raises(ValidationError, match="the same text"):
        DpoRow.model_validate(
            {
                "row_id": "r", "prompt": [{"role": "user", "content": "?"}], "chosen": same, "rejected": same,
                "prompt_id": "p", "chosen_id": "a", "rejected_id": "b", "chosen_origin": "x", "rejected_origin": "y",
            }
        )  # fmt: skip


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden|Extra inputs"):
        Verdict.model_validate({"judge": "j", "version": "1", "aspect": "a", "label": "pass", "colour": "red"})
