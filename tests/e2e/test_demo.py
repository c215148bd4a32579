"""The embedded default as a new user runs it: one command, no network, everything there at the end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytestmark = pytest.mark.slow


def fucina(*arguments: str, cwd: Path, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fucina.factory.cli.main", *arguments],
        cwd=cwd,
        env={**os.environ, "FUCINA_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, fucina_home: Path) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    fucina("demo", "--out", "out", cwd=folder, home=fucina_home)
    return folder / "out"


@pytest.fixture(scope="module")
def manifest(demo: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((demo / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_every_row_is_accounted_for(manifest: dict[str, Any]) -> None:
    stages = manifest["stages"]
    assert stages[0]["rows_in"] == 256
    assert all(stage["rows_in"] == stage["rows_kept"] + sum(stage["dropped"].values()) for stage in stages)
    assert {record["format"]: sum(record["rows"].values()) for record in manifest["datasets"]} == {
        "sft": 256, "dpo": 256, "kto": 512, "grpo": 256,
    }  # fmt: skip


def test_the_sets_read_well(demo: Path) -> None:
    """The recorded teacher is chosen, the weaker student rejected, and no nano noise is in a set."""
    pairs = pl.concat(pl.read_parquet(demo / "datasets" / "dpo" / f"{split}.parquet") for split in ("train", "test"))
    assert set(pairs["chosen_origin"]) == {"teacher"}
    assert set(pairs["rejected_origin"]) == {"student"}
    assert pairs["category"].n_unique() >= 12


def test_the_hub_would_take_the_folder(demo: Path) -> None:
    import datasets

    for name in ("sft", "dpo", "kto", "grpo"):
        loaded = datasets.load_dataset(str(demo / "datasets" / name))
        assert set(loaded) == {"train", "test"}


def test_the_report_stands_alone(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert len(page) < 3_000_000
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"@import|url\(\s*['\"]?https?:", page)
    for word in ("maestro", "nano", "rules.language", "held-out"):
        assert word in page


def test_models_are_trained_fused_and_evaluated(demo: Path, manifest: dict[str, Any]) -> None:
    training = manifest["training"]
    assert set(training["models"]) == {"sft", "kto", "sft_kto", "dpo"}
    evaluated = {model["name"]: model for model in training["evaluation"]["models"]}
    assert {"base", "sft", "kto", "sft_kto", "dpo", "fused"} <= set(evaluated)
    assert all(model["nll"]["mean"] > 0 and model["nll"]["n"] == 32 for model in evaluated.values())
    assert all(0 <= model["preference"]["mean"] <= 1 and model["preference"]["n"] == 32 for model in evaluated.values())
    assert all((demo / model["folder"] / "model.safetensors").is_file() for model in training["models"].values())


def test_a_second_run_changes_nothing_and_is_quick(demo: Path, manifest: dict[str, Any], fucina_home: Path) -> None:
    weights = {path: path.stat().st_mtime_ns for path in demo.rglob("*.safetensors")}
    fucina("demo", "--out", "out", cwd=demo.parent, home=fucina_home)
    again = json.loads((demo / "manifest.json").read_text(encoding="utf-8"))
    assert [record["digest"] for record in again["datasets"]] == [record["digest"] for record in manifest["datasets"]]
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*.safetensors")} == weights


def test_any_row_leads_back_to_its_source(demo: Path, fucina_home: Path) -> None:
    row = json.loads((demo / "datasets" / "kto" / "train.jsonl").read_text(encoding="utf-8").splitlines()[3])
    found = json.loads(fucina("trace", str(demo), row["row_id"], "--json", cwd=demo, home=fucina_home))
    assert found["source"] == "prompts.jsonl"
    assert found["source_line"] >= 1
    assert {step["stage"] for step in found["steps"]} >= {"collect", "rules", "perplexity", "select"}
