"""What the report says, computed from a run directory and free of any rendering."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from fucina.factory.errors import RunError
from fucina.factory.report.examples import Example, pick_examples
from fucina.factory.report.rows import read_rows
from fucina.factory.report.scores import Lengths, ScorePanel, lengths, score_panels
from fucina.factory.report.training import Training, read_training
from fucina.factory.rundir import RunDirectory
from fucina.schemas.generation import EngineCard
from fucina.schemas.manifest import DatasetRecord, Manifest
from fucina.schemas.recipe import Recipe

_SHARES = 18


@dataclass(frozen=True)
class Share:
    """Prompts of one category or language: how many went through, how many were dropped on the way."""

    label: str
    kept: int
    dropped: int

    @property
    def total(self) -> int:
        """Both."""
        return self.kept + self.dropped


@dataclass(frozen=True)
class Mix:
    """Prompts by category or language; `unknown` were dropped before the stage that decides it."""

    shares: tuple[Share, ...]
    unknown: int


@dataclass(frozen=True)
class DatasetUse:
    """A data set beside the prompts it could draw on: `used` + `dropped` = the prompts that were selected."""

    record: DatasetRecord
    used: int
    dropped: int


@dataclass(frozen=True)
class EngineUse:
    """An engine in its role, and the stages that asked it."""

    role: str
    card: EngineCard
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """The answers of one origin and what became of them."""

    name: str
    models: tuple[str, ...]
    answers: int
    errors: int
    cut: int
    failed: int
    chars: float | None
    chosen: int
    rejected: int
    unused: int

    @property
    def answered(self) -> int:
        """Answers that are one: requests that ended as an error have no text to judge."""
        return self.answers - self.errors


@dataclass(frozen=True)
class Cell:
    """Verdicts of one gate on one origin: `judged` of them with a label, `errors` without."""

    failed: int
    judged: int
    errors: int


@dataclass(frozen=True)
class Gate:
    """A judge's aspect whose labels are pass and fail."""

    judge: str
    aspect: str
    cells: dict[str, Cell]

    @property
    def failed(self) -> int:
        """Failures over all origins."""
        return sum(cell.failed for cell in self.cells.values())


@dataclass(frozen=True)
class Labels:
    """A judge's aspect with labels of its own: answers by label and origin."""

    judge: str
    aspect: str
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Facts:
    """Everything the page shows."""

    manifest: Manifest
    recipe: Recipe
    written: datetime
    datasets: tuple[DatasetUse, ...]
    engines: tuple[EngineUse, ...]
    categories: Mix
    languages: Mix
    origins: tuple[Origin, ...]
    gates: tuple[Gate, ...]
    labels: tuple[Labels, ...]
    scores: tuple[ScorePanel, ...]
    lengths: Lengths | None
    examples: tuple[Example, ...]
    training: Training | None

    @property
    def answers(self) -> int:
        """Candidates of all origins."""
        return sum(origin.answers for origin in self.origins)

    @property
    def chosen(self) -> int:
        """Chosen answers of all origins."""
        return sum(origin.chosen for origin in self.origins)

    @property
    def dropped(self) -> int:
        """Rows dropped by all stages."""
        return sum(sum(stage.dropped.values()) for stage in self.manifest.stages)

    @property
    def tokens(self) -> list[int]:
        """Tokens read and written by engines, stage by stage."""
        return [stage.prompt_tokens + stage.completion_tokens for stage in self.manifest.stages]

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(stage.seconds for stage in self.manifest.stages)

    @property
    def recorded(self) -> list[EngineUse]:
        """Engines that play back recorded answers."""
        return [use for use in self.engines if use.card.engine == "replay"]

    @property
    def nano(self) -> list[str]:
        """Models too small for their scores to mean anything."""
        asked = sorted({use.card.model for use in self.engines if use.card.engine == "nano"})
        plan = self.recipe.train
        if asked or plan is None or self.recipe.engines.get(plan.base, {}).get("engine") != "nano":
            return asked
        return [plan.base]


def read_facts(run: Path) -> Facts:
    """Compute the report of a run; stages, data sets and training that are not there yet are left out.

    Raises:
        InputError: not a run directory.
        RunError: a stage's folder is gone, or its counts do not add up.
    """
    directory = RunDirectory(run)
    manifest = directory.manifest()
    recipe = Recipe.model_validate(manifest.recipe)
    check_sums(manifest)
    rows = read_rows(run, manifest)
    names = rows.candidates["origin"].unique(maintain_order=True).to_list()
    pairs = directory.datasets / "dpo"
    return Facts(
        manifest=manifest,
        recipe=recipe,
        written=datetime.fromtimestamp(directory.manifest_path.stat().st_mtime, UTC),
        datasets=tuple(dataset_uses(manifest)),
        engines=tuple(engine_uses(manifest)),
        categories=mix(rows.prompts, "category"),
        languages=mix(rows.prompts, "language"),
        origins=tuple(origins(rows.candidates, names)),
        gates=tuple(gates(rows.verdicts)),
        labels=tuple(other_labels(rows.verdicts)),
        scores=tuple(score_panels(rows.verdicts, names)),
        lengths=lengths(rows.candidates, _prompts_of(pairs), recipe.seed),
        examples=tuple(pick_examples(run, manifest, rows, recipe.seed)),
        training=read_training(run, manifest.training),
    )


