"""Answer every prompt anew with each engine, beside the answer it came with."""

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from fucina.factory.frames import conform
from fucina.factory.hashing import content_id, derived_seed
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, Sampling
from fucina.schemas.rows import Candidate, Message, PromptRow


class Regenerate(StageConfig):
    """Ask each engine for one answer a prompt; the source's own answer becomes candidate `original`.

    A failed request stays in the row as a candidate with its error. A prompt without any answer is dropped.
    """

    name: ClassVar[str] = "regenerate"
    kind: ClassVar[StageKind] = "generate"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ("candidates",)

    engines: list[str] = Field(min_length=1, description="roles of the recipe's engines that answer")
    original: bool = Field(True, description="keep the answer that came with the prompt as a candidate")
    sampling: Sampling = Field(default_factory=Sampling, description="max_tokens, temperature, top_p")

    def engine_roles(self) -> tuple[str, ...]:
        """The engines that answer."""
        return tuple(self.engines)

    def requests(self, frame: pl.DataFrame, ctx: Context) -> dict[str, list[GenerationRequest]]:
        """One request a row and engine."""
        rows = list(conform(frame, PromptRow).iter_rows(named=True))
        return {
            role: [self._request(row, role, ctx.engines.card(role), ctx.seed) for row in rows] for role in self.engines
        }

    def absorb(self, frame: pl.DataFrame, answers: Mapping[str, GenerationResult], ctx: Context) -> Outcome:
        """Append the candidates; drop rows that nobody answered."""
        candidates: list[list[dict[str, Any]]] = []
        reasons: list[str | None] = []
        cards = {role: ctx.engines.card(role) for role in self.engines}
        for row in conform(frame, PromptRow).iter_rows(named=True):
            found = [Candidate.model_validate(candidate) for candidate in row["candidates"]]
            if self.original and row["response"] is not None:
                found.append(original_candidate(row["prompt_id"], row["response"]))
            for role, card in cards.items():
                request = self._request(row, role, card, ctx.seed)
                found.append(_candidate(request, role, card, answers[request.request_id]))
            candidates.append([candidate.model_dump() for candidate in found])
            errors = [candidate.error for candidate in found if candidate.error is not None]
            reasons.append(f"no answer: {errors[0]}" if len(errors) == len(found) else None)
        column = pl.Series("candidates", candidates, dtype=_CANDIDATES)
        return Outcome.by_reason(frame.with_columns(column), reasons)

    def _request(self, row: Mapping[str, Any], role: str, card: EngineCard, seed: int) -> GenerationRequest:
        system = [Message(role="system", content=row["system"])] if row["system"] else []
        history = [Message.model_validate(turn) for turn in row["history"]]
        messages = [*system, *history, Message(role="user", content=row["prompt"])]
        own_seed = derived_seed(seed, row["prompt_id"], role)
        asked = {
            "card": card.model_dump(),
            "prompt": row["prompt_id"],
            "messages": [message.model_dump() for message in messages],
            "sampling": self.sampling.model_dump(),
            "seed": own_seed,
        }
        return GenerationRequest(
            request_id=content_id(asked),
            prompt_id=row["prompt_id"],
            source_id=row["source_id"],
            messages=messages,
            sampling=self.sampling,
            seed=own_seed,
        )


_CANDIDATES = conform(pl.DataFrame({"prompt_id": ["x"]}), PromptRow).schema["candidates"]


def original_candidate(prompt_id: str, response: str) -> Candidate:
    """The answer that came with the prompt."""
    return Candidate(
        candidate_id=content_id([prompt_id, "original", response]), origin="original", model="source", response=response
    )


def _candidate(request: GenerationRequest, role: str, card: EngineCard, result: GenerationResult) -> Candidate:
    return Candidate(
        candidate_id=content_id([request.request_id, role, result.response]),
        origin=role,
        model=card.model,
        revision=card.revision,
        response=result.response,
        finish_reason=result.finish_reason,
        seed=request.seed,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        error=result.error,
    )


STAGE = Regenerate
