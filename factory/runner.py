"""The runner: takes a recipe through its stages. It alone writes to a run directory.

For each stage it derives a content address from the stage, its settings, its input's address and the cards of
the engines it uses. Present and complete: skipped. Otherwise it runs shard by shard, each written atomically.
After every stage the rows must add up: in = kept + dropped, each row exactly once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from fucina.factory.asking import AnswerLog, ask
from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import PluginError, RecipeError, RunError
from fucina.factory.executors.base import Executor
from fucina.factory.executors.local import LocalExecutor
from fucina.factory.frames import REASON, conform, schema_of
from fucina.factory.hashing import content_id
from fucina.factory.progress import SILENT, Progress
from fucina.factory.rundir import RunDirectory, new_manifest, relative
from fucina.factory.stage import Context, FrameStage, GenerateStage, Outcome, SourceStage
from fucina.factory.store import Counts, StageFolder
from fucina.schemas.manifest import Manifest, StageRecord
from fucina.schemas.recipe import Recipe
from fucina.schemas.rows import PromptRow

_ROW = schema_of(PromptRow)
_MODEL_SHARD_ROWS = 32


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes a row."""

    shard_rows: int = 512
    workers: int = 1
    to: str | None = None


@dataclass(frozen=True)
class Planned:
    """A stage and its address, known before anything runs."""

    number: int
    stage: Any
    key: str
    folder: StageFolder


def plan(recipe: Recipe, stages: list[Any], engines: EngineBook, run: RunDirectory) -> list[Planned]:
    """Address every stage of a recipe."""
    if stages[0].kind != "source" or any(stage.kind == "source" for stage in stages[1:]):
        raise RunError("a recipe starts with its one source stage", "make `collect` the first stage and only the first")
    _check_reads(stages)
    planned: list[Planned] = []
    above: Any = dict(stages[0].fingerprint())
    for number, stage in enumerate(stages, 1):
        key = content_id(
            {
                "stage": stage.name,
                "version": stage.version,
                "config": stage.identity(),
                "engines": {role: engines.card(role).model_dump() for role in stage.engine_roles()},
                "input": above,
                "language": recipe.language,
                "seed": recipe.seed,
            }
        )
        planned.append(Planned(number, stage, key, StageFolder(run.stages / f"{number:02d}-{stage.name}-{key}")))
        above = key
    return planned


def _check_reads(stages: list[Any]) -> None:
    """See that every stage finds its columns filled.

    Raises:
        RecipeError: a stage reads what none before it adds, such as candidates before `regenerate`.
    """
    filled = set(stages[0].adds)
    for stage in stages[1:]:
        missing = sorted(set(stage.reads) - filled)
        if missing:
            raise RecipeError(
                f"stage {stage.name} reads {', '.join(missing)}, which no stage before it fills",
                "put `regenerate` or a judge before it",
            )
        filled |= set(stage.adds)