def check_sums(manifest: Manifest) -> None:
    """Every row that came into a stage was kept or dropped with a reason, and the next stage got all that were kept."""
    above: int | None = None
    for stage in manifest.stages:
        out = stage.rows_kept + sum(stage.dropped.values())
        if stage.rows_in != out or (above is not None and above != stage.rows_in):
            came = stage.rows_in if above is None else above
            raise RunError(
                f"stage {stage.name}: {came} rows came in, {out} came out", "run the recipe again in a new folder"
            )
        above = stage.rows_kept


def dataset_uses(manifest: Manifest) -> list[DatasetUse]:
    """Data sets with the prompts each of them used."""
    selected = manifest.stages[-1].rows_kept if manifest.stages else 0
    lost = [sum(record.dropped.values()) for record in manifest.datasets]
    return [DatasetUse(record, selected - out, out) for record, out in zip(manifest.datasets, lost, strict=True)]


def engine_uses(manifest: Manifest) -> list[EngineUse]:
    """Engines by role, in the order of their first use."""
    stages: dict[tuple[str, EngineCard], list[str]] = {}
    for stage in manifest.stages:
        for role, card in stage.engines.items():
            stages.setdefault((role, card), []).append(stage.name)
    return [EngineUse(role, card, tuple(names)) for (role, card), names in stages.items()]


def mix(prompts: pl.DataFrame, column: str) -> Mix:
    """Prompts by `column`, most kept first; beyond _SHARES values the rest is one."""
    known = prompts.drop_nulls(column)
    counted = (
        known.group_by(column)
        .agg(pl.col("kept").sum().alias("kept"), (~pl.col("kept")).sum().alias("dropped"))
        .sort(["kept", "dropped", column], descending=[True, True, False])
    )
    shares = [Share(*row) for row in counted.iter_rows()]
    if len(shares) > _SHARES:
        rest = shares[_SHARES - 1 :]
        other = Share(f"{len(rest)} others", sum(s.kept for s in rest), sum(s.dropped for s in rest))
        shares = [*shares[: _SHARES - 1], other]
    return Mix(tuple(shares), prompts.height - known.height)


def origins(candidates: pl.DataFrame, names: list[str]) -> list[Origin]:
    """Answers by origin."""
    found: list[Origin] = []
    for name in names:
        part = candidates.filter(pl.col("origin") == name)
        models = part.select("model", "revision").unique(maintain_order=True).iter_rows()
        fates = Counter(part["fate"].to_list())
        median = part.filter(~pl.col("error"))["chars"].median()
        found.append(
            Origin(
                name=name,
                models=tuple(model if revision is None else f"{model} @ {revision}" for model, revision in models),
                answers=part.height,
                errors=int(part["error"].sum()),
                cut=int(part["cut"].sum()),
                failed=int(part["failed"].sum()),
                chars=float(median) if isinstance(median, int | float) else None,
                chosen=fates["chosen"],
                rejected=fates["rejected"],
                unused=fates["unused"],
            )
        )
    return found


def gates(verdicts: pl.DataFrame) -> list[Gate]:
    """Aspects labelled pass or fail, most failures first."""
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for judge, aspect, origin, *counts in _labelled(verdicts).filter(pl.col("gate")).iter_rows():
        found.setdefault((judge, aspect), {})[origin] = Cell(*counts[:3])
    return sorted(
        (Gate(judge, aspect, cells) for (judge, aspect), cells in found.items()),
        key=lambda gate: (-gate.failed, gate.judge, gate.aspect),
    )


def _labelled(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Judge, aspect, origin, failed, judged, errors, and whether the aspect is a gate."""
    label = pl.col("label")
    text = verdicts.with_columns(pl.col("judge", "aspect", "origin", "label").cast(pl.String))
    kinds = text.group_by("judge", "aspect", maintain_order=True).agg(
        gate=(label.drop_nulls().len() > 0) & label.drop_nulls().is_in(["pass", "fail"]).all()
    )
    counted = text.group_by("judge", "aspect", "origin", maintain_order=True).agg(
        failed=(label == "fail").sum(), judged=label.is_not_null().sum(), errors=pl.col("error").sum()
    )
    return counted.join(kinds, on=["judge", "aspect"], maintain_order="left")


def other_labels(verdicts: pl.DataFrame) -> list[Labels]:
    """Aspects with labels other than pass and fail."""
    open_ended = _labelled(verdicts).filter(~pl.col("gate")).select("judge", "aspect").unique()
    text = verdicts.with_columns(pl.col("judge", "aspect", "origin", "label").cast(pl.String)).drop_nulls("label")
    counted = (
        text.join(open_ended, on=["judge", "aspect"], how="semi")
        .group_by("judge", "aspect", "label", "origin")
        .len()
        .sort("judge", "aspect", "label", "origin")
    )
    found: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    for judge, aspect, label, origin, count in counted.iter_rows():
        found.setdefault((judge, aspect), {}).setdefault(label, {})[origin] = count
    return [Labels(judge, aspect, counts) for (judge, aspect), counts in found.items()]


def _prompts_of(folder: Path) -> pl.Series | None:
    """Ids of the prompts in a data set, or None where the run has no such set."""
    files = sorted(folder.glob("*.parquet"))
    return pl.read_parquet(files, columns=["prompt_id"])["prompt_id"] if files else None
