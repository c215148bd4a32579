"""The rows of a run as narrow frames: one pass over its shards, texts of one shard in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fucina.factory.errors import RunError
from fucina.schemas.manifest import Manifest

FATES = ("chosen", "rejected", "unused")

_PROMPTS = {"prompt_id": pl.String(), "category": pl.String(), "language": pl.String(), "kept": pl.Boolean()}
_CANDIDATES = {
    "prompt_id": pl.String(), "origin": pl.String(), "model": pl.String(), "revision": pl.String(),
    "chars": pl.UInt32(), "cut": pl.Boolean(), "error": pl.Boolean(), "failed": pl.Boolean(), "fate": pl.String(),
}  # fmt: skip
_VERDICTS = {
    "origin": pl.Categorical(), "fate": pl.Categorical(), "judge": pl.Categorical(), "aspect": pl.Categorical(),
    "score": pl.Float64(), "label": pl.Categorical(), "error": pl.Boolean(),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """A run without its texts.

    `prompts`: one row per prompt that was collected; `kept` is true where it went through every stage.
    `candidates`: one row per answer; `cut` where it ended for length, `failed` where any verdict is `fail`,
    `fate` one of FATES. `verdicts`: one row per verdict.
    """

    prompts: pl.DataFrame
    candidates: pl.DataFrame
    verdicts: pl.DataFrame


def read_rows(run: Path, manifest: Manifest) -> Rows:
    """Read what the report counts.

    Raises:
        RunError: a stage of the manifest has no folder any more.
    """
    prompts, candidates, verdicts = [_empty(_PROMPTS)], [_empty(_CANDIDATES)], [_empty(_VERDICTS)]
    columns = ["prompt_id", "category", "language", "candidates", "selection"]
    for path, kept in prompt_shards(run, manifest):
        frame = pl.read_parquet(path, columns=columns).with_columns(kept=pl.lit(kept))
        prompts.append(frame.select(*_PROMPTS))
        answers = _answers(frame)
        candidates.append(answers.select(pl.col(name).cast(dtype) for name, dtype in _CANDIDATES.items()))
        verdicts.append(_verdicts(answers))
    return Rows(pl.concat(prompts), pl.concat(candidates), pl.concat(verdicts))


def prompt_shards(run: Path, manifest: Manifest) -> Iterator[tuple[Path, bool]]:
    """Shards that together hold every collected prompt exactly once, and whether they hold kept rows.

    A prompt lies with the stage that dropped it, or with the last stage's kept rows.
    """
    for stage in manifest.stages:
        folder = run / stage.folder
        if not folder.is_dir():
            raise RunError(f"{stage.folder} is in the manifest and not on the disk", "run the recipe again")
        for path in sorted(folder.glob("dropped-*.parquet")):
            # Records that `collect` could not read never became prompts.
            if "prompt_id" in pl.read_parquet_schema(path):
                yield path, False
    if manifest.stages:
        for path in sorted((run / manifest.stages[-1].folder).glob("kept-*.parquet")):
            yield path, True


def _empty(schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=schema)


def _answers(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per candidate, with its fate."""
    picked = pl.col("selection").struct
    answers = (
        frame.select("prompt_id", picked.field("chosen_id"), picked.field("rejected_id"), "candidates")
        .explode("candidates")
        .drop_nulls("candidates")
    )
    one = pl.col("candidates").struct
    return answers.select(
        "prompt_id",
        *(one.field(name) for name in ("origin", "model", "revision", "verdicts")),
        one.field("response").str.len_chars().alias("chars"),
        (one.field("finish_reason") == "length").alias("cut"),
        one.field("error").is_not_null().alias("error"),
        one.field("verdicts")
        .list.eval((pl.element().struct.field("label") == "fail").fill_null(value=False))
        .list.any()
        .alias("failed"),
        pl.when(one.field("candidate_id") == pl.col("chosen_id"))
        .then(pl.lit("chosen"))
        .when(one.field("candidate_id") == pl.col("rejected_id"))
        .then(pl.lit("rejected"))
        .otherwise(pl.lit("unused"))
        .alias("fate"),
    )


def _verdicts(answers: pl.DataFrame) -> pl.DataFrame:
    """One row per verdict, with the origin and the fate of the answer it is about."""
    said = answers.select("origin", "fate", "verdicts").explode("verdicts").drop_nulls("verdicts")
    one = pl.col("verdicts").struct
    return said.select(
        *(pl.col(name).cast(pl.Categorical()) for name in ("origin", "fate")),
        *(one.field(name).cast(_VERDICTS[name]) for name in ("judge", "aspect", "score", "label")),
        one.field("error").is_not_null().alias("error"),
    )
