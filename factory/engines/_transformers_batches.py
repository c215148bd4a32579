"""Requests in, results out: a window is pulled at a time, and those of similar length share a batch."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import torch

from fucina.factory.engines._transformers_core import Core, RefusedError, Row
from fucina.factory.errors import EngineError
from fucina.schemas.generation import GenerationRequest, GenerationResult, ScoringRequest, ScoringResult

_BATCHES_A_WINDOW = 4

Request = TypeVar("Request", GenerationRequest, ScoringRequest)
Result = TypeVar("Result", GenerationResult, ScoringResult)


def answers(
    load: Callable[[], Core], requests: Iterable[GenerationRequest], batch_size: int
) -> Generator[GenerationResult]:
    """One answer a request; the model is loaded when the first is there."""

    def refuse(request: GenerationRequest, cause: str) -> GenerationResult:
        return GenerationResult(request_id=request.request_id, finish_reason="error", error=cause)

    for window in _windows(requests, batch_size):
        core = load()
        yield from _batched(window, batch_size, core.question, core.generate, refuse)


def likelihoods(
    load: Callable[[], Core], requests: Iterable[ScoringRequest], batch_size: int
) -> Generator[ScoringResult]:
    """One likelihood a request; the model is loaded when the first is there."""

    def refuse(request: ScoringRequest, cause: str) -> ScoringResult:
        return ScoringResult(request_id=request.request_id, error=cause)

    for window in _windows(requests, batch_size):
        core = load()
        yield from _batched(window, batch_size, core.answered, core.score, refuse)


def free() -> None:
    """Give the memory of models nobody holds any more back to the device."""
    torch.cuda.empty_cache()


def _windows(requests: Iterable[Request], batch_size: int) -> Iterator[list[Request]]:
    source = iter(requests)
    while window := list(islice(source, batch_size * _BATCHES_A_WINDOW)):
        yield window


def _batched(
    window: list[Request],
    batch_size: int,
    prepare: Callable[[Request], Row[Request]],
    run: Callable[[list[Row[Request]]], list[Result]],
    refuse: Callable[[Request, str], Result],
) -> Iterator[Result]:
    """One result a request; the batches are the same whatever the order in the window."""
    rows: list[Row[Request]] = []
    for request in window:
        try:
            rows.append(prepare(request))
        except RefusedError as reason:
            yield refuse(request, str(reason))
    rows.sort(key=lambda row: (len(row.tokens), row.request.request_id))
    for start in range(0, len(rows), batch_size):
        try:
            results = run(rows[start : start + batch_size])
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"the model and a batch of {batch_size} do not fit in memory", "lower batch_size or max_length"
            ) from error
        yield from results
