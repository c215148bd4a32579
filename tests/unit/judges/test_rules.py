"""The rules judge on labelled answers: the bundled seeds, the planted defects, recorded answers of real models."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from fucina.factory.stage import Context
from fucina.judges.base import Answer
from fucina.judges.rules import Rules, asked_languages
from fucina.schemas.rows import Candidate, FinishReason


def answer(text: str, prompt: str = "Scrivi qualcosa.", finish: FinishReason = "unknown") -> Answer:
    own = Candidate(candidate_id="c", origin="o", model="m", response=text, finish_reason=finish)
    return Answer(prompt, None, (), "it", None, text, own)


def failed(answers: list[Answer], rules: Rules | None = None) -> list[set[str]]:
    verdicts = (rules or Rules()).judge(answers, Context())
    return [{verdict.aspect for verdict in found if verdict.label == "fail"} for found in verdicts]


def read(path: Path) -> list[dict[str, object]]:
    lines = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with lines:
        return [json.loads(line) for line in lines]


# Weak kinds a rule can see, with the aspect that must fail and the least share of answers where it does.
VISIBLE = {
    "all_english": ("language", 1.0),
    "half_english": ("language", 0.9),
    "needless_refusal": ("refusal", 0.95),
    "repeats_itself": ("repetition", 0.9),
    "cut_off": ("truncation", 0.75),
}


def test_bundled_seeds(seeds: Path) -> None:
    """No good answer fails a rule; the visible weaknesses do."""
    prompts = {str(row["prompt_id"]): str(row["prompt"]) for row in read(seeds / "prompts.jsonl")}
    rows = read(seeds / "answers.jsonl")
    results = failed([answer(str(row["response"]), prompts[str(row["prompt_id"])]) for row in rows])
    wrongly = [row["prompt_id"] for row, found in zip(rows, results, strict=True) if row["defect"] is None and found]
    assert wrongly == []
    totals = Counter(str(row["defect"]) for row in rows)
    caught = Counter(
        kind
        for row, found in zip(rows, results, strict=True)
        if (kind := str(row["defect"])) in VISIBLE and VISIBLE[kind][0] in found
    )
    shares = {kind: caught[kind] / totals[kind] for kind in VISIBLE}
    assert all(shares[kind] >= least for kind, (_, least) in VISIBLE.items()), shares


def test_planted_defects(seeds: Path) -> None:
    rows = [row for row in read(seeds / "defects.jsonl") if row["response"]]
    results = failed([answer(str(row["response"]), str(row["prompt"])) for row in rows])
    by_kind: dict[str, list[set[str]]] = {}
    for row, found in zip(rows, results, strict=True):
        by_kind.setdefault(str(row["gold"]["defect"]), []).append(found)  # type: ignore[index]
    for kind, aspect, least in (
        ("english_leak", "language", 0.95),
        ("spanish_leak", "language", 0.95),
        ("refusal", "refusal", 0.9),
        ("truncated", "truncation", 0.85),
        ("repetition", "repetition", 0.85),
    ):
        found = [aspect in aspects for aspects in by_kind[kind]]
        assert sum(found) / len(found) >= least, (kind, sum(found), len(found))
    clean = by_kind["clean"]
    assert sum(bool(found) for found in clean) / len(clean) <= 0.05


def test_recorded_answers_of_real_models(shared_data: Path) -> None:
    """Monolingual answers in a wrong language, near a separate count of wholly English ones (26, 28, 0, 0)."""
    prompts = {str(row["prompt_id"]): row for row in read(shared_data / "lcb_italian_prompts.jsonl")}
    rows = [
        row
        for row in read(shared_data / "lcb_italian_responses.jsonl.gz")
        if prompts[str(row["prompt_id"])]["task"] == "monolingual"
    ]
    results = failed([answer(str(row["response"]), str(prompts[str(row["prompt_id"])]["prompt"])) for row in rows])
    wrong = Counter(str(row["model"]) for row, found in zip(rows, results, strict=True) if "language" in found)
    assert wrong["gpt-4-turbo"] == wrong["command-r"] == 0
    assert 24 <= wrong["llama-2-instruct"] <= 30
    assert 26 <= wrong["mistral-8x7b"] <= 30


@pytest.mark.parametrize(
    ("prompt", "allowed"),
    [
        ("Traduci in inglese: buongiorno a tutti", {"en"}),
        ("Me lo metti in francese con il tu?", {"fr"}),
        ("Please reply in Italian. Summarise this English text.", set()),
        ("Che differenza c'è tra l'inglese britannico e quello americano?", set()),
        ("Traduci dal tedesco all'italiano questa frase", {"de", "it"}),
    ],
)
def test_translations_may_be_in_the_language_they_name(prompt: str, allowed: set[str]) -> None:
    assert asked_languages(prompt) == allowed


def test_thresholds_and_reasons() -> None:
    assert failed([answer("Sì, certo.")], Rules(min_words=1)) == [set()]
    assert failed([answer("Sì, certo.")], Rules(min_words=5)) == [{"length"}]
    assert failed([answer("Il testo è completo e corretto.", finish="length")]) == [{"truncation"}]
    [verdicts] = Rules(min_words=5).judge([answer("Sì, certo.")], Context())
    assert verdicts[0].score == 2
    assert verdicts[0].rationale == "2 words, at least 5 wanted"
