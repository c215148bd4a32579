"""Hold prompts out for evaluation."""

from typing import ClassVar

import polars as pl
from pydantic import Field

from fucina.factory.hashing import order_key
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind


class Split(StageConfig):
    """Mark a share of the prompts as `test`; no data set for training holds them. A split given by the source stays.

    The share is taken by a hash of the prompt's id and the recipe's seed: adding rows moves no other row.
    """

    name: ClassVar[str] = "split"
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt_id",)
    adds: ClassVar[tuple[str, ...]] = ("split",)

    test: float = Field(0.1, ge=0, lt=1, description="share of prompts to hold out")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Mark every row that has no split yet."""
        given = frame["split"].to_list() if "split" in frame.columns else [None] * frame.height
        splits = [
            old or ("test" if int(order_key(ctx.seed, "split", row)[:8], 16) / 2**32 < self.test else "train")
            for old, row in zip(given, frame["prompt_id"].to_list(), strict=True)
        ]
        return Outcome.all_kept(frame.with_columns(pl.Series("split", splits, pl.String)))


STAGE = Split
