"""What nano models learn from."""

import json
from pathlib import Path
from typing import Any

import pytest

from fucina.factory.errors import InputError
from fucina.factory.nano.corpus import Conversation, bundled_seeds, load_corpus

PROMPTS = [
    {"prompt_id": "a", "kind": "k", "prompt": "Come va?", "split": "train"},
    {"prompt_id": "b", "kind": "k", "prompt": "Che ore sono?", "split": "test"},
    {"prompt_id": "c", "kind": "k", "prompt": "Nessuno mi risponde?", "split": "train"},
]
ANSWERS = [
    {"prompt_id": "b", "model": "maestro", "response": "Le tre.", "defect": None},
    {"prompt_id": "a", "model": "allievo", "response": "Well, I'm fine.", "defect": "all_english"},
    {"prompt_id": "a", "model": "maestro", "response": "Bene, grazie.", "defect": None},
]


def seeds(folder: Path, prompts: list[dict[str, Any]] = PROMPTS, answers: list[dict[str, Any]] = ANSWERS) -> Path:
    for name, rows in (("prompts", prompts), ("answers", answers)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_good_answers_follow_their_prompts_by_split(tmp_path: Path) -> None:
    corpus = load_corpus(seeds(tmp_path))
    assert corpus.train == [Conversation(prompt="Come va?", answer="Bene, grazie.")]
    assert corpus.test == [Conversation(prompt="Che ore sono?", answer="Le tre.")]


def test_the_digest_is_that_of_the_text(tmp_path: Path) -> None:
    before = load_corpus(seeds(tmp_path)).digest()
    (tmp_path / "answers.jsonl").write_text((tmp_path / "answers.jsonl").read_text() + "\n")
    assert load_corpus(tmp_path).digest() == before
    moved = [{**row, "split": "train"} for row in PROMPTS]
    assert load_corpus(seeds(tmp_path, prompts=moved)).digest() != before
    assert load_corpus(seeds(tmp_path, answers=[{**ANSWERS[2], "response": "Male."}])).digest() != before


def test_the_bundled_seeds_are_one_conversation_a_prompt() -> None:
    corpus = load_corpus(bundled_seeds())
    assert len(corpus.train) > 5 * len(corpus.test) > 100
    assert not {turn.prompt for turn in corpus.train} & {turn.prompt for turn in corpus.test}


@pytest.mark.parametrize(
    ("prompts", "answers", "said"),
    [
        (PROMPTS, [{**ANSWERS[0], "prompt_id": "z"}], "'z'"),
        ([{**row, "split": "dev"} for row in PROMPTS], ANSWERS, "'dev'"),
        (PROMPTS, ANSWERS[:2], "no training answer"),
        ([{"prompt_id": "a", "split": "train"}], ANSWERS, "prompts.jsonl:1: no text in prompt"),
        (PROMPTS, [*ANSWERS, {**ANSWERS[0], "response": None}], "answers.jsonl:4: no text in response"),
    ],
)
def test_damaged_seeds_are_named(tmp_path: Path, prompts: list[Any], answers: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_corpus(seeds(tmp_path, prompts, answers))


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    seeds(tmp_path)
    with (tmp_path / "prompts.jsonl").open("a") as stream:
        stream.write("{oops\n")
    with pytest.raises(InputError, match="prompts.jsonl:4: not JSON"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", ["prompts.jsonl", "answers.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (seeds(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=f"no {name}"):
        load_corpus(tmp_path)
