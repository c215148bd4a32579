"""The stage protocol: a frame of prompt rows in; kept rows, and dropped rows with a reason, out.

A stage is a frozen pydantic model: its fields are its settings. Attributes of the protocols are read-only
properties, so that frozen classes and class variables satisfy them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import polars as pl

from fucina.factory.engines.base import Engine, EngineBook
from fucina.factory.frames import REASON
from fucina.factory.progress import SILENT, Progress
from fucina.schemas.base import Record
from fucina.schemas.generation import GenerationRequest, GenerationResult

StageKind = Literal["source", "map", "reduce", "generate"]


@dataclass(frozen=True)
class Context:
    """What a stage may know beyond its rows. Holds no counters: outputs depend on rows and settings alone."""

    language: str = "it"
    seed: int = 17
    engines: EngineBook = field(default_factory=EngineBook)
    progress: Progress = SILENT

    def engine(self, role: str) -> Engine:
        """The engine that plays `role` in the recipe, started at its first use."""
        return self.engines.open(role)


@dataclass(frozen=True)
class Outcome:
    """Kept rows, and dropped rows with a `reason` column; together exactly the rows that came in."""

    kept: pl.DataFrame
    dropped: pl.DataFrame

    @classmethod
    def all_kept(cls, frame: pl.DataFrame) -> "Outcome":
        """Nothing dropped."""
        return cls(frame, frame.clear().with_columns(pl.lit(None, dtype=pl.String).alias(REASON)))

    @classmethod
    def by_reason(cls, frame: pl.DataFrame, reasons: Sequence[str | None] | pl.Series) -> "Outcome":
        """Split by reason: a row whose reason is null is kept."""
        reason = pl.Series(REASON, reasons, dtype=pl.String)
        return cls(frame.filter(reason.is_null()), frame.with_columns(reason).filter(reason.is_not_null()))


class StageConfig(Record):
    """Base of every stage and judge: frozen settings, unknown ones refused; the class says what the stage is."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"

    def engine_roles(self) -> tuple[str, ...]:
        """Roles of the engines this stage uses; their cards become part of its address."""
        return ()

    def identity(self) -> dict[str, Any]:
        """The settings that shape its rows; part of its address."""
        return self.model_dump(mode="json")


@runtime_checkable
class Stage(Protocol):
    """What every stage says about itself."""

    @property
    def name(self) -> str:
        """Id, the file name in pipelines/stages/."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the stage's rows may; part of its address."""
        ...

    @property
    def kind(self) -> StageKind:
        """How the runner feeds it."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns it needs."""
        ...

    @property
    def adds(self) -> tuple[str, ...]:
        """Columns it fills or changes."""
        ...

    def engine_roles(self) -> tuple[str, ...]:
        """Roles of the engines it uses."""
        ...

    def identity(self) -> dict[str, Any]:
        """The settings that shape its rows; part of its address."""
        ...


@runtime_checkable
class FrameStage(Stage, Protocol):
    """kind `map` (sees one shard; must not depend on its size) or `reduce` (sees every row at once)."""

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Every row of `frame` once, kept or dropped."""
        ...


@runtime_checkable
class SourceStage(Stage, Protocol):
    """kind `source`: reads files. Unreadable rows come out as dropped, with their raw text."""

    def fingerprint(self) -> Mapping[str, str]:
        """Content digest of every file it reads, by name: the input part of its address."""
        ...

    def read(self, shard_rows: int, ctx: Context) -> Iterator[Outcome]:
        """Shards of at most `shard_rows` records."""
        ...


@runtime_checkable
class GenerateStage(Stage, Protocol):
    """kind `generate`: says what to ask and what to do with the answers; the runner does the asking.

    So a killed run asks again only what was in flight, and engines never drain between shards.
    """

    def requests(self, frame: pl.DataFrame, ctx: Context) -> dict[str, list[GenerationRequest]]:
        """Requests by engine role."""
        ...

    def absorb(self, frame: pl.DataFrame, answers: Mapping[str, GenerationResult], ctx: Context) -> Outcome:
        """Rows with their answers; `answers` holds a result for every request id of this frame."""
        ...
