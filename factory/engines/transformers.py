"""transformers in this process: slower than vLLM, but it runs everywhere.

This file holds the settings and imports neither torch nor transformers, so that a card costs nothing;
`_transformers_batches.py` and `_transformers_core.py` do the work.
"""

import importlib
import importlib.util
from collections.abc import Generator, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from fucina.factory.engines._local import model_path
from fucina.factory.errors import MissingExtraError
from fucina.factory.hashing import file_digest
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, ScoringRequest, ScoringResult

if TYPE_CHECKING:
    from fucina.factory.engines._transformers_core import Core


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
    _running: "Core | None" = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _installed(self) -> Self:
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "train", "the transformers engine")
        return self

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
        return model_path(self.model)

    def generate(self, requests: Iterable[GenerationRequest]) -> Generator[GenerationResult]:
        """Answers, a batch at a time.

        Raises:
            EngineError: the model cannot be loaded, has no chat template, or does not fit in memory.
        """
        yield from self._batches().answers(self._core, requests, self.batch_size)

    def score(self, requests: Iterable[ScoringRequest]) -> Generator[ScoringResult]:
        """Mean negative log-likelihoods, a batch at a time.

        Raises:
            EngineError: the model cannot be loaded, has no chat template, or does not fit in memory.
        """
        yield from self._batches().likelihoods(self._core, requests, self.batch_size)

    def close(self) -> None:
        """Free the model."""
        if self._running is not None:
            self._running = None
            self._batches().free()

    @staticmethod
    def _batches() -> ModuleType:
        return importlib.import_module("fucina.factory.engines._transformers_batches")

    def _core(self) -> "Core":
        if self._running is None:
            self._running = self._batches().Core(
                self.model_path(),
                revision=self.revision,
                dtype=self.dtype,
                device=self.device,
                max_length=self.max_length,
            )
        return self._running


ENGINE = TransformersEngine
