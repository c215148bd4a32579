"""Any row of any data set leads back to its source line."""

import json
from pathlib import Path

import polars as pl
import pytest

from fucina.factory.datasets import build_formats, write_dataset
from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import InputError
from fucina.factory.recipes import build_stages, load_recipe
from fucina.factory.rundir import RunDirectory
from fucina.factory.runner import Options, Runner, final_rows, plan
from fucina.factory.stage import Context
from fucina.factory.trace import trace


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with a pair in every data set, one repaired prompt, one dropped duplicate."""
    folder = tmp_path_factory.mktemp("trace")
    prompts = [
        {
            "id": "uno",
            "prompt": "PerchÃ© il cielo diventa rosso al tramonto?",
            "response": "Mi dispiace, non posso rispondere.",
        },
        {
            "id": "due",
            "prompt": "Come si prepara un buon caffè con la moka?",
            "response": "I cannot help you with that request.",
        },
        {"id": "tre", "prompt": "come si prepara un buon caffè con la MOKA", "response": "Non saprei proprio."},
        {
            "id": "quattro",
            "prompt": "Che cosa si mangia a Bologna la domenica?",
            "response": "Sorry, I can't answer this question.",
        },
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts), encoding="utf-8")
    answers = [
        {"prompt_id": p["id"], "model": "m", "response": f"Ecco una spiegazione chiara e breve, la {p['id']}."}
        for p in prompts
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    (folder / "r.yaml").write_text(
        "name: traccia\n"
        f"engines: {{teacher: 'replay:{folder / 'answers.jsonl'}#m'}}\n"
        "stages:\n"
        f"  - collect: {{paths: {folder / 'prompts.jsonl'}}}\n"
        "  - repair\n  - deduplicate\n  - regenerate: {engines: [teacher]}\n  - rules\n"
        "  - select: {strength: [teacher]}\n"
        "formats: {sft: {}, dpo: {}, kto: {window: 2}, grpo: {}}\n",
        encoding="utf-8",
    )  # fmt: skip
    recipe = load_recipe(folder / "r.yaml")
    directory, engines = RunDirectory(folder / "out"), EngineBook(recipe.engines)
    directory.claim(recipe)
    planned = plan(recipe, build_stages(recipe, "r.yaml"), engines, directory)
    manifest = Runner(recipe, directory, engines, Options()).run(planned)
    rows = final_rows(directory, manifest)
    records = [write_dataset(directory, maker, rows, Context()) for maker in build_formats(recipe)]
    directory.write_manifest(manifest.model_copy(update={"datasets": records}))
    directory.release()
    return folder / "out"


@pytest.mark.parametrize("name", ["sft", "dpo", "kto", "grpo"])
def test_every_row_of_every_data_set_is_found(run: Path, name: str) -> None:
    rows = pl.read_parquet(run / "datasets" / name / "train.parquet")
    assert rows.height >= 2
    for row_id in rows["row_id"].to_list():
        found = trace(run, row_id)
        assert found.source == "prompts.jsonl"
        assert found.source_id in {"uno", "due", "quattro", "tre"}
        assert [step.stage for step in found.steps] == [
            "collect", "repair", "deduplicate", "regenerate", "rules", "select",
        ]  # fmt: skip
        assert any(row["dataset"] == f"{name}/train" and row["row_id"] == row_id for row in found.rows)


def test_steps_say_what_they_changed(run: Path) -> None:
    rows = pl.read_parquet(run / "datasets" / "sft" / "train.parquet")
    [prompt_id] = rows.filter(pl.col("prompt").list.first().struct.field("content").str.contains("cielo"))[
        "prompt_id"
    ].to_list()
    found = trace(run, prompt_id[:10])
    steps = {step.stage: step.changed for step in found.steps}
    assert found.source_line == 1
    assert steps["collect"]["prompt"].startswith("PerchÃ©")
    assert steps["repair"] == {"prompt": "Perché il cielo diventa rosso al tramonto?"}
    assert steps["deduplicate"] == {}
    assert steps["select"]["selection"]["rule"] == "gates-strength/1"


def test_a_dropped_row_tells_where_and_why(run: Path) -> None:
    dropped = pl.concat(pl.read_parquet(path) for path in (run / "stages").glob("03-*/dropped-*.parquet"))
    found = trace(run, dropped["prompt_id"][0])
    assert found.rows == []
    assert found.steps[-1].outcome.startswith("dropped: exact duplicate: of ")


def test_ids_that_lead_nowhere(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nessuno' is in no data set and no stage"):
        trace(run, "nessuno")
    with pytest.raises(InputError, match="fits 4 prompts"):
        trace(run, "")
    with pytest.raises(InputError, match="not a run directory"):
        trace(tmp_path, "x")
