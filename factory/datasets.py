"""From selected rows to data sets on disk: rows checked by their schema, Parquet and JSONL, one digest."""

from collections import Counter
from typing import Any

import polars as pl

from fucina.factory.format import Format
from fucina.factory.frames import REASON, frame_of, write_frame
from fucina.factory.hashing import rows_digest
from fucina.factory.plugins import FORMATS, configured, load
from fucina.factory.rundir import RunDirectory, relative
from fucina.factory.stage import Context
from fucina.schemas.manifest import DatasetRecord
from fucina.schemas.recipe import Recipe

SPLITS = ("train", "test")


def build_formats(recipe: Recipe) -> list[Format]:
    """The recipe's formats with their settings checked.

    Raises:
        PluginError: no format of that name.
        RecipeError: a setting it does not know.
    """
    return [configured(load(FORMATS, name), config or {}, f"formats.{name}") for name, config in recipe.formats.items()]


def write_dataset(run: RunDirectory, maker: Format, frame: pl.DataFrame, ctx: Context) -> DatasetRecord:
    """Build and write one data set. Rows without a split are training rows.

    Each split goes to `<split>.parquet` and `<split>.jsonl`, the prompts that gave no row to `dropped.jsonl`.
    """
    folder = run.datasets / maker.name
    rows: dict[str, int] = {}
    files: list[str] = []
    everything: list[dict[str, Any]] = []
    dropped: list[pl.DataFrame] = []
    for split in SPLITS:
        part = frame.filter(pl.col("split").fill_null("train") == split)
        built = maker.build(part, ctx)
        dropped.append(built.dropped)
        table = frame_of(built.rows, maker.row)
        rows[split] = table.height
        everything.extend(table.iter_rows(named=True))
        for suffix in ("parquet", "jsonl"):
            path = folder / f"{split}.{suffix}"
            write_frame(table, path)
            files.append(relative(path, run.path))
    lost = pl.concat(dropped)
    write_frame(lost, folder / "dropped.jsonl")
    reasons = Counter(str(reason).partition(":")[0] for reason in lost[REASON].to_list())
    return DatasetRecord(
        format=maker.name, rows=rows, files=files, digest=rows_digest(everything), dropped=dict(sorted(reasons.items()))
    )
