"""A few pairs to read: varied by category, the same ones every time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fucina.factory.hashing import order_key
from fucina.factory.report.rows import Rows, prompt_shards
from fucina.schemas.manifest import Manifest
from fucina.schemas.rows import Candidate, PromptRow

EXAMPLES = 12
_LONGEST = 1_600


@dataclass(frozen=True)
class Note:
    """A verdict in brief."""

    aspect: str
    label: str | None
    score: float | None
    why: str | None


@dataclass(frozen=True)
class Shown:
    """An answer as shown; `more` characters were left out."""

    origin: str
    model: str
    text: str
    more: int
    why: str | None
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Example:
    """A prompt with the answer that was chosen and, where there is one, the answer it was preferred to."""

    prompt_id: str
    category: str | None
    source: str
    prompt: str
    more: int
    turns: int
    chosen: Shown
    rejected: Shown | None


def pick_examples(run: Path, manifest: Manifest, rows: Rows, seed: int) -> list[Example]:
    """Up to EXAMPLES selected prompts: pairs before single answers, one of each category before a second of any."""
    chosen = rows.candidates.filter(pl.col("fate") == "chosen").select("prompt_id")
    paired = rows.candidates.filter(pl.col("fate") == "rejected").select("prompt_id", single=pl.lit(value=False))
    pool = (
        rows.prompts.join(chosen, on="prompt_id", how="semi")
        .join(paired, on="prompt_id", how="left", maintain_order="left")
        .with_columns(pl.col("single").fill_null(value=True), pl.col("category").fill_null(""))
    )
    keys = pl.Series("key", [order_key(seed, prompt_id) for prompt_id in pool["prompt_id"]], dtype=pl.String)
    wanted = (
        pool.with_columns(keys)
        .sort("single", "key")
        .with_columns(round=pl.int_range(pl.len()).over("category"))
        .sort("single", "round", "key")
        .head(EXAMPLES)["prompt_id"]
        .to_list()
    )
    shards = [path for path, kept in prompt_shards(run, manifest) if kept]
    if not wanted or not shards:
        return []
    found = pl.scan_parquet(shards).filter(pl.col("prompt_id").is_in(wanted)).collect()
    by_id = {row["prompt_id"]: _example(row) for row in found.iter_rows(named=True)}
    return [by_id[prompt_id] for prompt_id in wanted]


def _example(fields: dict[str, Any]) -> Example:
    row = PromptRow.model_validate({name: fields[name] for name in PromptRow.model_fields if name in fields})
    if row.selection is None:
        raise ValueError(f"prompt {row.prompt_id} was counted as selected and has no selection")
    answers = {candidate.candidate_id: candidate for candidate in row.candidates}
    lost = row.selection.rejected_id
    prompt, more = _cut(row.prompt)
    return Example(
        prompt_id=row.prompt_id,
        category=row.category,
        source=f"{row.source}:{row.source_line}",
        prompt=prompt,
        more=more,
        turns=len(row.history),
        chosen=_shown(answers[row.selection.chosen_id], row.selection.chosen_why),
        rejected=None if lost is None else _shown(answers[lost], row.selection.rejected_why),
    )


def _shown(candidate: Candidate, why: str | None) -> Shown:
    text, more = _cut(candidate.response or "")
    notes = [
        Note(
            verdict.aspect,
            "error" if verdict.error else verdict.label,
            verdict.score,
            verdict.error or verdict.rationale,
        )
        for verdict in candidate.verdicts
    ]
    return Shown(candidate.origin, candidate.model, text, more, why, tuple(notes))


def _cut(text: str) -> tuple[str, int]:
    """The beginning of a text, and how many characters follow."""
    return text[:_LONGEST], max(0, len(text) - _LONGEST)
