"""Formats: TRL's columns, one reason for every prompt without a row, an order that depends on content alone."""

import polars as pl
import pytest

from fucina.factory.stage import Context, Outcome
from fucina.pipelines.formats.dpo import Dpo
from fucina.pipelines.formats.grpo import Grpo
from fucina.pipelines.formats.kto import Kto
from fucina.pipelines.formats.sft import Sft
from fucina.pipelines.stages.select import Select
from tests.rows import candidate, frame, prompt

CTX = Context()


@pytest.fixture
def selected() -> pl.DataFrame:
    """Ten prompts with a pair, one with a chosen answer only; history and system on one of them."""
    rows = [
        prompt(
            f"domanda {i}",
            candidates=[candidate("teacher", f"buona {i}"), candidate("student", f"no {i}", ["refusal"])],
        )
        for i in range(9)
    ]
    turns = [{"role": "user", "content": "ciao"}, {"role": "assistant", "content": "salve"}]
    pair = [candidate("teacher", "buona 9"), candidate("student", "no 9", ["refusal"])]
    rows.append(prompt("domanda 9", system="Sei breve.", history=turns, candidates=pair))
    rows.append(prompt("domanda sola", candidates=[candidate("teacher", "buona e sola")]))
    outcome: Outcome = Select(strength=["teacher", "student"]).run(frame(rows), CTX)
    return outcome.kept


def test_sft(selected: pl.DataFrame) -> None:
    built = Sft().build(selected, CTX)
    assert len(built.rows) == 11
    assert built.dropped.height == 0
    whole = next(row.model_dump() for row in built.rows if row.model_dump()["prompt"][-1]["content"] == "domanda 9")
    assert [turn["role"] for turn in whole["prompt"]] == ["system", "user", "assistant", "user"]
    assert whole["completion"] == [{"role": "assistant", "content": "buona 9"}]


def test_dpo_drops_prompts_without_a_worse_candidate(selected: pl.DataFrame) -> None:
    built = Dpo().build(selected, CTX)
    assert len(built.rows) == 10
    assert built.dropped["reason"].to_list() == ["no worse candidate"]
    assert all(row.model_dump()["chosen"] != row.model_dump()["rejected"] for row in built.rows)


def test_kto_cuts_to_whole_windows(selected: pl.DataFrame) -> None:
    built = Kto(window=4).build(selected, CTX)
    assert len(built.rows) == 20
    assert sum(row.model_dump()["label"] for row in built.rows) == 10
    assert built.dropped["reason"].to_list() == ["no worse candidate"]
    tiny = Kto(window=8).build(selected.head(3), CTX)
    assert tiny.rows == []
    assert set(tiny.dropped["reason"].to_list()) == {"too few rows for a window"}


def test_grpo(selected: pl.DataFrame) -> None:
    rows = [row.model_dump() for row in Grpo().build(selected, CTX).rows]
    assert len(rows) == 11
    assert {row["language"] for row in rows} == {"it"}
    assert all(row["reference"].startswith("buona") for row in rows)


@pytest.mark.parametrize("maker", [Sft(), Dpo(), Kto(), Grpo()])
def test_row_order_depends_on_content_and_seed_alone(maker: Sft | Dpo | Kto | Grpo, selected: pl.DataFrame) -> None:
    rows = maker.build(selected, CTX).rows
    assert maker.build(selected.reverse(), CTX).rows == rows
    assert maker.build(selected, Context(seed=18)).rows != rows
    ids = [row.model_dump()["row_id"] for row in rows]
    assert len(set(ids)) == len(ids)
