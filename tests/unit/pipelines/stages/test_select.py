"""Selection: gates, strength, tie-break, and what may be rejected."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fucina.factory.stage import Context, Outcome
from fucina.pipelines.stages.select import RULE, Select
from fucina.schemas.rows import Candidate
from tests.rows import GATES, candidate, frame, prompt


def select(candidates: list[Candidate], **config: Any) -> Outcome:
    stage = Select.model_validate({"strength": ["teacher", "student"], **config})
    return stage.run(frame([prompt("p", candidates=candidates)]), Context())


def picked(outcome: Outcome, candidates: list[Candidate]) -> tuple[str, str | None]:
    [selection] = outcome.kept["selection"].to_list()
    by_id = {item.candidate_id: item.response for item in candidates}
    return str(by_id[selection["chosen_id"]]), by_id.get(selection["rejected_id"])


def test_the_strongest_that_passes_against_the_one_that_fails_most() -> None:
    candidates = [
        candidate("teacher", "buona"),
        candidate("student", "così così"),
        candidate("student", "pessima", failing=["language", "refusal"]),
    ]
    outcome = select(candidates)
    assert picked(outcome, candidates) == ("buona", "pessima")
    [selection] = outcome.kept["selection"].to_list()
    assert selection["rule"] == RULE
    assert selection["rejected_why"] == "fails rules.language, rules.refusal"


def test_a_failing_teacher_gives_way() -> None:
    candidates = [candidate("teacher", "wrong", failing=["language"]), candidate("student", "giusta")]
    assert picked(select(candidates), candidates) == ("giusta", "wrong")


def test_ties_are_broken_by_the_lower_score() -> None:
    candidates = [candidate("teacher", "strana", nll=4.0), candidate("teacher", "naturale", nll=2.0)]
    assert picked(select(candidates, tie_break="perplexity.nll"), candidates) == ("naturale", None)


def test_nobody_passes_is_a_drop_with_counts() -> None:
    outcome = select([candidate("teacher", "no", failing=["refusal"]), candidate("student", None)])
    assert outcome.kept.height == 0
    assert outcome.dropped["reason"].to_list() == ["no candidate passes the gates: rules.refusal 1 of 1"]


def test_a_gate_that_nobody_judged_is_not_passed() -> None:
    outcome = select([candidate("teacher", "buona")], gates=["safety.verdict"])
    assert outcome.dropped["reason"].to_list() == ["no candidate passes the gates: safety.verdict 1 of 1"]


def test_rejected_only_from_the_named_origins() -> None:
    candidates = [candidate("teacher", "buona"), candidate("nano", "zzz", failing=["language"])]
    assert picked(select(candidates, rejected_from=["student"]), candidates) == ("buona", None)
    assert picked(select(candidates), candidates) == ("buona", "zzz")


def test_the_same_text_is_never_both() -> None:
    candidates = [candidate("teacher", "uguale"), candidate("student", " uguale\n")]
    assert picked(select(candidates), candidates) == ("uguale", None)


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.sampled_from(["teacher", "student", "nano", "original"]),
        st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d", " a"])),
        st.lists(st.sampled_from(GATES), unique=True),
        st.one_of(st.none(), st.floats(0, 9)),
    ),
    max_size=6,
    unique_by=lambda item: item.candidate_id,
)


@given(CANDIDATES)
def test_whatever_comes_a_pair_is_sound(candidates: list[Candidate]) -> None:
    """Chosen passes every gate and is of a named origin; rejected differs, and fails a gate or is weaker; order is no matter."""
    outcome, mirrored = select(candidates), select(candidates[::-1])
    assert outcome.kept["selection"].to_list() == mirrored.kept["selection"].to_list()
    for selection in outcome.kept["selection"].to_list():
        by_id = {item.candidate_id: item for item in candidates}
        order = {"teacher": 0, "student": 1}
        chosen = by_id[selection["chosen_id"]]
        assert chosen.origin in order
        assert {verdict.label for verdict in chosen.verdicts if verdict.judge == "rules"} == {"pass"}
        if selection["rejected_id"] is not None:
            rejected = by_id[selection["rejected_id"]]
            assert (rejected.response or "").strip() != (chosen.response or "").strip()
            fails = any(verdict.label == "fail" for verdict in rejected.verdicts)
            assert fails or order.get(rejected.origin, 2) > order[chosen.origin]
