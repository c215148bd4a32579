import polars as pl
import pytest

from fucina.factory.errors import InputError, RunError
from fucina.factory.report.facts import Cell, Share, check_sums, gates, mix, origins, other_labels, read_facts


def said(rows: list[tuple[str, str, str | None, bool]]) -> pl.DataFrame:
    """Verdicts of a judge, (origin, aspect, label, error)."""
    return pl.DataFrame(
        [("panel", aspect, origin, label, error) for origin, aspect, label, error in rows],
        schema=["judge", "aspect", "origin", "label", "error"],
        orient="row",
    )


def test_the_funnel_adds_up(finished):
    facts = read_facts(finished.path)
    stages = facts.manifest.stages
    assert stages[0].rows_in == facts.dropped + stages[-1].rows_kept
    assert facts.dropped == 4
    assert [(use.record.format, use.used, use.dropped) for use in facts.datasets] == [
        ("sft", 5, 0), ("dpo", 5, 0), ("kto", 4, 1), ("grpo", 5, 0)
    ]  # fmt: skip


def test_counts_that_do_not_add_up_are_refused(manifest):
    first, *rest = manifest.stages
    broken = first.model_copy(update={"dropped": {}})
    with pytest.raises(RunError, match=r"collect: 9 rows came in, 8 came out"):
        check_sums(manifest.model_copy(update={"stages": [broken, *rest]}))
    longer = rest[-1].model_copy(update={"rows_in": 7, "rows_kept": 6})
    with pytest.raises(RunError, match=r"select: 6 rows came in, 7 came out"):
        check_sums(manifest.model_copy(update={"stages": [first, *rest[:-1], longer]}))


def test_mixes_show_what_was_dropped_on_the_way(finished):
    facts = read_facts(finished.path)
    assert facts.languages.shares == (Share("it", 5, 2), Share("en", 0, 1))
    assert facts.categories.shares[0] == Share("cultura", 2, 1)
    assert sum(share.total for share in facts.categories.shares) + facts.categories.unknown == 8


def test_rare_categories_become_one():
    prompts = pl.DataFrame({"category": [f"c{n:02d}" for n in range(30)] + ["c00", None], "kept": [True] * 32})
    found = mix(prompts, "category")
    assert (found.shares[0], found.unknown) == (Share("c00", 2, 0), 1)
    assert found.shares[-1] == Share("13 others", 13, 0)
    assert sum(share.kept for share in found.shares) == 31


def test_origins_and_gates(finished):
    facts = read_facts(finished.path)
    teacher, student = facts.origins
    assert (teacher.chosen, teacher.rejected, teacher.unused, teacher.failed) == (5, 0, 1, 0)
    assert (student.chosen, student.rejected, student.unused, student.failed) == (0, 5, 1, 3)
    assert student.models == ("recorded-weak",)
    failures = {gate.aspect: (gate.cells["teacher"].failed, gate.cells["student"].failed) for gate in facts.gates}
    assert failures == {"truncation": (0, 1), "refusal": (0, 1), "language": (0, 1)}
    assert {panel.aspect for panel in facts.scores} == {"nll", "bits_per_char"}


def test_a_judge_that_failed_is_neither_pass_nor_fail():
    [gate] = gates(said([("t", "safe", "pass", False), ("t", "safe", "fail", False), ("t", "safe", None, True)]))
    assert gate.cells == {"t": Cell(failed=1, judged=2, errors=1)}


def test_labels_of_a_judges_own_are_counted_apart():
    verdicts = said([("t", "tone", "formal", False), ("t", "tone", "pass", False), ("s", "tone", "formal", False)])
    assert gates(verdicts) == []
    [found] = other_labels(verdicts)
    assert found.counts == {"formal": {"s": 1, "t": 1}, "pass": {"t": 1}}


def test_scores_without_labels_are_neither():
    verdicts = said([("t", "nll", None, False)]).with_columns(pl.col("label").cast(pl.String))
    assert gates(verdicts) == []
    assert other_labels(verdicts) == []


def test_engines_are_told_by_what_they_are(finished):
    facts = read_facts(finished.path)
    assert [(use.role, use.stages) for use in facts.engines] == [
        ("teacher", ("regenerate",)), ("student", ("regenerate",)), ("scorer", ("perplexity",))
    ]  # fmt: skip
    assert [use.role for use in facts.recorded] == ["teacher", "student"]
    assert facts.nano == ["nano-a"]


def test_a_nano_model_that_is_only_trained_is_told_too(make, asked):
    run = make([asked("Che ore sono?", "Le tre.", "Boh.")])
    manifest = run.manifest()
    recipe = {**manifest.recipe, "train": {"base": "scorer"}}
    stages = [stage.model_copy(update={"engines": {}}) for stage in manifest.stages]
    run.write_manifest(manifest.model_copy(update={"recipe": recipe, "stages": stages}))
    assert read_facts(run.path).nano == ["scorer"]


def test_a_run_that_has_just_begun(builder):
    facts = read_facts(builder.run.path)
    assert (facts.origins, facts.gates, facts.scores, facts.lengths, facts.examples) == ((), (), (), None, ())


def test_no_run_directory(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        read_facts(tmp_path)


def test_an_answer_that_never_came_is_counted_as_an_error_and_not_as_judged():
    candidates = pl.DataFrame(
        {
            "origin": ["t"] * 3, "model": ["m"] * 3, "revision": [None, None, "r1"], "chars": [10, None, 30],
            "cut": [False] * 3, "error": [False, True, False], "failed": [True, False, False], "fate": ["unused"] * 3,
        }
    )  # fmt: skip
    [found] = origins(candidates, ["t"])
    assert (found.answers, found.errors, found.answered, found.failed, found.chars) == (3, 1, 2, 1, 20)
    assert found.models == ("m", "m @ r1")
