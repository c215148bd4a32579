"""DPO: chosen against rejected."""

from typing import ClassVar

import polars as pl

from fucina.factory.format import Built
from fucina.factory.stage import Context, StageConfig
from fucina.pipelines.formats.base import answer, dropped, picked, with_id
from fucina.schemas.base import Record
from fucina.schemas.sets import DpoRow


class Dpo(StageConfig):
    """One preference pair a prompt (P14). A prompt without a worse candidate gives none; a pair never ties."""

    name: ClassVar[str] = "dpo"
    row: ClassVar[type[Record]] = DpoRow

    def build(self, frame: pl.DataFrame, ctx: Context) -> Built:
        """One row for every prompt with both a chosen and a rejected answer."""
        rows: list[Record] = []
        reasons = dict.fromkeys(frame["prompt_id"].to_list(), "no chosen answer")
        for item in picked(frame, ctx.seed):
            if item.rejected is None:
                reasons[item.row.prompt_id] = "no worse candidate"
                continue
            del reasons[item.row.prompt_id]
            rows.append(
                with_id(
                    DpoRow,
                    prompt=item.prompt(),
                    chosen=answer(item.chosen),
                    rejected=answer(item.rejected),
                    prompt_id=item.row.prompt_id,
                    chosen_id=item.chosen.candidate_id,
                    rejected_id=item.rejected.candidate_id,
                    chosen_origin=item.chosen.origin,
                    rejected_origin=item.rejected.origin,
                    category=item.row.category,
                )
            )
        return Built(rows, dropped(frame, reasons))


FORMAT = Dpo
