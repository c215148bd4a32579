"""The compact stage over a run directory, killed and called again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fucina.factory.errors import InputError, RecipeError
from fucina.schemas.recipe import Training
from fucina.train import chain
from fucina.train.chain import run_training
from fucina.train.parts import load_part

FAST = {"learning_rate": 1e-3, "max_steps": 3}
PLAN = Training.model_validate(
    {
        "base": "student",
        "steps": ["dpo", "sft_kto", "kto", "sft"],
        "fuse": ["sft", "kto", "sft_kto"],
        "sft": FAST,
        "dpo": FAST,
        "kto": FAST,
    }
)


@pytest.fixture
def own_run(run, tmp_path) -> Path:
    shutil.copytree(run / "datasets", tmp_path / "run" / "datasets")
    return tmp_path / "run"


def stamps(run: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (run / "models").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_whole_chain_and_nothing_twice(own_run, base, monkeypatch):
    told = run_training(own_run, PLAN, base, "it", 3)
    assert list(told["models"]) == ["sft", "kto", "sft_kto", "dpo"]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for step, facts in told["models"].items():
        assert facts["folder"] == f"models/{step}-{facts['key']}"
        assert (own_run / facts["folder"] / "model.safetensors").is_file()
        assert facts["options"]["seed"] == 3
    lineage = {step: facts["base_digest"] for step, facts in told["models"].items()}
    sft = told["models"]["sft"]["digest"]
    assert lineage == {"sft": told["base"]["digest"], "kto": told["base"]["digest"], "sft_kto": sft, "dpo": sft}
    assert told["fused"]["digests"] == [told["models"][step]["digest"] for step in ("sft", "kto", "sft_kto")]
    assert [model["name"] for model in told["evaluation"]["models"]] == ["base", *told["models"], "fused"]
    assert (own_run / told["evaluation"]["folder"] / "evaluation.md").is_file()

    before = stamps(own_run)
    monkeypatch.setattr(chain, "load_part", lambda name: pytest.fail(f"{name} was loaded though all is there"))
    assert run_training(own_run, PLAN, base, "it", 3) == told
    assert stamps(own_run) == before


@pytest.mark.slow
def test_a_killed_chain_goes_on_where_it_stopped(own_run, base, monkeypatch):
    class Killed(BaseException):
        pass

    asked: list[str] = []

    def dying(name: str) -> Any:
        asked.append(name)
        if name == "fuse":
            raise Killed
        return load_part(name)

    monkeypatch.setattr(chain, "load_part", dying)
    with pytest.raises(Killed):
        run_training(own_run, PLAN, base)
    assert asked == ["sft", "kto", "kto", "dpo", "fuse"]
    before = stamps(own_run)
    (own_run / "models/.sft-0123.partial").mkdir()  # what a SIGKILL leaves
    asked.clear()
    monkeypatch.setattr(chain, "load_part", lambda name: asked.append(name) or load_part(name))
    run_training(own_run, PLAN, base)
    assert asked == ["fuse", "evaluate"]
    assert before.items() <= stamps(own_run).items()
    assert not list((own_run / "models").glob(".*"))


@pytest.mark.slow
def test_a_changed_setting_trains_what_it_concerns(own_run, base, monkeypatch):
    plan = PLAN.model_copy(update={"fuse": [], "evaluate": False})
    first = run_training(own_run, plan, base)
    asked: list[str] = []
    monkeypatch.setattr(chain, "load_part", lambda name: asked.append(name) or load_part(name))
    second = run_training(own_run, plan.model_copy(update={"dpo": {**FAST, "beta": 0.3}}), base)
    assert asked == ["dpo"]
    assert (first["fused"], first["evaluation"]) == (None, None)
    same = ("sft", "kto", "sft_kto")
    assert [first["models"][step] for step in same] == [second["models"][step] for step in same]
    assert first["models"]["dpo"]["key"] != second["models"]["dpo"]["key"]


@pytest.mark.slow
def test_two_stages_need_the_first(own_run, base):
    plan = Training(base="x", steps=["sft_kto"], evaluate=False, sft=FAST, kto=FAST)
    told = run_training(own_run, plan, base)
    assert list(told["models"]) == ["sft", "sft_kto"]


@pytest.mark.slow
def test_dpo_alone_starts_from_the_base(own_run, base):
    told = run_training(own_run, Training(base="x", steps=["dpo"], evaluate=False, dpo=FAST), base)
    assert told["models"]["dpo"]["base_digest"] == told["base"]["digest"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dpo": {"max_prompt_length": 5}}, RecipeError, "max_prompt_length"),
        ({"fuse": ["sft", "sft"]}, RecipeError, "two different models"),
        ({"kto": {"batch_size": 32}}, InputError, "one prompt twice"),
    ],
)
def test_mistakes_show_before_anything_is_trained(own_run, base, monkeypatch, change, error, message):
    monkeypatch.setattr(chain, "load_part", lambda name: pytest.fail(f"{name} was loaded"))
    with pytest.raises(error, match=message):
        run_training(own_run, PLAN.model_copy(update=change), base)
    assert not (own_run / "models").exists()


def test_missing_sets_show_before_anything_is_trained(own_run, base, monkeypatch):
    monkeypatch.setattr(chain, "load_part", lambda name: pytest.fail(f"{name} was loaded"))
    pl.read_parquet(own_run / "datasets/dpo/train.parquet").clear().write_parquet(
        own_run / "datasets/dpo/train.parquet"
    )
    with pytest.raises(InputError, match="dpo/train.parquet holds no rows"):
        run_training(own_run, PLAN, base)
    shutil.rmtree(own_run / "datasets" / "kto")
    with pytest.raises(InputError, match="no data at"):
        run_training(own_run, PLAN, base)


def test_the_chain_and_the_commands_load_no_heavy_library():
    code = (
        "import sys; import fucina.train.chain, fucina.train.cli; "
        "print([name for name in ('torch', 'transformers', 'trl', 'mergekit', 'lm_eval', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
