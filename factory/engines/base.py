"""Engine protocols, and the book that opens an engine once by its role."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fucina.factory.errors import EngineError, RecipeError, nearest
from fucina.factory.plugins import ENGINES, configured, load
from fucina.factory.progress import Progress
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult, ScoringRequest, ScoringResult


@runtime_checkable
class Engine(Protocol):
    """Answers requests.

    `generate` takes requests as they are needed and yields results as they come, in any order: each request
    ends as exactly one result, and a request that failed is a result with an `error`. It raises EngineError
    only when the engine as a whole cannot work.
    """

    def card(self) -> EngineCard:
        """Who answers. Cheap: loads no weights and calls no server."""
        ...

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[GenerationResult]:
        """One result a request, as they come."""
        ...

    def close(self) -> None:
        """Free what was started. May be called twice."""
        ...


@runtime_checkable
class LogprobScorer(Protocol):
    """Scores given answers; not every engine can."""

    def card(self) -> EngineCard:
        """Who scores."""
        ...

    def score(self, requests: Iterable[ScoringRequest]) -> Iterator[ScoringResult]:
        """One result a request, in any order."""
        ...


@runtime_checkable
class LocalModel(Protocol):
    """An engine whose weights lie in a folder, so that they can be trained."""

    def model_path(self) -> Path:
        """The folder, or a Hub id; made first where the engine makes its model."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """An engine with work before its first answer that takes long enough to be watched."""

    def prepare(self, progress: Progress) -> None:
        """Do it now; nothing when it is done already."""
        ...


def build_engine(role: str, spec: Mapping[str, Any]) -> Engine:
    """The engine a recipe describes, not started yet.

    Raises:
        RecipeError: no engine named, or settings it does not know.
        PluginError: no engine of that name.
    """
    settings = dict(spec)
    if "engine" not in settings:
        raise RecipeError(f"engines.{role} does not say which engine", "add `engine: vllm` (see `fucina list engines`)")
    plugin = load(ENGINES, settings.pop("engine"))
    address = settings.pop("address", None)
    build = None if address is None else partial(plugin.at, address)
    built: Engine = configured(plugin, settings, f"engines.{role}", build)
    return built


class EngineBook:
    """Engines by role. Each is built at once, so that mistakes show before any work, and started at its first use."""

    def __init__(self, specs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._engines = {role: build_engine(role, spec) for role, spec in (specs or {}).items()}

    def __contains__(self, role: str) -> bool:
        return role in self._engines

    def roles(self) -> list[str]:
        """Roles the recipe names."""
        return list(self._engines)

    def open(self, role: str) -> Engine:
        """The engine that plays `role`."""
        if role not in self._engines:
            raise RecipeError(f"no engine plays {role!r}", nearest(role, self._engines))
        return self._engines[role]

    def card(self, role: str) -> EngineCard:
        """Its card."""
        return self.open(role).card()

    def scorer(self, role: str) -> LogprobScorer:
        """The engine that plays `role`, if it can score."""
        engine = self.open(role)
        if not isinstance(engine, LogprobScorer):
            raise EngineError(
                f"engine {engine.card().engine!r} ({role}) cannot score given answers",
                "use an engine with log-probabilities: transformers, vllm, nano",
            )
        return engine

    def prepare(self, roles: Iterable[str], progress: Progress) -> None:
        """Let the engines of these roles do their long start-up work."""
        for role in roles:
            engine = self.open(role)
            if isinstance(engine, Prepares):
                engine.prepare(progress)

    def close(self) -> None:
        """Close all of them."""
        for engine in self._engines.values():
            engine.close()
