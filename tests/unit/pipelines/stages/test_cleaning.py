"""Repair, language, classify, deduplicate and split on labelled data."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fucina.factory.stage import Context
from fucina.pipelines.stages.classify import Classify, category_of
from fucina.pipelines.stages.deduplicate import Deduplicate
from fucina.pipelines.stages.language import Language
from fucina.pipelines.stages.repair import Repair, repair_text
from fucina.pipelines.stages.split import Split
from tests.rows import frame, prompt

CTX = Context()


@pytest.fixture(scope="module")
def defects(seeds: Path) -> list[dict[str, Any]]:
    lines = (seeds / "defects.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rows(defects: list[dict[str, Any]]) -> pl.DataFrame:
    return frame([prompt(row["prompt"], prompt_id=row["id"], response=row["response"]) for row in defects])


def test_repair_undoes_mojibake_where_ftfy_can(defects: list[dict[str, Any]]) -> None:
    broken = [row["gold"] | {"prompt": row["prompt"]} for row in defects if row["gold"]["defect"] == "mojibake"]
    assert len(broken) >= 24
    repaired = [repair_text(row["prompt"]) == row["text"] for row in broken]
    assert repaired == [row["ftfy_keep_quotes"] for row in broken]
    assert sum(repaired) >= 23


def test_repair_leaves_clean_text_alone(defects: list[dict[str, Any]]) -> None:
    """But for the two rows that look like mojibake on purpose, and whose gold says so."""
    clean = [row for row in defects if row["gold"]["defect"] == "clean"]
    changed = [row["id"] for row in clean for text in (row["prompt"], row["response"]) if repair_text(text) != text]
    known = [row["id"] for row in clean if "ftfy_keep_quotes" in row["gold"]]
    assert set(changed) <= set(known)
    assert len(known) <= 2


def test_repair_drops_what_is_empty_afterwards() -> None:
    outcome = Repair().run(frame([prompt("\u0001\u0002"), prompt("ciao")]), CTX)
    assert outcome.kept["prompt"].to_list() == ["ciao"]
    assert outcome.dropped["reason"].to_list() == ["nothing left after repair"]


def test_language_keeps_the_wanted_and_the_undecided() -> None:
    texts = ["Buongiorno a tutti voi amici miei", "Good morning to all of you my friends", "42?"]
    outcome = Language().run(frame([prompt(text) for text in texts]), CTX)
    assert outcome.kept["language"].to_list() == ["it", "und"]
    assert outcome.dropped["reason"].to_list() == ["language: en"]
    assert Language(keep=["it", "en"]).run(frame([prompt(text) for text in texts]), CTX).kept.height == 3


def test_classify_fills_only_what_is_open() -> None:
    table = frame([prompt("Traduci in inglese: buongiorno"), prompt("Traduci: ciao", category="mia"), prompt("Mah.")])
    assert Classify().run(table, CTX).kept["category"].to_list() == ["translation", "mia", "other"]
    assert category_of("Write a Python function that sorts a list") == "code"


def test_deduplicate_finds_what_was_planted_and_nothing_else(defects: list[dict[str, Any]]) -> None:
    outcome = Deduplicate(threshold=0.7).run(rows(defects), CTX)
    gold = {row["id"]: row["gold"] for row in defects}
    dropped = dict(zip(outcome.dropped["prompt_id"].to_list(), outcome.dropped["reason"].to_list(), strict=True))
    planted = {
        frozenset({row, other["of"]})
        for row, other in gold.items()
        if other["defect"] == "exact_duplicate" or (other["defect"] == "near_duplicate" and other["jaccard"] >= 0.7)
    }
    merged = {frozenset({row, reason.split(" of ")[1].split(" ")[0]}) for row, reason in dropped.items()}
    assert len(planted) == len(merged) == len(dropped) >= 30
    assert merged == planted


def test_deduplicate_keeps_the_same_rows_in_any_order(defects: list[dict[str, Any]]) -> None:
    table = rows(defects)
    forward = set(Deduplicate().run(table, CTX).kept["prompt_id"].to_list())
    assert set(Deduplicate().run(table.reverse(), CTX).kept["prompt_id"].to_list()) == forward
    assert (
        set(Deduplicate().run(table.sample(fraction=1, shuffle=True, seed=3), CTX).kept["prompt_id"].to_list())
        == forward
    )


def test_deduplicate_exact_only(defects: list[dict[str, Any]]) -> None:
    outcome = Deduplicate(near=False).run(rows(defects), CTX)
    assert outcome.dropped.height == 15


def test_split_is_by_content_and_respects_the_source() -> None:
    table = frame([prompt(str(i), split="test" if i == 0 else None) for i in range(2000)])
    splits = Split(test=0.1).run(table, CTX).kept
    assert splits["split"][0] == "test"
    assert 160 <= (splits["split"] == "test").sum() <= 240
    some = Split(test=0.1).run(table.tail(500), CTX).kept
    assert some.equals(splits.tail(500))
    assert not Split(test=0.1).run(table, Context(seed=18)).kept.equals(splits)
