"""transformers in this process: slower than vLLM, but it runs everywhere.

Requests are pulled a window at a time; inside a window, those of similar length share a batch.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr

from fucina.factory.errors import EngineError, MissingExtraError
from fucina.factory.hashing import file_digest
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, ScoringRequest, ScoringResult

try:
    import torch

    from fucina.factory.engines._transformers_core import Core, RefusedError, Row
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "transformers", "train", "the transformers engine") from error

_BATCHES_A_WINDOW = 4

Request = TypeVar("Request", GenerationRequest, ScoringRequest)
Result = TypeVar("Result", GenerationResult, ScoringResult)


class TransformersEngine(Record):
    """Generates and scores with a model folder or a Hub id. Short form: `transformers:MODEL`.

    A sampled answer depends on its own seed, whatever shares its batch. The last bits of a logit do depend on the
    batch's shape, so of two tokens that tie to within rounding either may be taken; with `batch_size: 1` none is.
    """

    model: str = Field(min_length=1, description="folder or Hub id")
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    batch_size: int = Field(16, ge=1, description="requests run together")
    max_length: int | None = Field(
        None, ge=2, description="most tokens of prompt and answer; null: the model's own context"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: the checkpoint's own")
    device: str = Field("auto", description="cpu, cuda, cuda:1, …; auto: a GPU where there is one")
    _digest: str = PrivateAttr(default="")
    _running: Core | None = PrivateAttr(default=None)

    @classmethod
    def at(cls, address: str, **settings: Any) -> Self:
        """`MODEL`."""
        return cls.model_validate({"model": address, **settings})

    def card(self) -> EngineCard:
        """The model; its revision is the digest of the folder where there is one.

        Raises:
            EngineError: the model is a folder that is not there.
        """
        path = self.model_path()
        if not self._digest and path.is_dir():
            self._digest = file_digest(path)
        notes = None if self.dtype == "auto" else f"dtype {self.dtype}"
        return EngineCard(engine="transformers", model=self.model, revision=self._digest or self.revision, notes=notes)

    def model_path(self) -> Path:
        """The folder, or the Hub id.

        Raises:
            EngineError: the model is a folder that is not there.
        """
        path = Path(self.model).expanduser()
        looks_like_a_path = self.model.startswith((".", "~", "/")) or self.model.count("/") > 1
        if looks_like_a_path and not path.is_dir():
            raise EngineError(
                f"no model folder {self.model}", "check the path, or give a Hub id like Qwen/Qwen2.5-0.5B"
            )
        return path

    def generate(self, requests: Iterable[GenerationRequest]) -> Generator[GenerationResult]:
        """Answers, a batch at a time.

        Raises:
            EngineError: the model cannot be loaded, has no chat template, or does not fit in memory.
        """

        def refuse(request: GenerationRequest, cause: str) -> GenerationResult:
            return GenerationResult(request_id=request.request_id, finish_reason="error", error=cause)

        for window in self._windows(requests):
            core = self._core()
            yield from self._batched(window, core.question, core.generate, refuse)

    def score(self, requests: Iterable[ScoringRequest]) -> Generator[ScoringResult]:
        """Mean negative log-likelihoods, a batch at a time.

        Raises:
            EngineError: the model cannot be loaded, has no chat template, or does not fit in memory.
        """

        def refuse(request: ScoringRequest, cause: str) -> ScoringResult:
            return ScoringResult(request_id=request.request_id, error=cause)

        for window in self._windows(requests):
            core = self._core()
            yield from self._batched(window, core.answered, core.score, refuse)

    def close(self) -> None:
        """Free the model."""
        if self._running is not None:
            self._running = None
            torch.cuda.empty_cache()

    def _core(self) -> Core:
        if self._running is None:
            self._running = Core(
                self.model_path(),
                revision=self.revision,
                dtype=self.dtype,
                device=self.device,
                max_length=self.max_length,
            )
        return self._running

    def _windows(self, requests: Iterable[Request]) -> Iterator[list[Request]]:
        source = iter(requests)
        while window := list(islice(source, self.batch_size * _BATCHES_A_WINDOW)):
            yield window

    def _batched(
        self,
        window: list[Request],
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
        for start in range(0, len(rows), self.batch_size):
            try:
                results = run(rows[start : start + self.batch_size])
            except torch.OutOfMemoryError as error:
                raise EngineError(
                    f"{self.model} and a batch of {self.batch_size} do not fit in memory",
                    "lower batch_size or max_length",
                ) from error
            yield from results


ENGINE = TransformersEngine
