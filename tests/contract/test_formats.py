"""One suite for every format found."""

from pathlib import Path

import polars as pl
import pytest

from fucina.factory.format import Format
from fucina.factory.frames import frame_of
from fucina.factory.plugins import FORMATS, available, load
from fucina.factory.stage import Context
from fucina.pipelines.stages.select import Select
from tests.rows import candidate, frame, prompt

CTX = Context()
NAMES = available(FORMATS)


def build(name: str) -> Format:
    maker: Format = load(FORMATS, name)()
    return maker


@pytest.fixture
def selected() -> pl.DataFrame:
    rows = [
        prompt(
            f"domanda {i}",
            candidates=[
                candidate("teacher", f"buona {i}"),
                *([candidate("student", f"no {i}", ["refusal"])] if i % 4 else []),
            ],
        )
        for i in range(24)
    ]
    return Select(strength=["teacher", "student"]).run(frame(rows), CTX).kept


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    maker = build(name)
    assert isinstance(maker, Format)
    assert maker.name == name
    assert {"row_id", "prompt", "prompt_id"} <= set(maker.row.model_fields)
    assert load(FORMATS, name).__doc__
    assert all(field.description for field in load(FORMATS, name).model_fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_gives_rows_or_a_reason(name: str, selected: pl.DataFrame) -> None:
    built = build(name).build(selected, CTX)
    table = frame_of(built.rows, build(name).row)
    used, lost = set(table["prompt_id"].to_list()), set(built.dropped["prompt_id"].to_list())
    assert used | lost == set(selected["prompt_id"].to_list())
    assert not used & lost
    assert built.dropped["reason"].null_count() == 0


@pytest.mark.parametrize("name", NAMES)
def test_rows_survive_parquet_and_order_is_content(name: str, selected: pl.DataFrame, tmp_path: Path) -> None:
    maker = build(name)
    table = frame_of(maker.build(selected, CTX).rows, maker.row)
    assert frame_of(maker.build(selected.sample(fraction=1, shuffle=True, seed=1), CTX).rows, maker.row).equals(table)
    path = tmp_path / "x.parquet"
    table.write_parquet(path)
    for row in pl.read_parquet(path).iter_rows(named=True):
        maker.row.model_validate(row)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_is_no_problem(name: str, selected: pl.DataFrame) -> None:
    built = build(name).build(selected.clear(), CTX)
    assert built.rows == []
    assert built.dropped.height == 0
