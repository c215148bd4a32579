"""Give each prompt a task type by rules."""

import re
from functools import lru_cache
from importlib.resources import files
from typing import ClassVar

import polars as pl
import yaml
from pydantic import Field

from fucina.factory.stage import Context, Outcome, StageConfig, StageKind

OTHER = "other"
_HEAD, _TAIL = 40, 15


class Classify(StageConfig):
    """Write a task type to `category`, unless the source gave one: the type whose patterns weigh most, else `other`.

    The table of Italian and English patterns is `task_types.yaml` beside this file. Nothing is dropped.
    """

    name: ClassVar[str] = "classify"
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ("category",)

    field: str = Field("prompt", description="column to read")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Classify every row."""
        del ctx
        given = frame["category"].to_list() if "category" in frame.columns else [None] * frame.height
        texts = frame[self.field].to_list()
        types = [known or category_of(text or "") for known, text in zip(given, texts, strict=True)]
        return Outcome.all_kept(frame.with_columns(pl.Series("category", types, pl.String)))


def category_of(text: str) -> str:
    """The best-weighing type; the table's order decides between equals, so specific types stand first."""
    text = _instruction(text)
    best, most = OTHER, 0.0
    for name, patterns in _table():
        weight = sum(weight for pattern, weight in patterns if pattern.search(text))
        if weight > most:
            best, most = name, weight
    return best


def _instruction(text: str) -> str:
    """The part that says what to do: pasted material in the middle of a long prompt is no evidence of the task."""
    words = text.split(" ")
    return text if len(words) <= _HEAD + _TAIL else " ".join([*words[:_HEAD], "…", *words[-_TAIL:]])


@lru_cache(maxsize=1)
def _table() -> list[tuple[str, list[tuple[re.Pattern[str], float]]]]:
    text = files("fucina.pipelines.stages").joinpath("task_types.yaml").read_text(encoding="utf-8")
    table: dict[str, dict[str, float]] = yaml.safe_load(text)
    return [
        (
            name,
            [
                (re.compile(pattern, re.IGNORECASE | re.MULTILINE), float(weight))
                for pattern, weight in patterns.items()
            ],
        )
        for name, patterns in table.items()
    ]


STAGE = Classify
