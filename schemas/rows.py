"""The row that flows through a run: one prompt, its candidate answers, their verdicts.

The grain never changes between `collect` and `select`: one row is one prompt. Candidates nest in their
prompt and verdicts in their candidate, so a shard of prompts holds everything a stage can ask about them.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from fucina.schemas.base import Record

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "error", "unknown"]
Split = Literal["train", "test"]


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Verdict(Record):
    """What one judge says about one aspect of one candidate.

    A judge that failed leaves `score` and `label` null and says why in `error`; a failure is never a low score.
    """

    judge: str = Field(description="judge id, the file name in judges/")
    version: str = Field(description="version of the judge that spoke")
    aspect: str = Field(description="what was judged, e.g. `language` or `nll`")
    score: float | None = Field(None, description="unit and direction are the judge's own, see its docstring")
    label: str | None = Field(None, description="categorical outcome, e.g. `pass` or `fail`")
    rationale: str | None = Field(None, description="why, in words")
    raw: str | None = Field(None, description="the unparsed answer or the figures behind the score")
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = Field(None, description="why there is no score and no label")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.error is None and self.score is None and self.label is None:
            raise ValueError("a verdict needs a score, a label or an error")
        if self.error is not None and self.score is not None:
            raise ValueError("a failed verdict carries no score")
        return self


class Candidate(Record):
    """One answer to a prompt: who gave it, with what settings, and what the judges said."""

    candidate_id: str = Field(description="hash of prompt, origin, model, revision, parameters, seed and answer")
    origin: str = Field(description="role in the recipe: `original`, `teacher`, `student`, …")
    model: str = Field(description="model id, or `source` for the answer that came with the prompt")
    revision: str | None = None
    response: str | None = Field(None, description="null exactly when `error` says why")
    finish_reason: FinishReason = "unknown"
    seed: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    verdicts: list[Verdict] = Field(default_factory=list[Verdict])

    @model_validator(mode="after")
    def _answer_or_error(self) -> Self:
        if (self.response is None) == (self.error is None):
            raise ValueError("a candidate has either a response or an error")
        return self


class Selection(Record):
    """Which candidates a selection rule took from a prompt, and why."""

    rule: str = Field(description="name and version of the rule")
    chosen_id: str
    rejected_id: str | None = Field(None, description="null when no candidate is worse by the rule")
    chosen_why: str
    rejected_why: str | None = None


class PromptRow(Record):
    """One prompt and everything known about it. `prompt_id` is a hash of content, never a position."""

    prompt_id: str = Field(description="hash of the source row's system, history, prompt and response")
    prompt: str = Field(description="the last user turn")
    system: str | None = None
    history: list[Message] = Field(default_factory=list[Message], description="turns before the last user turn")
    response: str | None = Field(None, description="the answer that came with the prompt, if any")
    source: str = Field(description="file name, folder or data set id the row came from")
    source_line: int = Field(description="1-based line or row number in the source")
    source_id: str | None = Field(None, description="the source's own id of the row, if it had one")
    split: Split | None = None
    language: str | None = Field(None, description="ISO 639-1 code of the prompt, `und` when undecided")
    category: str | None = Field(None, description="task type")
    meta: str | None = Field(None, description="canonical JSON of the source fields that Fucina does not know")
    candidates: list[Candidate] = Field(default_factory=list[Candidate])
    selection: Selection | None = None
