"""Conditional perplexity through a real small model, checked by a plain loop over tokens."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import EngineError
from fucina.factory.stage import Context
from fucina.judges.base import JudgeStage
from fucina.judges.perplexity import Perplexity
from tests.rows import candidate, frame, prompt
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def by_hand(model: Path, question: str, answer: str) -> tuple[float, int]:
    """Mean NLL of the answer's tokens, one forward pass a token."""
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).eval()
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    tokens = tokenizer.encode(answer, add_special_tokens=False)
    total = 0.0
    for position, token in enumerate(tokens):
        with torch.inference_mode():
            logits = network(torch.tensor([ids + tokens[:position]])).logits[0, -1]
        total -= logits.log_softmax(-1)[token].item()
    return total / len(tokens), len(tokens)


def test_verdicts_are_what_a_loop_gives(model: Path) -> None:
    answers = {"Che ore sono?": "Sono le dieci e un quarto.", "Chi sei?": "Un modello minuscolo, fatto per le prove."}
    rows = [prompt(question, candidates=[candidate("teacher", answer)]) for question, answer in answers.items()]
    rows.append(prompt("E poi?", candidates=[candidate("teacher", ""), candidate("student", None)]))
    ctx = Context(engines=EngineBook({"scorer": {"engine": "transformers", "model": str(model)}}))
    judged = JudgeStage(Perplexity(engine="scorer")).run(frame(rows), ctx).kept
    for row in judged.head(2).iter_rows(named=True):
        nll, tokens = by_hand(model, row["prompt"], answers[row["prompt"]])
        scores = {v["aspect"]: v["score"] for v in row["candidates"][0]["verdicts"] if v["judge"] == "perplexity"}
        assert scores["nll"] == pytest.approx(nll, abs=2e-4)
        assert scores["bits_per_char"] == pytest.approx(
            nll * tokens / math.log(2) / len(answers[row["prompt"]]), abs=2e-4
        )
    empty, failed = judged["candidates"][2]
    assert [v["error"] for v in empty["verdicts"] if v["judge"] == "perplexity"] == ["the answer has no tokens"] * 2
    assert all(v["score"] is None for v in empty["verdicts"] if v["judge"] == "perplexity")
    assert failed["verdicts"] == []


def test_an_engine_without_likelihoods_is_refused(tmp_path: Path) -> None:
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"prompt": "p", "model": "m", "response": "r"}\n', encoding="utf-8")
    ctx = Context(engines=EngineBook({"scorer": {"engine": "replay", "path": str(answers), "model": "m"}}))
    with pytest.raises(EngineError, match="cannot score given answers"):
        JudgeStage(Perplexity(engine="scorer")).run(frame([prompt("p", candidates=[candidate("t", "r")])]), ctx)
