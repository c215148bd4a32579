"""Rows for tests, made through the schemas."""

from collections.abc import Sequence

import polars as pl

from fucina.factory.frames import frame_of
from fucina.factory.hashing import content_id
from fucina.schemas.rows import Candidate, PromptRow, Verdict

GATES = ("language", "refusal", "truncation", "repetition", "length")


def prompt(text: str, **fields: object) -> PromptRow:
    """A prompt row as `collect` makes it."""
    defaults = {"prompt_id": content_id(text), "prompt": text, "source": "test.jsonl", "source_line": 1}
    return PromptRow.model_validate({**defaults, **fields})


def verdicts(failing: Sequence[str] = (), nll: float | None = None) -> list[Verdict]:
    """Verdicts of the rules judge, and of perplexity when `nll` is given."""
    found = [
        Verdict(judge="rules", version="1", aspect=aspect, score=0.0, label="fail" if aspect in failing else "pass")
        for aspect in GATES
    ]
    if nll is not None:
        found.append(Verdict(judge="perplexity", version="1", aspect="nll", score=nll))
    return found


def candidate(origin: str, text: str | None, failing: Sequence[str] = (), nll: float | None = None) -> Candidate:
    """A judged candidate; without text, one whose request failed."""
    return Candidate(
        candidate_id=content_id([origin, text]),
        origin=origin,
        model=f"model-{origin}",
        response=text,
        error="no answer" if text is None else None,
        verdicts=verdicts(failing, nll) if text is not None else [],
    )


def frame(rows: Sequence[PromptRow]) -> pl.DataFrame:
    """Rows as a frame."""
    return frame_of(rows, PromptRow)
