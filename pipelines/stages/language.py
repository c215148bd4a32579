"""Find the language of each prompt and keep the wanted ones."""

from typing import ClassVar

import polars as pl
from pydantic import Field

from fucina.factory.languages import UNDECIDED, detect
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind


class Language(StageConfig):
    """Write the prompt's ISO 639-1 code to `language` (lingua) and drop prompts in other languages than `keep`."""

    name: ClassVar[str] = "language"
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ("language",)

    keep: list[str] = Field(default_factory=list[str], description="codes to keep; empty: the recipe's language")
    field: str = Field("prompt", description="column to read")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Detect and filter. Text too short to tell is kept as `und`."""
        keep = set(self.keep or [ctx.language]) | {UNDECIDED}
        codes = [detect(text)[0] if text else UNDECIDED for text in frame[self.field].to_list()]
        reasons = [None if code in keep else f"language: {code}" for code in codes]
        return Outcome.by_reason(frame.with_columns(pl.Series("language", codes, pl.String)), reasons)


STAGE = Language
