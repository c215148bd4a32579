import shutil

import pytest

from fucina.factory.errors import RunError
from fucina.factory.report.rows import read_rows
from fucina.factory.rundir import RunDirectory


def test_every_prompt_is_there_once_whoever_dropped_it(finished, manifest):
    prompts = read_rows(finished.path, manifest).prompts
    collected = manifest.stages[0].rows_kept
    assert prompts.height == prompts["prompt_id"].n_unique() == collected
    assert prompts["kept"].sum() == manifest.stages[-1].rows_kept


def test_answers_of_dropped_prompts_count_and_have_no_fate(finished, manifest):
    candidates = read_rows(finished.path, manifest).candidates
    # Six prompts reached the engines; one of them was dropped by `select`.
    assert candidates.group_by("fate").len().sort("fate").rows() == [("chosen", 5), ("rejected", 5), ("unused", 2)]


def test_an_answer_fails_when_one_of_its_verdicts_does(finished, manifest):
    candidates = read_rows(finished.path, manifest).candidates
    failed = candidates.filter("failed").group_by("origin").len().rows()
    # The student's English, refusing and cut answers; every answer of the teacher is whole Italian.
    assert failed == [("student", 3)]


def test_verdicts_know_whose_answer_they_are_about(finished, manifest):
    verdicts = read_rows(finished.path, manifest).verdicts
    assert verdicts.height == 12 * 5
    assert verdicts["score"].null_count() == 0
    assert set(verdicts.select("origin", "fate").unique().rows()) == {
        ("teacher", "chosen"), ("teacher", "unused"), ("student", "rejected"), ("student", "unused")
    }  # fmt: skip


def test_a_lost_stage_folder_is_named(finished, manifest, tmp_path):
    copy = RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))
    lost = manifest.stages[2].folder
    shutil.rmtree(copy.path / lost)
    with pytest.raises(RunError, match=lost):
        read_rows(copy.path, manifest)
