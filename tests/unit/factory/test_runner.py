"""The runner: addresses, resume, one result for any shard size and worker count, rows that add up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import PluginError, RecipeError, RunError
from fucina.factory.hashing import frame_digest
from fucina.factory.job import prepare
from fucina.factory.recipes import load_recipe
from fucina.factory.rundir import RunDirectory
from fucina.factory.runner import Options, Runner, checked, final_rows, plan
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind
from fucina.factory.store import StageFolder
from tests.rows import frame, prompt

RECIPE = """\
name: prova
engines:
  teacher: {{engine: replay, path: {answers}, model: big}}
stages:
  - collect: {{paths: {prompts}}}
  - repair
  - language
  - deduplicate: {{threshold: 0.8}}
  - regenerate: {{engines: [teacher]}}
  - rules
  - select: {{strength: [teacher]}}
formats: [sft]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Forty prompts with recorded answers; three are duplicates, one has no answer, one line is broken."""
    people = [a + b + c for a in "BDLMR" for b in "aeo" for c in ("nti", "ssi", "rri")][:37]
    names = [f"Spiegami con parole semplici che cosa fa il signor {name} quando esce di casa" for name in people]
    lines = [json.dumps({"id": i, "prompt": text}) for i, text in enumerate([*names, *names[:3]])]
    (tmp_path / "prompts.jsonl").write_text("\n".join([*lines[:2], "{", *lines[2:]]) + "\n", encoding="utf-8")
    answers = [
        {"prompt_id": i, "model": "big", "response": f"Il signor numero {i} va al mercato e compra del pane fresco."}
        for i in range(40)
        if i != 5
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers), encoding="utf-8")
    path = tmp_path / "prova.yaml"
    text = RECIPE.format(answers=tmp_path / "answers.jsonl", prompts=tmp_path / "prompts.jsonl")
    path.write_text(text, encoding="utf-8")
    return path


def run(path: Path, out: Path, options: Options | None = None, overrides: tuple[str, ...] = ()) -> Any:
    recipe = load_recipe(path, overrides)
    job = prepare(recipe, path.name, out)
    job.run.claim(recipe)
    try:
        return Runner(recipe, job.run, job.engines, options or Options()).run(job.planned)
    finally:
        job.run.release()


def test_counts_add_up_and_reasons_are_told(recipe: Path, tmp_path: Path) -> None:
    manifest = run(recipe, tmp_path / "out")
    by_name = {stage.name: stage for stage in manifest.stages}
    assert by_name["collect"].rows_in == 41
    assert by_name["collect"].dropped == {"invalid JSON": 1}
    assert by_name["deduplicate"].dropped == {"exact duplicate": 3}
    assert by_name["regenerate"].dropped == {"no answer": 1}
    assert by_name["regenerate"].errors == 1
    for above, below in zip(manifest.stages, manifest.stages[1:], strict=False):
        assert below.rows_in == above.rows_kept
    assert all(s.rows_in == s.rows_kept + sum(s.dropped.values()) for s in manifest.stages)


@pytest.mark.parametrize("options", [Options(shard_rows=7), Options(shard_rows=3, workers=2)])
def test_shards_and_workers_change_no_row(recipe: Path, tmp_path: Path, options: Options) -> None:
    whole, parts = run(recipe, tmp_path / "a"), run(recipe, tmp_path / "b", options)
    assert [stage.key for stage in whole.stages] == [stage.key for stage in parts.stages]
    left = final_rows(RunDirectory(tmp_path / "a"), whole)
    right = final_rows(RunDirectory(tmp_path / "b"), parts)
    assert left.height == 36
    assert frame_digest(left) == frame_digest(right)


def test_a_second_run_does_nothing_and_a_change_reruns_what_follows(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(recipe, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*.parquet")}
    run(recipe, out)
    assert {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*.parquet")} == before
    run(recipe, out, overrides=("stages.deduplicate.threshold=0.5",))
    new = {path.name[:2] for path in (out / "stages").iterdir() if not any(path in old.parents for old in before)}
    assert new == {"04", "05", "06", "07"}


def test_an_unfinished_stage_goes_on_or_starts_anew_when_cut_otherwise(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run(recipe, out, Options(shard_rows=10))
    digest = frame_digest(final_rows(RunDirectory(out), manifest))
    rules = out / manifest.stages[5].folder
    for name in ("DONE.json", "kept-00001.parquet"):
        (rules / name).unlink()
    kept = (rules / "kept-00000.parquet").stat().st_mtime_ns
    run(recipe, out, Options(shard_rows=10))
    assert (rules / "kept-00000.parquet").stat().st_mtime_ns == kept
    (rules / "DONE.json").unlink()
    again = run(recipe, out, Options(shard_rows=100))
    assert len(list(rules.glob("kept-*.parquet"))) == 1
    assert frame_digest(final_rows(RunDirectory(out), again)) == digest


def test_changed_input_or_answers_change_the_addresses(recipe: Path, tmp_path: Path) -> None:
    before = [stage.key for stage in run(recipe, tmp_path / "out").stages]
    with (tmp_path / "answers.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(
            json.dumps({"prompt_id": 5, "model": "big", "response": "Adesso c'è anche questa risposta."}) + "\n"
        )
    after = [stage.key for stage in run(recipe, tmp_path / "out").stages]
    assert after[:4] == before[:4]
    assert not set(after[4:]) & set(before[4:])


def test_the_output_folder_has_one_owner(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(recipe, out)
    with pytest.raises(RunError, match="belongs to recipe 'prova', this is 'altra'"):
        run(recipe, out, overrides=("name=altra",))
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty and not a run directory"):
        run(recipe, full)
    held = RunDirectory(out)
    held.claim(load_recipe(recipe))
    with pytest.raises(RunError, match="another process is running"):
        run(recipe, out)
    held.release()


def test_nothing_left_is_an_error_with_reasons(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="stage language kept none of 40 rows: language 40"):
        run(recipe, tmp_path / "out", overrides=("stages.language.keep=[ja]",))


def test_to_must_name_a_stage(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--to rulez"):
        prepare(load_recipe(recipe), recipe.name, tmp_path / "out", to="rulez")


def test_a_recipe_starts_with_its_source(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe, ("stages=[repair]",))
    with pytest.raises(RunError, match="starts with its one source"):
        prepare(loaded, recipe.name, tmp_path / "out")


def test_a_stage_must_find_its_columns_filled(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(
        recipe, ("stages=[{collect: {paths: " + str(tmp_path / "prompts.jsonl") + "}}, {select: {strength: [x]}}]",)
    )
    with pytest.raises(RecipeError, match="stage select reads candidates, which no stage before it fills"):
        prepare(loaded, recipe.name, tmp_path / "out")


class Loses(StageConfig):
    """A broken stage: forgets its last row."""

    name: ClassVar[str] = "loses"

    def run(self, rows: pl.DataFrame) -> Outcome:
        return Outcome.all_kept(rows.head(rows.height - 1))


class Doubles(StageConfig):
    """A broken stage: a plugin that gives two rows one id."""

    name: ClassVar[str] = "doubles"
    kind: ClassVar[StageKind] = "source"
    adds: ClassVar[tuple[str, ...]] = ("prompt_id", "prompt")

    def fingerprint(self) -> dict[str, str]:
        return {}

    def read(self, shard_rows: int, ctx: Context) -> Iterator[Outcome]:
        del shard_rows, ctx
        for _ in range(2):
            yield Outcome.all_kept(frame([prompt("sempre uguale")]))


def test_the_runner_catches_stages_that_lose_invent_or_drop_in_silence() -> None:
    rows = frame([prompt(text) for text in "abc"])
    with pytest.raises(PluginError, match="stage loses: 3 in, 2 kept"):
        checked(Loses(), rows, Loses().run(rows))
    with pytest.raises(PluginError, match="without a reason"):
        silent = rows.head(1).with_columns(pl.lit(None, dtype=pl.String).alias("reason"))
        checked(Loses(), rows, Outcome(rows.tail(2), silent))
    with pytest.raises(PluginError, match="3 in, 3 kept"):
        checked(Loses(), rows, Outcome.all_kept(pl.concat([rows.head(1)] * 3)))


def test_the_runner_catches_a_source_that_repeats_an_id(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    directory = RunDirectory(tmp_path / "out")
    directory.claim(loaded)
    planned = plan(loaded, [Doubles()], EngineBook(), directory)
    with pytest.raises(PluginError, match="two rows one prompt_id"):
        Runner(loaded, directory, EngineBook(), Options()).run(planned)
    directory.release()


def test_shards_are_cut_anew(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "s")
    folder.start(10)
    rows = frame([prompt(str(i)) for i in range(25)])
    for index in range(3):
        folder.write(index, Outcome.all_kept(rows.slice(10 * index, 10)))
    assert [shard.height for shard in folder.shards(8)] == [8, 8, 8, 1]
    assert [shard.height for shard in folder.shards(100)] == [25]
    assert pl.concat(folder.shards(8)).equals(rows)
