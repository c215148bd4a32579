"""SFT: the chosen answer of every selected prompt."""

from typing import ClassVar

import polars as pl

from fucina.factory.format import Built
from fucina.factory.stage import Context, StageConfig
from fucina.pipelines.formats.base import answer, dropped, picked, with_id
from fucina.schemas.base import Record
from fucina.schemas.sets import SftRow


class Sft(StageConfig):
    """Prompt and completion, one row a prompt (P12)."""

    name: ClassVar[str] = "sft"
    row: ClassVar[type[Record]] = SftRow

    def build(self, frame: pl.DataFrame, ctx: Context) -> Built:
        """One row for every prompt with a chosen answer."""
        rows: list[Record] = []
        reasons = dict.fromkeys(frame["prompt_id"].to_list(), "no chosen answer")
        for item in picked(frame, ctx.seed):
            del reasons[item.row.prompt_id]
            rows.append(
                with_id(
                    SftRow,
                    prompt=item.prompt(),
                    completion=answer(item.chosen),
                    prompt_id=item.row.prompt_id,
                    candidate_id=item.chosen.candidate_id,
                    category=item.row.category,
                )
            )
        return Built(rows, dropped(frame, reasons))


FORMAT = Sft
