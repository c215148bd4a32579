"""Any stage alone: fields pass through, rejects go beside, the suffix chooses the format."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fucina.factory.alone import Summary, run_alone
from fucina.factory.errors import InputError, RecipeError

SETTINGS = {"language": "it", "seed": 17}


def stage(name: str, path: Path, out: Path, **config: Any) -> Summary:
    return run_alone(name, path, out, config, {}, SETTINGS)


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_unknown_fields_of_any_type_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "prompt": "Ciao, come stai oggi?", "tags": ["a", 2], "deep": {"x": None}},
        {"id": "due", "prompt": "Ciao,   come stai OGGI?", "score": 1.50},
        {"id": 3, "prompt": "Che ore sono adesso a Roma?"},
    ]
    summary = stage("deduplicate", lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    assert (summary.rows_in, summary.kept, summary.dropped) == (3, 2, {"exact duplicate": 1})
    kept, [dropped] = read(tmp_path / "out.jsonl"), read(tmp_path / "out.dropped.jsonl")
    assert all(row in rows for row in kept)
    reason = dropped.pop("reason")
    assert dropped in rows
    other = next(row for row in kept if row["id"] != 3)
    assert reason == f"exact duplicate: of {other['id']}"


def test_order_does_not_change_the_survivors(tmp_path: Path) -> None:
    rows = [
        {"id": i, "prompt": f"Racconta la storia numero {i % 4} con molti dettagli e poche parole"} for i in range(12)
    ]
    stage("deduplicate", lines(tmp_path / "a.jsonl", rows), tmp_path / "a.out.jsonl")
    stage("deduplicate", lines(tmp_path / "b.jsonl", rows[::-1]), tmp_path / "b.out.jsonl")
    texts = [{row["prompt"] for row in read(tmp_path / f"{name}.out.jsonl")} for name in "ab"]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 4


def test_repair_writes_back_to_the_field_it_read(tmp_path: Path) -> None:
    rows = [{"text": "perchÃ© no", "n": 1}, {"instruction": "CittÃ  e paesi", "output": "sÃ¬"}]
    stage("repair", lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [
        {"text": "perché no", "n": 1},
        {"instruction": "Città e paesi", "output": "sì"},
    ]


def test_unreadable_records_are_rejects_beside_the_output(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"prompt": "Ciao a tutti quanti"}, {"titolo": "x", "id": 9}, "{oops"])
    summary = stage("language", source, tmp_path / "out.jsonl")
    assert (summary.rows_in, summary.kept) == (3, 1)
    assert set(summary.dropped) == {"missing field", "invalid JSON"}
    by_line = {row["source_line"]: row for row in read(tmp_path / "out.dropped.jsonl")}
    assert by_line[2]["titolo"] == "x"
    assert by_line[3]["raw"] == "{oops\n"
    assert all("reason" in row for row in by_line.values())


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet"])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"id": [1, 2], "prompt": ["Buongiorno a tutti voi", "Good morning to all of you"]})
    source = tmp_path / "in.parquet"
    frame.write_parquet(source)
    out = tmp_path / f"out{suffix}"
    summary = stage("language", source, out, keep=["it"])
    assert summary.dropped_file == tmp_path / f"out.dropped{suffix}"
    back = tmp_path / "back.jsonl"
    stage("classify", out, back)
    [row] = read(back)
    assert (int(row["id"]), row["language"]) == (1, "it")
    if suffix.endswith(".gz"):
        assert gzip.decompress(out.read_bytes())


def test_a_clean_rerun_leaves_no_stale_rejects(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"prompt": "Ciao a tutti quanti"}, "{"])
    stage("language", source, tmp_path / "out.jsonl")
    lines(source, [{"prompt": "Ciao a tutti quanti"}])
    assert stage("language", source, tmp_path / "out.jsonl").dropped_file is None
    assert not (tmp_path / "out.dropped.jsonl").exists()


def test_a_judge_is_a_stage_and_the_next_one_reads_its_verdicts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Dimmi qualcosa di bello", "response": "Il mare d'inverno è bellissimo."},
        {"prompt": "Dimmi qualcosa di brutto", "response": "I am sorry, but I cannot help you with that."},
    ]
    stage("rules", lines(tmp_path / "in.jsonl", rows), tmp_path / "judged.jsonl")
    [good, bad] = read(tmp_path / "judged.jsonl")
    labels = {verdict["aspect"]: verdict["label"] for verdict in bad["candidates"][0]["verdicts"]}
    assert labels["language"] == labels["refusal"] == "fail"
    assert good["response"] == rows[0]["response"]
    summary = stage("select", tmp_path / "judged.jsonl", tmp_path / "selected.jsonl", strength=["original"])
    assert (summary.kept, summary.dropped) == (1, {"no candidate passes the gates": 1})


def test_a_judge_without_answers_says_so(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"instruction": "Scegli", "response1": "a", "response2": "b"}])
    with pytest.raises(InputError, match="no record has an answer for stage rules to judge"):
        stage("rules", source, tmp_path / "out.jsonl")


def test_collect_alone(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"question": "Quanto fa 2+2?", "answer": "4", "level": 1}])
    stage("collect", source, tmp_path / "out.jsonl")
    [row] = read(tmp_path / "out.jsonl")
    assert (row["prompt"], row["response"], row["meta"]) == ("Quanto fa 2+2?", "4", '{"level":1}')


def test_regenerate_alone_uses_named_engines(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"id": "a", "prompt": "Ciao"}, {"id": "b", "prompt": "Addio"}])
    answers = lines(tmp_path / "answers.jsonl", [{"prompt": "Ciao", "model": "m", "response": "Salve!"}])
    engines = {"big": {"engine": "replay", "address": f"{answers}#m"}}
    summary = run_alone("regenerate", source, tmp_path / "out.jsonl", {"engines": ["big"]}, engines, SETTINGS)
    assert (summary.kept, summary.dropped) == (1, {"no answer": 1})
    [row] = read(tmp_path / "out.jsonl")
    assert row["candidates"][0]["response"] == "Salve!"


def test_mistakes(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [{"prompt": "Ciao"}])
    with pytest.raises(InputError, match="cannot tell the format"):
        stage("repair", source, tmp_path / "out.xlsx")
    with pytest.raises(RecipeError, match="treshold"):
        stage("deduplicate", source, tmp_path / "out.jsonl", treshold=1)
    with pytest.raises(InputError, match="no usable record: missing field"):
        stage("repair", lines(tmp_path / "bad.jsonl", [{"x": 1}]), tmp_path / "out.jsonl")