class Runner:
    """Runs planned stages one after the other."""

    def __init__(
        self, recipe: Recipe, run: RunDirectory, engines: EngineBook, options: Options, progress: Progress = SILENT
    ) -> None:
        self._run = run
        self._recipe = recipe
        self._options = options
        self._ctx = Context(recipe.language, recipe.seed, engines, progress)

    def run(self, planned: list[Planned]) -> Manifest:
        """Run what is not there yet and return the manifest.

        Raises:
            RunError: rows do not add up, or nothing is left.
        """
        manifest = new_manifest(self._recipe)
        executor = LocalExecutor(self._options.workers)
        above: StageFolder | None = None
        try:
            for item in planned:
                record = self._stage(item, above, executor)
                manifest = manifest.model_copy(update={"stages": [*manifest.stages, record]})
                self._run.write_manifest(manifest)
                if record.rows_kept == 0:
                    raise RunError(
                        f"stage {item.stage.name} kept none of {record.rows_in} rows: {_reasons(record)}",
                        f"look at {record.folder}/dropped-*.parquet",
                    )
                above = item.folder
                if item.stage.name == self._options.to:
                    break
        finally:
            executor.close()
        return manifest

    def _stage(self, item: Planned, above: StageFolder | None, executor: Executor) -> StageRecord:
        done = item.folder.done()
        if done is not None:
            return StageRecord.model_validate(done)
        started = time.monotonic()
        item.folder.start(self._shard_rows(item))
        self._ctx.engines.prepare(item.stage.engine_roles(), self._ctx.progress)
        usage = Usage()
        if above is None:
            counts = self._source(item)
        elif item.stage.kind == "generate":
            counts, usage = self._generate(item, above)
        else:
            counts = self._frames(item, above, executor)
        record = StageRecord(
            name=item.stage.name,
            key=item.key,
            folder=relative(item.folder.path, self._run.path),
            rows_in=counts.rows_in,
            rows_kept=counts.rows_kept,
            dropped=dict(sorted(counts.dropped.items())),
            requests=usage.requests,
            errors=usage.errors,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=round(time.monotonic() - started, 2),
            engines={role: self._ctx.engines.card(role) for role in item.stage.engine_roles()},
        )
        item.folder.finish(record.model_dump(mode="json"))
        return record

    def _shard_rows(self, item: Planned) -> int:
        """A model's rows are slow and dear: small shards keep the bar moving and lose little to a kill."""
        asked = self._options.shard_rows
        return min(asked, _MODEL_SHARD_ROWS) if item.stage.kind == "map" and item.stage.engine_roles() else asked

    def _source(self, item: Planned) -> Counts:
        stage: SourceStage = item.stage
        counts, seen = Counts(), set[str]()
        with self._ctx.progress.task(stage.name, None) as advance:
            for index, outcome in enumerate(stage.read(self._options.shard_rows, self._ctx)):
                ids = outcome.kept["prompt_id"].to_list()
                if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
                    raise PluginError(f"stage {stage.name} gave two rows one prompt_id", "report this as a bug")
                seen.update(ids)
                item.folder.write(index, Outcome(_typed(outcome.kept), outcome.dropped))
                counts.add(Counts.of(outcome))
                advance(outcome.kept.height + outcome.dropped.height)
        return counts

    def _frames(self, item: Planned, above: StageFolder, executor: Executor) -> Counts:
        """Run a map stage shard by shard, a reduce stage over everything at once."""
        stage: FrameStage = item.stage
        total = _height(above)
        shards = above.shards(self._shard_rows(item)) if stage.kind == "map" else iter([above.kept()])
        counts = Counts()
        # Engines live in this process; a stage without one may run in any.
        alone = bool(stage.engine_roles()) or stage.kind == "reduce"
        ctx = self._ctx if alone else replace(self._ctx, engines=EngineBook(), progress=SILENT)
        place: Executor = LocalExecutor() if alone else executor
        with self._ctx.progress.task(stage.name, total) as advance:
            todo = self._todo(item.folder, shards, counts, advance)
            for index, outcome in place.map(partial(run_shard, stage, ctx), todo):
                item.folder.write(index, outcome)
                counts.add(Counts.of(outcome))
                advance(outcome.kept.height + outcome.dropped.height)
        return counts

    @staticmethod
    def _todo(
        folder: StageFolder, shards: Iterator[pl.DataFrame], counts: Counts, advance: Any
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Shards that an earlier attempt did not finish; the others are only counted."""
        for index, shard in enumerate(shards):
            if folder.has(index):
                counts.add(Counts.of(folder.read(index)))
                advance(shard.height)
            else:
                yield index, shard

    def _generate(self, item: Planned, above: StageFolder) -> tuple[Counts, "Usage"]:
        """Ask everything that the log does not answer yet, engine after engine, then put the answers in place."""
        stage: GenerateStage = item.stage
        counts, total = Counts(), _height(above)
        with AnswerLog(item.folder.answers) as log:
            for role in stage.engine_roles():
                stream = (
                    request
                    for shard in above.shards(self._options.shard_rows)
                    for request in stage.requests(shard, self._ctx).get(role, [])
                )
                with self._ctx.progress.task(f"{stage.name} {role}", total, "answers") as advance:
                    ask(self._ctx.engine(role), stream, log, advance)
            usage = Usage.of(log)
            for index, shard in enumerate(above.shards(self._options.shard_rows)):
                outcome = checked(stage, shard, stage.absorb(shard, log.results, self._ctx))
                item.folder.write(index, outcome)
                counts.add(Counts.of(outcome))
        return counts, usage


@dataclass(frozen=True)
class Usage:
    """What a generate stage asked for, over all attempts."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, log: AnswerLog) -> "Usage":
        """Sum over a log."""
        results = log.results.values()
        return cls(
            len(results),
            sum(result.error is not None for result in results),
            sum(result.prompt_tokens or 0 for result in results),
            sum(result.completion_tokens or 0 for result in results),
        )


def run_shard(stage: FrameStage, ctx: Context, item: tuple[int, pl.DataFrame]) -> tuple[int, Outcome]:
    """Run one shard; a module function, so that a worker process can be sent it."""
    index, frame = item
    return index, checked(stage, frame, stage.run(frame, ctx))


def checked(stage: Any, frame: pl.DataFrame, outcome: Outcome) -> Outcome:
    """The outcome in the row schema, if every row that came in went out exactly once.

    Raises:
        PluginError: the stage lost, doubled or invented rows, or dropped one without a reason.
    """
    before = frame["prompt_id"].sort()
    after = pl.concat([outcome.kept["prompt_id"], outcome.dropped["prompt_id"]]).sort()
    if not before.equals(after):
        raise PluginError(
            f"stage {stage.name}: {before.len()} in, {outcome.kept.height} kept + {outcome.dropped.height} dropped",
            "a stage must return every row exactly once, kept or dropped",
        )
    if outcome.dropped.height and outcome.dropped[REASON].null_count():
        raise PluginError(f"stage {stage.name} dropped rows without a reason", "give every dropped row a `reason`")
    return Outcome(_typed(outcome.kept), _typed(outcome.dropped, keep=REASON))


def _typed(frame: pl.DataFrame, keep: str | None = None) -> pl.DataFrame:
    return conform(frame, PromptRow).select([*_ROW.names(), *([keep] if keep else [])])


def _height(folder: StageFolder) -> int:
    height: int = pl.scan_parquet(sorted(folder.path.glob("kept-*.parquet"))).select(pl.len()).collect().item()
    return height


def _reasons(record: StageRecord) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in record.dropped.items())


def final_rows(run: RunDirectory, manifest: Manifest) -> pl.DataFrame:
    """The kept rows of a run's last stage."""
    return StageFolder(run.path / Path(manifest.stages[-1].folder)).kept()
