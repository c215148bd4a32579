"""What a run writes about itself: `manifest.json` in the run directory."""

from typing import Any

from pydantic import Field

from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard


class StageRecord(Record):
    """One stage of a run: its address, its counts, its cost."""

    name: str
    key: str = Field(description="content address: stage, version, config, input and engines")
    folder: str = Field(description="relative to the run directory")
    rows_in: int
    rows_kept: int
    dropped: dict[str, int] = Field(default_factory=dict[str, int], description="rows by reason")
    requests: int = Field(0, description="answers asked of an engine in the whole stage")
    errors: int = Field(0, description="requests that ended as an error")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = Field(0.0, description="wall time over all attempts")
    engines: dict[str, EngineCard] = Field(default_factory=dict[str, EngineCard])


class DatasetRecord(Record):
    """One data set of a run."""

    format: str
    rows: dict[str, int] = Field(description="rows by split")
    files: list[str]
    digest: str = Field(description="canonical hash over the rows of all splits, in order")
    dropped: dict[str, int] = Field(default_factory=dict[str, int], description="prompts by reason")


class Manifest(Record):
    """A run, whole. Rewritten atomically after every stage."""

    fucina: str = Field(description="version of Fucina")
    recipe: dict[str, Any] = Field(description="the recipe as it ran, overrides included")
    recipe_key: str
    git_commit: str | None = None
    packages: dict[str, str]
    stages: list[StageRecord] = Field(default_factory=list[StageRecord])
    datasets: list[DatasetRecord] = Field(default_factory=list[DatasetRecord])
    training: dict[str, Any] | None = Field(None, description="what train/ wrote: models, fusion, evaluation")
