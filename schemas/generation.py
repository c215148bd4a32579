"""What is asked of an engine and what comes back."""

from typing import Self

from pydantic import Field, model_validator

from fucina.schemas.base import Record
from fucina.schemas.rows import FinishReason, Message


class Sampling(Record):
    """Sampling parameters every engine understands."""

    max_tokens: int = Field(256, ge=1, description="most tokens to generate")
    temperature: float = Field(0.0, ge=0.0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="nucleus mass")


class GenerationRequest(Record):
    """One answer wanted. `request_id` is a hash of the engine's card and everything below it."""

    request_id: str
    prompt_id: str
    source_id: str | None = None
    messages: list[Message]
    sampling: Sampling
    seed: int


class GenerationResult(Record):
    """The answer to one request, or the reason why there is none."""

    request_id: str
    response: str | None = None
    finish_reason: FinishReason = "unknown"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _answer_or_error(self) -> Self:
        if (self.response is None) == (self.error is None):
            raise ValueError("a result has either a response or an error")
        return self


class ScoringRequest(Record):
    """How likely is `response` after `messages`?"""

    request_id: str
    messages: list[Message]
    response: str


class ScoringResult(Record):
    """Log-likelihood of the answer's tokens alone, given the prompt through the chat template.

    `nll` is the mean negative log-likelihood in nats per token over `tokens` answer tokens (the end-of-turn
    token is not counted). Scores of different tokenizers compare only per character.
    """

    request_id: str
    nll: float | None = None
    tokens: int | None = None
    error: str | None = None


class EngineCard(Record):
    """Identity of an engine: enough to know whether a recorded answer can be used again."""

    engine: str = Field(description="engine id, the file name in factory/engines/")
    model: str
    revision: str | None = Field(None, description="commit, or a digest of the local files")
    notes: str | None = Field(None, description="what a reader must know, e.g. that answers are recorded")
