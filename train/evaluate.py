"""Models against their base on a run's held-out rows: likelihood of the answers, and preference between answers.

Every model reads the same rows, in float32. NLL comes from the `transformers` engine (answer tokens only, given the
prompt through the chat template), preference from lm-eval on a local task, see preference.py.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import AutoConfig

from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import InputError, RunError
from fucina.factory.frames import write_atomic
from fucina.factory.progress import SILENT, Progress
from fucina.schemas.evaluation import Evaluation, Figure, ModelEvaluation
from fucina.schemas.generation import ScoringRequest
from fucina.schemas.rows import Message
from fucina.train.compare import compare, figure
from fucina.train.held_out import RECORD, evaluation_key, read_held_out
from fucina.train.load import load_model, load_tokenizer, token_ids
from fucina.train.models import ModelFolder, find_model, parameters
from fucina.train.preference import Pair, fits, pairs_of, preferences, write_task
from fucina.train.quiet import quiet
from fucina.train.record import finished, versions, whole_folder, write_json
from fucina.train.running import fitting_threads


@dataclass(frozen=True)
class _Scores:
    """One model's values by row."""

    nll: list[float]
    preference: list[float]
    preference_raw: list[float]


def evaluate(
    models: Mapping[str, ModelFolder | Path | str],
    data: Path,
    out: Path,
    language: str = "it",
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate `models`, the first being the base, on the test splits below `data`; write `out`.

    `out` gets `evaluation.json`, `evaluation.md` and the lm-eval task.

    Raises:
        InputError: no models, no held-out rows, or models of different tokenizers.
        RunError: `out` holds something else, or a row could not be scored.
    """
    found = [(name, find_model(model)) for name, model in models.items()]
    if not found:
        raise InputError("no models to evaluate")
    rows = read_held_out(data)
    key = evaluation_key(found, rows, language)
    done = finished(out, RECORD, Evaluation, key)
    if done is not None:
        return done
    began = time.perf_counter()
    with quiet(), whole_folder(out) as folder:
        tokenizer = _one_tokenizer(found)
        context = min(_context(model.path) for _, model in found)
        notes = list(rows.notes)
        answers = _answers(rows.sft.frame, tokenizer, context, notes) if rows.sft is not None else []
        pairs = _pairs(rows.dpo.frame, tokenizer, context, notes) if rows.dpo is not None else []
        task = write_task(tokenizer, pairs, folder / "tasks", language) if pairs else None
        scores: list[_Scores] = []
        with progress.task("evaluate", len(found), unit="models") as advance:
            for _, model in found:
                scores.append(_score(model, tokenizer, answers, task))
                advance(1)
        evaluation = Evaluation(
            key=key,
            base=found[0][0],
            language=language,
            models=_figures(found, scores),
            notes=notes,
            seconds=round(time.perf_counter() - began, 3),
            packages=versions(("fucina", "torch", "transformers", "lm_eval")),
        )
        write_json(folder / RECORD, evaluation.model_dump(mode="json"))
        write_atomic(folder / "evaluation.md", table(evaluation).encode())
    return evaluation


def table(evaluation: Evaluation) -> str:
    """The figures as a Markdown table, with what they mean below."""
    lines = [
        "| model | held-out NLL ± se | against base | preference accuracy ± se (acc_norm) | against base | n |",
        "|---|---|---|---|---|---|",
    ]
    for model in evaluation.models:
        nll, preference = model.nll_against_base, model.preference_against_base
        cells = [
            model.name,
            _cell(model.nll),
            nll.outcome if nll else "–",
            _cell(model.preference),
            preference.outcome if preference else "–",
            " / ".join(str(part.n) if part else "–" for part in (model.nll, model.preference)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "NLL: nats per answer token, mean over held-out SFT rows; lower is better.",
        "Preference accuracy: share of held-out pairs whose chosen answer is likelier per character.",
        f"`better`, `worse`: only where the 95 % interval of the paired difference to {evaluation.base} leaves out 0.",
        "n: rows / pairs.",
        *(f"- {note}" for note in evaluation.notes),
    ]
    return "\n".join(lines) + "\n"


def _cell(value: Figure | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.4f}" + (f" ± {value.se:.4f}" if value.se is not None else "")


def _one_tokenizer(models: Sequence[tuple[str, ModelFolder]]) -> Any:
    """The tokenizer that all models share, for NLL per token means nothing across tokenizers."""
    (first, model), *others = models
    tokenizer = load_tokenizer(model.path)
    for name, other in others:
        if load_tokenizer(other.path).get_vocab() != tokenizer.get_vocab():
            raise InputError(f"{first} and {name} have different tokenizers", "evaluate them apart")
    return tokenizer


def _context(folder: Path) -> int:
    """Tokens a model can read."""
    config = AutoConfig.from_pretrained(folder).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def _answers(frame: pl.DataFrame, tokenizer: Any, context: int, notes: list[str]) -> list[ScoringRequest]:
    """One scoring request for each row that fits the context and has one answer turn."""
    rows = [row for row in frame.iter_rows(named=True) if len(row["completion"]) == 1]
    whole = token_ids(tokenizer, [row["prompt"] + row["completion"] for row in rows], answer_next=False) if rows else []
    requests = [
        ScoringRequest(
            request_id=str(index),
            messages=[Message.model_validate(turn) for turn in row["prompt"]],
            response=row["completion"][0]["content"],
        )
        for index, (row, ids) in enumerate(zip(rows, whole, strict=True))
        if len(ids) <= context
    ]
    _note_left_out(notes, "sft", frame.height, len(requests))
    return requests


def _pairs(frame: pl.DataFrame, tokenizer: Any, context: int, notes: list[str]) -> list[Pair]:
    pairs = pairs_of(frame)
    kept = [pair for pair, fitting in zip(pairs, fits(tokenizer, pairs, context), strict=True) if fitting]
    _note_left_out(notes, "dpo", frame.height, len(kept))
    return kept


def _note_left_out(notes: list[str], name: str, rows: int, kept: int) -> None:
    if kept < rows:
        notes.append(f"{rows - kept} of {rows} {name} rows left out: longer than the context, or more than one turn")


def _score(model: ModelFolder, tokenizer: Any, answers: Sequence[ScoringRequest], task: Path | None) -> _Scores:
    with fitting_threads(parameters(model.path)):
        nll = _nll(model, answers) if answers else []
        if task is None:
            return _Scores(nll, [], [])
        weights = load_model(model.path).eval().to("cuda" if torch.cuda.is_available() else "cpu")
        found = preferences(weights, tokenizer, task)
        return _Scores(nll, found["acc_norm"], found["acc"])


def _nll(model: ModelFolder, requests: Sequence[ScoringRequest]) -> list[float]:
    """Mean negative log-likelihood of each answer's tokens, in the order of `requests`."""
    book = EngineBook({"scorer": {"engine": "transformers", "address": str(model.path), "dtype": "float32"}})
    try:
        results = {result.request_id: result for result in book.scorer("scorer").score(requests)}
    finally:
        book.close()
    values: list[float] = []
    for number, request in enumerate(requests, 1):
        result = results.get(request.request_id)
        if result is None or result.nll is None:
            why = "no result" if result is None else result.error
            raise RunError(f"{model.name} could not score held-out answer {number}: {why}")
        values.append(result.nll)
    return values


def _figures(models: Sequence[tuple[str, ModelFolder]], scores: Sequence[_Scores]) -> list[ModelEvaluation]:
    base = scores[0]
    return [
        ModelEvaluation(
            name=name,
            digest=model.digest,
            nll=figure(own.nll) if own.nll else None,
            preference=figure(own.preference) if own.preference else None,
            preference_raw=figure(own.preference_raw) if own.preference_raw else None,
            nll_against_base=compare(own.nll, base.nll, lower_is_better=True) if own.nll and own is not base else None,
            preference_against_base=compare(own.preference, base.preference, lower_is_better=False)
            if own.preference and own is not base
            else None,
        )
        for (name, model), own in zip(models, scores, strict=True)
    ]
