"""A running vLLM engine, stepped by hand: requests go in while it has room, answers come out as they finish.

`LLM.generate` takes a list and waits for its slowest answer; here the batch is refilled after every step.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from jinja2.exceptions import TemplateError
from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.inputs.engine import tokens_input
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from fucina.factory.errors import EngineError
from fucina.schemas.generation import GenerationRequest, GenerationResult, ScoringRequest, ScoringResult
from fucina.schemas.rows import FinishReason, Message

WINDOW = 256
_FILL_S = 0.05
_CPU_KV_BYTES = 1 << 30
_FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}

Request = TypeVar("Request", GenerationRequest, ScoringRequest)
Result = TypeVar("Result", GenerationResult, ScoringResult)


@dataclass(frozen=True)
class _Job:
    """What vLLM is given: token ids, of which `prompt_tokens` are the rendered prompt."""

    tokens: list[int]
    prompt_tokens: int
    params: SamplingParams


class _RefusedError(Exception):
    """Why a request cannot be run."""


class Core:
    """One model, loaded, until `shutdown`."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None,
        dtype: str | None,
        quantization: str | None,
        max_model_len: int | None,
        tensor_parallel_size: int,
        gpu_memory_utilization: float,
        kv_cache_memory_bytes: int | None,
    ) -> None:
        cpu = current_platform.is_cpu()
        try:
            llm = LLM(
                model,
                revision=revision,
                tokenizer_revision=revision,
                # On CPU vLLM would make a float32 checkpoint bfloat16.
                dtype=dtype or ("float32" if cpu else "auto"),
                quantization=quantization,
                max_model_len=max_model_len or -1,  # -1: as much as fits
                tensor_parallel_size=tensor_parallel_size,
                gpu_memory_utilization=gpu_memory_utilization,
                kv_cache_memory_bytes=kv_cache_memory_bytes or (_CPU_KV_BYTES if cpu else None),
                enforce_eager=cpu,
                # A seeded request whose prefill is cut in two ends vLLM 0.31 on CPU ("does not use offset").
                enable_chunked_prefill=False if cpu else None,
                distributed_executor_backend="uni" if cpu else None,
                use_tqdm_on_load=False,
            )
        except (OSError, RuntimeError, ValueError) as error:
            cleanup_dist_env_and_memory()
            raise EngineError(
                f"vLLM cannot load {model}: {error}", "check the folder or Hub id, and that the model fits in memory"
            ) from error
        self.model = model
        self._engine: Any = llm.llm_engine
        self._tokenizer: Any = llm.get_tokenizer()
        self._max_model_len: int = self._engine.model_config.max_model_len
        self._numbers = count()
        self._streams = 0
        # Request number → where its output is awaited: two streams may take turns on one engine.
        self._awaited: dict[str, deque[RequestOutput]] = {}
        if getattr(self._tokenizer, "chat_template", None) is None:
            self.shutdown()
            raise EngineError(
                f"{model} has no chat template", "use a chat model, or put a chat_template.jinja into its folder"
            )

    @property
    def busy(self) -> bool:
        """Whether somebody is in the middle of `generate` or `score`."""
        return self._streams > 0

    def shutdown(self) -> None:
        """Free the model and its memory, so that another engine can start in this process."""
        self._awaited.clear()
        self._engine.engine_core.shutdown()
        self._engine = None
        cleanup_dist_env_and_memory()

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[GenerationResult]:
        """One result a request, as they finish."""

        def prepare(request: GenerationRequest) -> _Job:
            prompt = self._render(request.messages)
            params = SamplingParams(
                max_tokens=request.sampling.max_tokens,
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                seed=request.seed,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            return _Job(prompt, len(prompt), params)

        def refuse(request: GenerationRequest, cause: str) -> GenerationResult:
            return GenerationResult(request_id=request.request_id, finish_reason="error", error=cause)

        def finish(request: GenerationRequest, job: _Job, output: RequestOutput) -> GenerationResult:
            answer = output.outputs[0]
            if answer.finish_reason not in _FINISH:
                return refuse(request, f"vLLM broke the answer off: finish_reason {answer.finish_reason}")
            return GenerationResult(
                request_id=request.request_id,
                response=self._tokenizer.decode(answer.token_ids, skip_special_tokens=True),
                finish_reason=_FINISH[answer.finish_reason],
                prompt_tokens=job.prompt_tokens,
                completion_tokens=len(answer.token_ids),
            )

        return self._stream(requests, prepare, finish, refuse)

    def score(self, requests: Iterable[ScoringRequest]) -> Iterator[ScoringResult]:
        """One result a request, as they finish."""
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

        def prepare(request: ScoringRequest) -> _Job:
            prompt = self._render(request.messages)
            answer = self._tokenizer.encode(request.response, add_special_tokens=False)
            if not answer:
                raise _RefusedError("the answer has no tokens")
            return _Job(prompt + answer, len(prompt), params)

        def refuse(request: ScoringRequest, cause: str) -> ScoringResult:
            return ScoringResult(request_id=request.request_id, error=cause)

        def finish(request: ScoringRequest, job: _Job, output: RequestOutput) -> ScoringResult:
            places = range(job.prompt_tokens, len(job.tokens))
            nll = -math.fsum(output.prompt_logprobs[at][job.tokens[at]].logprob for at in places) / len(places)
            if not math.isfinite(nll):
                return refuse(request, f"the likelihood is not a number: {nll}")
            return ScoringResult(request_id=request.request_id, nll=nll, tokens=len(places))

        return self._stream(requests, prepare, finish, refuse)

    def _render(self, messages: list[Message]) -> list[int]:
        """Token ids of the prompt, up to where the answer begins."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise _RefusedError(f"the chat template refuses these messages: {error}") from error
        return ids

    def _stream(
        self,
        requests: Iterable[Request],
        prepare: Callable[[Request], _Job],
        finish: Callable[[Request, _Job, RequestOutput], Result],
        refuse: Callable[[Request, str], Result],
    ) -> Iterator[Result]:
        """Keep up to WINDOW requests in the engine and yield each as it finishes."""
        source = iter(requests)
        outputs: deque[RequestOutput] = deque()
        running: dict[str, tuple[Request, _Job]] = {}
        more = True
        self._streams += 1
        try:
            while more or running:
                # A slow source must not keep the engine from stepping.
                filled_by = time.monotonic() + _FILL_S
                while more and len(running) < WINDOW and time.monotonic() < filled_by:
                    request = next(source, None)
                    if request is None:
                        more = False
                        break
                    try:
                        job = prepare(request)
                        number = self._add(job, outputs)
                    except _RefusedError as error:
                        yield refuse(request, str(error))
                    else:
                        running[number] = (request, job)
                if running:
                    self._step()
                while outputs:
                    output = outputs.popleft()
                    yield finish(*running.pop(output.request_id), output)
        finally:
            self._streams -= 1
            self._abandon(running)

    def _add(self, job: _Job, outputs: deque[RequestOutput]) -> str:
        if len(job.tokens) >= self._max_model_len:
            raise _RefusedError(f"{len(job.tokens)} tokens leave no room for one more in {self._max_model_len}")
        number = str(next(self._numbers))
        try:
            self._live().add_request(number, tokens_input(job.tokens), job.params)
        except ValueError as error:
            raise _RefusedError(f"vLLM refuses the request: {error}") from error
        self._awaited[number] = outputs
        return number

    def _step(self) -> None:
        for output in self._live().step():
            self._awaited.pop(output.request_id).append(output)

    def _live(self) -> Any:
        if self._engine is None:
            raise EngineError(f"the engine of {self.model} was closed while it answered", "close it afterwards")
        return self._engine

    def _abandon(self, numbers: Iterable[str]) -> None:
        """Take requests that nobody awaits any more out of the engine."""
        under_way = [number for number in numbers if self._awaited.pop(number, None) is not None]
        if under_way:
            self._engine.abort_request(under_way)
