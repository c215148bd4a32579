import polars as pl
import pytest

from fucina.factory.errors import InputError
from fucina.train.rows import EmptySplitError, read_rows


def test_lineage_stays_out_and_order_stays(run):
    rows = read_rows(run / "datasets" / "kto", "kto")
    assert rows.frame.columns == ["prompt", "completion", "label"]
    assert rows.frame["label"].to_list() == [True, False] * 16
    assert rows.name == "datasets/kto/train.parquet"


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_jsonl_and_parquet_are_the_same_rows(run, method):
    parquet = read_rows(run / "datasets" / method / "train.parquet", method)
    jsonl = read_rows(run / "datasets" / method / "train.jsonl", method)
    assert parquet.digest == jsonl.digest
    assert parquet.frame.equals(jsonl.frame)


def test_the_digest_follows_the_order(run, tmp_path):
    rows = read_rows(run / "datasets" / "sft", "sft")
    rows.frame.reverse().write_parquet(tmp_path / "train.parquet")
    assert read_rows(tmp_path, "sft").digest != rows.digest


def test_other_fields_of_a_turn_are_left_behind(tmp_path):
    turn = {"role": "user", "content": "Ciao", "name": "Anna"}
    pl.DataFrame([{"prompt": [turn], "completion": [{**turn, "role": "assistant"}]}]).write_parquet(
        tmp_path / "x.parquet"
    )
    [row] = read_rows(tmp_path / "x.parquet", "sft").frame.to_dicts()
    assert row["prompt"] == [{"role": "user", "content": "Ciao"}]


def test_a_missing_file_says_what_is_beside(run, tmp_path):
    with pytest.raises(InputError, match="no data at"):
        read_rows(tmp_path / "nowhere", "sft")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="neither train.parquet nor train.jsonl") as caught:
        read_rows(tmp_path, "sft")
    assert "notes.txt" in (caught.value.fix or "")


def test_the_wrong_set_is_recognised(run):
    with pytest.raises(InputError, match="no column chosen, rejected") as caught:
        read_rows(run / "datasets" / "sft", "dpo")
    assert caught.value.fix == "it has the columns of a sft set"


def test_an_empty_split_is_its_own_error(run, tmp_path):
    read_rows(run / "datasets" / "sft", "sft").frame.clear().write_parquet(tmp_path / "train.parquet")
    with pytest.raises(EmptySplitError, match="holds no rows"):
        read_rows(tmp_path, "sft")
    (tmp_path / "test.jsonl").write_bytes(b"")
    with pytest.raises(EmptySplitError):
        read_rows(tmp_path, "sft", "test")


def test_plain_text_is_not_a_conversation(tmp_path):
    pl.DataFrame({"prompt": ["Ciao"], "completion": ["Salve"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="prompt is String, not a conversation"):
        read_rows(tmp_path / "x.parquet", "sft")


def test_a_row_without_answer_is_named(run, tmp_path):
    frame = read_rows(run / "datasets" / "sft", "sft").frame
    holed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise(pl.col("completion")).alias("completion")
    )
    holed.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="row 3 has no completion"):
        read_rows(tmp_path / "x.parquet", "sft")


def test_labels_must_be_booleans(run, tmp_path):
    frame = read_rows(run / "datasets" / "kto", "kto").frame.with_columns(pl.col("label").cast(pl.String))
    frame.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="label is String"):
        read_rows(tmp_path / "x.parquet", "kto")


def test_garbage_is_not_read(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "x.parquet", "sft")
    (tmp_path / "x.jsonl").write_text("{broken")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "x.jsonl", "sft")
