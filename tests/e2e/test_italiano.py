"""The main job's data half on real prompts and recorded answers of four real models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.shared]

ITALIAN = {
    "il",
    "lo",
    "la",
    "gli",
    "le",
    "un",
    "una",
    "di",
    "del",
    "della",
    "dei",
    "che",
    "è",
    "e",
    "per",
    "con",
    "non",
    "sono",
    "si",
    "come",
    "più",
    "nel",
    "alla",
    "anche",
    "questo",
}
ENGLISH = {
    "the",
    "of",
    "and",
    "to",
    "is",
    "that",
    "it",
    "for",
    "with",
    "this",
    "you",
    "are",
    "be",
    "have",
    "not",
    "as",
    "your",
    "can",
    "will",
    "an",
    "from",
    "by",
    "which",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, fucina_home: Path) -> Path:
    out = tmp_path_factory.mktemp("italiano") / "out"
    answers = shared_data / "lcb_italian_responses.jsonl.gz"
    overrides = [f"stages.collect.paths={shared_data / 'lcb_italian_prompts.jsonl'}", "train=null"]
    overrides += [f"engines.{role}.path={answers}" for role in ("teacher", "student", "command_r", "mixtral")]
    done = subprocess.run(
        [sys.executable, "-m", "fucina.factory.cli.main", "run", "italiano", "--out", str(out), "--json"]
        + [part for override in overrides for part in ("--set", override)],
        env={**os.environ, "FUCINA_HOME": str(fucina_home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_no_answer_in_the_wrong_language_is_chosen(run: Path) -> None:
    """Checked by stop words, which the gate does not use."""
    texts = [
        row["completion"][-1]["content"]
        for split in ("train", "test")
        for row in pl.read_parquet(run / "datasets" / "sft" / f"{split}.parquet").iter_rows(named=True)
    ]
    assert len(texts) > 300
    wrong = []
    for text in texts:
        words = re.findall(r"[a-zà-ù]+", text.lower())
        english, italian = sum(word in ENGLISH for word in words), sum(word in ITALIAN for word in words)
        if english > italian:
            wrong.append(text)
    assert wrong == []


def test_every_row_is_accounted_for(run: Path) -> None:
    manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert stages["collect"]["rows_in"] == 399
    assert stages["regenerate"]["errors"] <= 3
    assert all(s["rows_in"] == s["rows_kept"] + sum(s["dropped"].values()) for s in manifest["stages"])
    final = manifest["stages"][-1]["rows_kept"]
    for record in manifest["datasets"]:
        if record["format"] in {"sft", "dpo"}:
            assert sum(record["rows"].values()) + sum(record["dropped"].values()) == final


def test_rejected_answers_are_the_ones_that_fail(run: Path) -> None:
    pairs = pl.read_parquet(run / "datasets" / "dpo" / "train.parquet")
    assert pairs.height > 250
    assert set(pairs["chosen_origin"]) <= {"teacher", "command_r", "mixtral", "student"}
    assert (pairs["chosen_id"] != pairs["rejected_id"]).all()
