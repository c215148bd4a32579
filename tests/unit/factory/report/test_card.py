import importlib
import shutil

import polars as pl
import pytest
import yaml

from fucina.factory.report.card import unchecked, write_card
from fucina.factory.rundir import RunDirectory
from fucina.schemas.recipe import Recipe


@pytest.fixture
def run(finished, tmp_path) -> RunDirectory:
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))


def card_of(run: RunDirectory, name: str) -> tuple[dict, str]:
    """Front matter and text of a card."""
    [record] = [record for record in run.manifest().datasets if record.format == name]
    _, matter, text = write_card(run.path, record).read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter), text


def test_front_matter_in_the_hubs_terms(run):
    matter, _ = card_of(run, "dpo")
    assert matter["license"] == "cc-by-4.0"
    assert matter["language"] == ["it"]
    assert matter["size_categories"] == ["n<1K"]
    assert matter["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "train.parquet"}, {"split": "test", "path": "test.parquet"}],
        }
    ]


@pytest.mark.parametrize("name", ["sft", "dpo", "kto", "grpo"])
def test_the_folder_loads_with_the_real_library(run, name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = importlib.import_module("datasets")

    card_of(run, name)
    folder = run.datasets / name
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    # `datasets` refuses a split without rows; the card names those that have some.
    written = {split: pl.read_parquet(folder / f"{split}.parquet").to_dicts() for split in ("train", "test")}
    assert {split: loaded[split].to_list() for split in loaded} == {
        split: rows for split, rows in written.items() if rows
    }


def test_every_column_is_listed_and_explained(run):
    for name in ("sft", "dpo", "kto", "grpo"):
        _, text = card_of(run, name)
        for column in pl.read_parquet_schema(run.datasets / name / "train.parquet"):
            [line] = [line for line in text.splitlines() if line.startswith(f"| `{column}` |")]
            assert len(line.split(" | ")[2].strip("| ")) > 5, f"{name}.{column} is not explained"


def test_the_card_tells_how_the_set_was_made(run):
    manifest = run.manifest()
    _, text = card_of(run, "kto")
    for part in (
        "| language | 8 | 7 | language: 1 |", "| **kto** | 5 | 4 rows | too few rows for a window: 1 |",
        "| teacher | replay | recorded-good | – | regenerate | answers written for this project, played back |",
        "| scorer | nano | nano-a | 0123456789abcdef | perplexity | a nano model |", "| semi.jsonl | 5 |",
        "`gates_then_score 1`", "Do not shuffle", manifest.datasets[2].digest, manifest.recipe_key,
    ):  # fmt: skip
        assert part in text, part


def test_the_recipe_in_the_card_is_the_recipe(run):
    _, text = card_of(run, "sft")
    shown = Recipe.model_validate(yaml.safe_load(text.split("````yaml\n")[1].split("````")[0]))
    assert shown == Recipe.model_validate(run.manifest().recipe)


def test_folders_of_the_machine_stay_out_of_the_card(run):
    manifest = run.manifest()
    steps = [
        {"name": "collect", "config": {"paths": ["/home/anna/segreto/semi.jsonl"]}},
        *manifest.recipe["stages"][1:],
    ]
    run.write_manifest(manifest.model_copy(update={"recipe": {**manifest.recipe, "stages": steps}}))
    _, text = card_of(run, "sft")
    assert "segreto" not in text
    assert "…/semi.jsonl" in text


def test_limits_name_what_no_stage_looked_at(manifest):
    told = " ".join(unchecked(manifest))
    assert "Near-duplicate" not in told, "deduplicate ran"
    assert "benchmarks" in told
    fewer = manifest.model_copy(update={"stages": manifest.stages[:1]})
    assert "Near-duplicate" in " ".join(unchecked(fewer))


def test_texts_cannot_break_the_tables(run):
    manifest = run.manifest()
    stage = manifest.stages[0].model_copy(update={"dropped": {"a | b\nc": 1}})
    run.write_manifest(manifest.model_copy(update={"stages": [stage, *manifest.stages[1:]]}))
    _, text = card_of(run, "sft")
    assert "| collect | 9 | 8 | a \\| b c: 1 |" in text
