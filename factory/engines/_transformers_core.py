"""A loaded model of the `transformers` engine: what it is asked as token ids, and what comes out of one batch."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jinja2.exceptions import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from fucina.factory.engines._drawing import SeededDraw
from fucina.factory.engines._hub import bars_hidden
from fucina.factory.errors import EngineError
from fucina.schemas.generation import GenerationRequest, GenerationResult, ScoringRequest, ScoringResult
from fucina.schemas.rows import Message

Request = TypeVar("Request", GenerationRequest, ScoringRequest)


class RefusedError(Exception):
    """Why a request cannot be run."""


@dataclass(frozen=True)
class Row(Generic[Request]):
    """A request as token ids: the rendered prompt, and the answer to score if there is one."""

    request: Request
    prompt: list[int]
    answer: list[int]

    @property
    def tokens(self) -> list[int]:
        """What the model reads."""
        return self.prompt + self.answer


class Core:
    """One model and its tokenizer, loaded."""

    def __init__(self, source: Path, *, revision: str | None, dtype: str, device: str, max_length: int | None) -> None:
        try:
            with bars_hidden():
                self._tokenizer = AutoTokenizer.from_pretrained(source.as_posix(), revision=revision)
                model = AutoModelForCausalLM.from_pretrained(source.as_posix(), revision=revision, dtype=dtype)
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            self._model = model.to(device).eval()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise EngineError(
                f"transformers cannot load {source}: {error}",
                "check the folder or Hub id, and that the model fits in memory",
            ) from error
        if self._tokenizer.chat_template is None:
            raise EngineError(
                f"{source} has no chat template", "use a chat model, or put a chat_template.jinja into its folder"
            )
        self._stops = _stops(self._tokenizer.eos_token_id, model.generation_config.eos_token_id)
        pad = self._tokenizer.pad_token_id
        self._pad: int = pad if pad is not None else min(self._stops, default=0)  # masked, so any token will do
        # The model's own defaults (a repetition penalty, say) are not what the request asks for.
        model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._stops) or None, pad_token_id=self._pad, do_sample=False
        )
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._limit = min((length for length in (max_length, context) if length), default=sys.maxsize)

    def question(self, request: GenerationRequest) -> Row[GenerationRequest]:
        """A request to answer, as token ids.

        Raises:
            RefusedError: the template refuses the messages, or the prompt leaves no room for an answer.
        """
        prompt = self._render(request.messages)
        if len(prompt) >= self._limit:
            raise RefusedError(f"{len(prompt)} tokens leave no room for an answer in {self._limit}")
        return Row(request, prompt, [])

    def answered(self, request: ScoringRequest) -> Row[ScoringRequest]:
        """A request to score, as token ids.

        Prompt and answer are tokenized apart, as in generation, where the prompt's tokens stand before the first of
        the answer is chosen. Tokenized as one text, a token may span the border and belong to neither.

        Raises:
            RefusedError: the template refuses the messages, the answer has no tokens, or there are too many.
        """
        row = Row(
            request,
            self._render(request.messages),
            self._tokenizer(request.response, add_special_tokens=False)["input_ids"],
        )
        if not row.answer:
            raise RefusedError("the answer has no tokens")
        if len(row.tokens) > self._limit:
            raise RefusedError(f"{len(row.tokens)} tokens of prompt and answer are more than {self._limit}")
        return row

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row[GenerationRequest]]) -> list[GenerationResult]:
        """Answers to one batch. Tokens count the end of turn, where the model came to it."""
        ids, mask = self._padded(rows)
        budgets = [min(row.request.sampling.max_tokens, self._limit - len(row.prompt)) for row in rows]
        output = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(budgets),
            logits_processor=[SeededDraw([row.request for row in rows])],
        )
        new = output[:, ids.shape[1] :].tolist()
        return [self._result(row, tokens[:budget]) for row, tokens, budget in zip(rows, new, budgets, strict=True)]

    @torch.inference_mode()
    def score(self, rows: Sequence[Row[ScoringRequest]]) -> list[ScoringResult]:
        """Likelihoods of one batch, from a float32 log-softmax."""
        ids, mask = self._padded(rows)
        logits = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            # Padded on the left, all answers end together: only their logits are made, one place ahead each.
            logits_to_keep=max(len(row.answer) for row in rows) + 1,
            use_cache=False,
        ).logits
        results: list[ScoringResult] = []
        for row, own_logits, own_ids in zip(rows, logits, ids, strict=True):
            count = len(row.answer)
            # One row at a time: the float32 copy of a whole batch would be the largest thing in memory.
            log_likelihoods = own_logits[-count - 1 : -1].float().log_softmax(-1)
            nll = -log_likelihoods.gather(-1, own_ids[-count:, None]).mean(dtype=torch.float64).item()
            request_id = row.request.request_id
            if math.isfinite(nll):
                results.append(ScoringResult(request_id=request_id, nll=nll, tokens=count))
            else:
                results.append(ScoringResult(request_id=request_id, error=f"the likelihood is not a number: {nll}"))
        return results

    def _render(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the prompt, up to where the answer begins."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise RefusedError(f"the chat template refuses these messages: {error}") from error
        return ids

    def _padded(self, rows: Sequence[Row[Request]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, (rows, longest), padded on the left."""
        width = max(len(row.tokens) for row in rows)
        ids = [[self._pad] * (width - len(row.tokens)) + row.tokens for row in rows]
        mask = [[0] * (width - len(row.tokens)) + [1] * len(row.tokens) for row in rows]
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _result(self, row: Row[GenerationRequest], tokens: list[int]) -> GenerationResult:
        end = next((at for at, token in enumerate(tokens) if token in self._stops), None)
        return GenerationResult(
            request_id=row.request.request_id,
            response=self._tokenizer.decode(tokens[:end], skip_special_tokens=True),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=len(row.prompt),
            completion_tokens=len(tokens) if end is None else end + 1,
        )


def _stops(*ids: Any) -> frozenset[int]:
    """Tokens that end a turn; a model may name one, several or none."""
    stops: set[int] = set()
    for named in ids:
        stops.update(named if isinstance(named, list) else [named] if named is not None else [])
    return frozenset(stops)
