"""KTO: single answers with a thumb up or down, in an order the trainer can use."""

from collections import deque
from typing import ClassVar, TypeVar

import polars as pl
from pydantic import Field

from fucina.factory.format import Built
from fucina.factory.stage import Context, StageConfig
from fucina.pipelines.formats.base import Picked, answer, dropped, picked, with_id
from fucina.schemas.base import Record
from fucina.schemas.rows import Candidate
from fucina.schemas.sets import KtoRow

T = TypeVar("T")


class Kto(StageConfig):
    """Chosen answers labelled true, rejected ones false (P13), ordered so that every window is sound (T12).

    TRL's KTO trainer samples in sequence and estimates its KL term by giving each prompt its neighbour's answer
    within the batch. So the order of rows is part of the set: every `window` consecutive rows hold both labels
    and no prompt twice, and the number of rows is a multiple of `window`. Rows that cannot be placed are left out.
    """

    name: ClassVar[str] = "kto"
    row: ClassVar[type[Record]] = KtoRow

    window: int = Field(
        4, ge=2, description="per-device batch size the set must be sound for; smaller divisors are too"
    )

    def build(self, frame: pl.DataFrame, ctx: Context) -> Built:
        """Two rows for every pair, in a sound order."""
        pairs = [(item, item.rejected) for item in picked(frame, ctx.seed) if item.rejected is not None]
        good = [_row(item, item.chosen, label=True) for item, _ in pairs]
        bad = [_row(item, rejected, label=False) for item, rejected in pairs]
        rows = arrange(good, bad, [row.prompt_id for row in good], [row.prompt_id for row in bad], self.window)
        used = {row.prompt_id for row in rows}
        paired = {row.prompt_id for row in good}
        reasons = {
            row: "too few rows for a window" if row in paired else "no worse candidate"
            for row in frame["prompt_id"].to_list()
            if row not in used
        }
        return Built(list(rows), dropped(frame, reasons))


def arrange(good: list[T], bad: list[T], good_keys: list[str], bad_keys: list[str], window: int) -> list[T]:
    """Merge two labels into one order whose every window of `window` rows mixes labels and repeats no key.

    Labels follow an even spacing, so that any window holds the floor or the ceiling of its share of each. The
    second queue starts half-way, which keeps the two rows of a prompt apart; a row whose key was seen less than
    a window ago waits. Where the rarer label is too rare, the commoner is cut; the result is cut to whole windows.
    """
    fewer, more = sorted((len(good), len(bad)))
    more = min(more, fewer * (window - 1))
    totals = (more, fewer) if len(good) >= len(bad) else (fewer, more)
    half = totals[1] // 2
    queues = (
        deque(zip(good_keys[: totals[0]], good[: totals[0]], strict=True)),
        deque(_rotated(list(zip(bad_keys[: totals[1]], bad[: totals[1]], strict=True)), half)),
    )
    placed: list[T] = []
    recent: deque[str] = deque(maxlen=window - 1)
    total = sum(totals)
    for position in range(total):
        is_bad = (position + 1) * totals[1] // total > position * totals[1] // total
        found = _next(queues[is_bad], recent)
        if found is None:
            break
        recent.append(found[0])
        placed.append(found[1])
    return placed[: len(placed) // window * window]


def _rotated(items: list[T], by: int) -> list[T]:
    return [*items[by:], *items[:by]]


def _next(queue: "deque[tuple[str, T]]", recent: "deque[str]") -> "tuple[str, T] | None":
    """The first row whose key is not recent, taken out of the queue."""
    for index, item in enumerate(queue):
        if item[0] not in recent:
            del queue[index]
            return item
    return None


def _row(item: Picked, candidate: Candidate, *, label: bool) -> KtoRow:
    row: KtoRow = with_id(
        KtoRow,
        prompt=item.prompt(),
        completion=answer(candidate),
        label=label,
        prompt_id=item.row.prompt_id,
        candidate_id=candidate.candidate_id,
        category=item.row.category,
    )
    return row


FORMAT = Kto
