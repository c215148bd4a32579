"""How surprised a model is by an answer, given its prompt."""

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from fucina.factory.hashing import canonical_json
from fucina.factory.stage import Context, StageConfig
from fucina.judges.base import Answer
from fucina.schemas.generation import ScoringRequest, ScoringResult
from fucina.schemas.rows import Verdict

# Beyond these digits a likelihood depends on what shared its batch, not on the answer.
_DIGITS = 4


class Perplexity(StageConfig):
    """Conditional perplexity of the answer's tokens alone, the prompt given through the chat template (P8).

    Aspects: `nll`, the mean negative log-likelihood in nats per token (perplexity is its exponential; lower is
    more predictable), comparable under one tokenizer only; and `bits_per_char`, comparable across tokenizers.
    """

    name: ClassVar[str] = "perplexity"
    aspects: ClassVar[tuple[str, ...]] = ("nll", "bits_per_char")

    engine: str = Field(description="role of the recipe's engine whose model scores; it must give log-probabilities")

    def engine_roles(self) -> tuple[str, ...]:
        """The scoring engine."""
        return (self.engine,)

    def judge(self, answers: Sequence[Answer], ctx: Context) -> list[list[Verdict]]:
        """Score all answers; one that cannot be scored gets an error."""
        scorer = ctx.engines.scorer(self.engine)
        requests = [
            ScoringRequest(request_id=str(index), messages=answer.messages(), response=answer.text)
            for index, answer in enumerate(answers)
        ]
        results = {result.request_id: result for result in scorer.score(requests)}
        return [self._verdicts(answer, results[str(index)]) for index, answer in enumerate(answers)]

    def _verdicts(self, answer: Answer, result: ScoringResult) -> list[Verdict]:
        if result.nll is None or result.tokens is None:
            error = result.error or "the engine gave no likelihood"
            return [
                Verdict(judge=self.name, version=self.version, aspect=aspect, error=error) for aspect in self.aspects
            ]
        bits = result.nll * result.tokens / math.log(2) / len(answer.text)
        raw = canonical_json({"tokens": result.tokens, "chars": len(answer.text)})
        return [
            Verdict(judge=self.name, version=self.version, aspect="nll", score=round(result.nll, _DIGITS), raw=raw),
            Verdict(judge=self.name, version=self.version, aspect="bits_per_char", score=round(bits, _DIGITS), raw=raw),
        ]


JUDGE = Perplexity
