"""Rows of the data sets a run writes, in the columns that TRL's trainers read.

Conversational form throughout: the trainers apply the student's chat template. Beside TRL's columns every row
keeps the ids that lead back through the run (`fucina trace`); trainers ignore them.
"""

from typing import Self

from pydantic import Field, model_validator

from fucina.schemas.base import Record
from fucina.schemas.rows import Message


class SftRow(Record):
    """Prompt and completion; TRL masks the prompt (T2)."""

    row_id: str = Field(description="hash of the rest of the row")
    prompt: list[Message]
    completion: list[Message]
    prompt_id: str
    candidate_id: str
    category: str | None = None


class DpoRow(Record):
    """A preference pair (T3)."""

    row_id: str = Field(description="hash of the rest of the row")
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_origin: str
    rejected_origin: str
    category: str | None = None

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same text")
        return self


class KtoRow(Record):
    """One answer with a thumb up or down (T4). The order of the rows is part of the set, see formats/kto.py."""

    row_id: str = Field(description="hash of the rest of the row")
    prompt: list[Message]
    completion: list[Message]
    label: bool
    prompt_id: str
    candidate_id: str
    category: str | None = None


class GrpoRow(Record):
    """A prompt to be rolled out (T5); `reference` and `language` reach the reward functions as columns."""

    row_id: str = Field(description="hash of the rest of the row")
    prompt: list[Message]
    reference: str = Field(description="the selected answer, for rewards that compare")
    language: str = Field(description="ISO 639-1 code the answer must be in")
    prompt_id: str
    category: str | None = None
