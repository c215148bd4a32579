"""Repair broken text: mojibake, entities, Unicode form."""

from typing import ClassVar

import ftfy
import polars as pl
from pydantic import Field

from fucina.factory.stage import Context, Outcome, StageConfig, StageKind

# Line ends and curly quotes are style, not damage: left as the author wrote them.
_CONFIG = ftfy.TextFixerConfig(
    explain=False,
    unescape_html=False,
    uncurl_quotes=False,
    fix_line_breaks=True,
    normalization="NFC",
    max_decode_length=1_000_000,
)


class Repair(StageConfig):
    """Undo wrong decodings with ftfy and normalise to NFC. Clean text is left alone; only empty text is dropped."""

    name: ClassVar[str] = "repair"
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ("prompt", "response", "system")

    fields: list[str] = Field(default_factory=lambda: ["prompt", "response", "system"], description="columns to repair")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Repair the text columns that are there."""
        del ctx
        present = [name for name in self.fields if name in frame.columns]
        repaired = frame.with_columns(
            pl.Series(name, [repair_text(text) for text in frame[name].to_list()], pl.String) for name in present
        )
        blank = repaired["prompt"].str.strip_chars().str.len_chars() == 0
        return Outcome.by_reason(repaired, ["nothing left after repair" if empty else None for empty in blank])


def repair_text(text: str | None) -> str | None:
    """The text as it was before it was decoded wrongly; clean text comes back as it is."""
    return None if text is None else ftfy.fix_text(text, _CONFIG)


STAGE = Repair
