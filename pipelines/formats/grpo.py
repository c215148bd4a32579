"""GRPO: prompts to be rolled out, with what the rewards need."""

from typing import ClassVar

import polars as pl

from fucina.factory.format import Built
from fucina.factory.stage import Context, StageConfig
from fucina.pipelines.formats.base import dropped, picked, with_id
from fucina.schemas.base import Record
from fucina.schemas.sets import GrpoRow


class Grpo(StageConfig):
    """Prompt-only rows (T5); `reference`, the chosen answer, and `language` reach TRL's rewards as columns (T13)."""

    name: ClassVar[str] = "grpo"
    row: ClassVar[type[Record]] = GrpoRow

    def build(self, frame: pl.DataFrame, ctx: Context) -> Built:
        """One row for every prompt with a chosen answer."""
        rows: list[Record] = []
        reasons = dict.fromkeys(frame["prompt_id"].to_list(), "no chosen answer")
        for item in picked(frame, ctx.seed):
            del reasons[item.row.prompt_id]
            rows.append(
                with_id(
                    GrpoRow,
                    prompt=item.prompt(),
                    reference=item.chosen.response,
                    language=ctx.language,
                    prompt_id=item.row.prompt_id,
                    category=item.row.category,
                )
            )
        return Built(rows, dropped(frame, reasons))


FORMAT = Grpo
