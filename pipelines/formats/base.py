"""What the formats share: the prompt as messages, and the candidates a selection names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from fucina.factory.frames import REASON, conform
from fucina.factory.hashing import content_id, order_key
from fucina.schemas.base import Record
from fucina.schemas.rows import Candidate, Message, PromptRow


@dataclass(frozen=True)
class Picked:
    """A selected prompt with its chosen and, maybe, its rejected candidate."""

    row: PromptRow
    chosen: Candidate
    rejected: Candidate | None

    def prompt(self) -> list[Message]:
        """System, history and prompt as messages."""
        system = [Message(role="system", content=self.row.system)] if self.row.system else []
        return [*system, *self.row.history, Message(role="user", content=self.row.prompt)]


def picked(frame: pl.DataFrame, seed: int) -> Iterator[Picked]:
    """Selected prompts in an order that depends on content and seed alone."""
    rows = [
        PromptRow.model_validate(row)
        for row in conform(frame, PromptRow).select(list(PromptRow.model_fields)).iter_rows(named=True)
    ]
    for row in sorted(rows, key=lambda row: order_key(seed, "dataset", row.prompt_id)):
        if row.selection is None:
            continue
        by_id = {candidate.candidate_id: candidate for candidate in row.candidates}
        rejected = row.selection.rejected_id
        yield Picked(row, by_id[row.selection.chosen_id], None if rejected is None else by_id[rejected])


def answer(candidate: Candidate) -> list[Message]:
    """A candidate's response as the assistant's turn.

    Raises:
        ValueError: the candidate has none; a selection must not name it.
    """
    if candidate.response is None:
        raise ValueError(f"candidate {candidate.candidate_id} was selected without an answer: {candidate.error}")
    return [Message(role="assistant", content=candidate.response)]


def with_id(model: type[Record], **fields: Any) -> Any:
    """A data set row whose `row_id` hashes the rest of it."""
    draft = model.model_validate({**fields, "row_id": ""})
    return draft.model_copy(update={"row_id": content_id(draft.model_dump(exclude={"row_id"}))})


def dropped(frame: pl.DataFrame, reasons: dict[str, str]) -> pl.DataFrame:
    """The rows of a frame that gave nothing, by `prompt_id`, with their reason."""
    reason = frame["prompt_id"].replace_strict(reasons, default=None, return_dtype=pl.String).alias(REASON)
    return frame.with_columns(reason).filter(pl.col(REASON).is_not_null())
