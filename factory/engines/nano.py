"""A nano model, built on the spot at its first use: for demos and tests, on any machine."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from fucina.factory.engines.transformers import TransformersEngine
from fucina.factory.nano.build import build, content_key
from fucina.factory.nano.config import Size
from fucina.factory.nano.corpus import bundled_seeds, load_corpus
from fucina.factory.progress import Progress
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, ScoringRequest, ScoringResult


class NanoEngine(Record):
    """Generates and scores with a nano model. Short form: `nano:large` or `nano:small`.

    It shows that the machinery works. What it writes is not worth reading.
    """

    size: Size = Field("large", description="small or large")
    batch_size: int = Field(16, ge=1, description="requests run together")
    _key: str = PrivateAttr(default="")
    _running: TransformersEngine | None = PrivateAttr(default=None)

    @classmethod
    def at(cls, address: str, **settings: Any) -> Self:
        """`SIZE`."""
        return cls.model_validate({"size": address, **settings})

    def card(self) -> EngineCard:
        """The nano model's address as its revision; nothing is built.

        Raises:
            InputError: the bundled seeds are missing or damaged.
        """
        if not self._key:
            self._key = content_key(self.size, load_corpus(bundled_seeds()))
        return EngineCard(
            engine="nano",
            model=f"nano-{self.size}",
            revision=self._key,
            notes="a nano model, built on the spot: it shows the machinery, not quality",
        )

    def prepare(self, progress: Progress) -> None:
        """Build the model, where people can see it happen."""
        build(self.size, progress=progress)

    def model_path(self) -> Path:
        """Folder of the model, built now if it is not there yet."""
        return build(self.size)

    def generate(self, requests: Iterable[GenerationRequest]) -> Generator[GenerationResult]:
        """Answers, a batch at a time."""
        yield from self._engine().generate(requests)

    def score(self, requests: Iterable[ScoringRequest]) -> Generator[ScoringResult]:
        """Mean negative log-likelihoods, a batch at a time."""
        yield from self._engine().score(requests)

    def close(self) -> None:
        """Free the model; its folder stays."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _engine(self) -> TransformersEngine:
        if self._running is None:
            # A model of this size gains nothing from a GPU, and on one its answers would differ in the last bits.
            self._running = TransformersEngine(model=str(self.model_path()), batch_size=self.batch_size, device="cpu")
        return self._running


ENGINE = NanoEngine
