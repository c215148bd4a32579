"""Recorded answers: found by id or by prompt, and every damage to the file is told with its line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fucina.factory.engines.replay import ReplayEngine
from fucina.factory.errors import InputError
from fucina.schemas.generation import GenerationRequest, GenerationResult, Sampling
from fucina.schemas.rows import Message


def record(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def ask(engine: ReplayEngine, prompt: str, source_id: str | None = None) -> GenerationResult:
    message = Message(role="user", content=prompt)
    request = GenerationRequest(
        request_id="r", prompt_id="p", source_id=source_id, messages=[message], sampling=Sampling(), seed=0
    )
    [result] = engine.generate([request])
    return result


def test_by_id_then_by_prompt(tmp_path: Path) -> None:
    path = record(
        tmp_path / "a.jsonl",
        {"prompt_id": "1", "model": "m", "response": "per id", "finish_reason": "length"},
        {"prompt": "Ciao", "model": "m", "response": "per prompt"},
        {"prompt": "Ciao", "model": "altro", "response": "di un altro"},
    )
    engine = ReplayEngine.at(f"{path}#m")
    assert (ask(engine, "Ciao", "1").response, ask(engine, "Ciao", "1").finish_reason) == ("per id", "length")
    assert ask(engine, "Ciao").response == "per prompt"
    missing = ask(engine, "Addio", "9")
    assert missing.response is None
    assert missing.error == "no recorded answer of m for 9"


def test_compressed_and_columnar_files(tmp_path: Path) -> None:
    row = {"prompt_id": "1", "model": "m", "response": "sì"}
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    (tmp_path / "a.csv").write_text("prompt_id,model,response\n1,m,sì\n", encoding="utf-8")
    assert all(
        ask(ReplayEngine(path=str(path), model="m"), "?", "1").response == "sì" for path in (packed, tmp_path / "a.csv")
    )


def test_the_card_follows_the_file(tmp_path: Path) -> None:
    path = record(tmp_path / "a.jsonl", {"prompt_id": "1", "model": "m", "response": "uno"})
    before = ReplayEngine(path=str(path), model="m", note="ours").card()
    record(path, {"prompt_id": "1", "model": "m", "response": "due"})
    after = ReplayEngine(path=str(path), model="m", note="ours").card()
    assert before.revision != after.revision
    assert before.notes == "ours"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{oops"], r"a\.jsonl, line 1: invalid JSON"),
        ([{"prompt_id": "1", "model": "m", "response": 3}], r"line 1: field 'response' must be text"),
        ([{"model": "m", "response": "x"}], r"line 1: neither 'prompt_id' nor 'prompt'"),
        (
            [{"prompt_id": "1", "model": "m", "response": "x"}, {"prompt_id": "1", "model": "m", "response": "y"}],
            r"line 2: a second answer of m to 1",
        ),
        ([{"prompt_id": "1", "model": "n", "response": "x"}], r"no answers of model 'm'\n  fix: it has n"),
    ],
)
def test_damage_is_told(tmp_path: Path, rows: list[Any], message: str) -> None:
    path = record(tmp_path / "a.jsonl", *rows)
    with pytest.raises(InputError, match=message):
        ask(ReplayEngine(path=str(path), model="m"), "?", "1")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of recorded answers"):
        ReplayEngine(path=str(tmp_path / "no.jsonl"), model="m").card()
