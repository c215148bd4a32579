"""Trained, fused and evaluated models of a run, as far as the manifest tells of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fucina.factory.report.axes import Axis, linear_axis
from fucina.schemas.evaluation import Comparison, ModelEvaluation, Outcome

POINTS = 120


@dataclass(frozen=True)
class Curve:
    """Training loss: (update, loss), each the mean of a window where there were more than POINTS updates."""

    points: tuple[tuple[float, float], ...]
    window: int
    x_axis: Axis
    y_axis: Axis


@dataclass(frozen=True)
class Trained:
    """One training. `curve` is None where its folder, which holds the log, is gone."""

    name: str
    method: str
    base: str
    folder: str
    rows: int
    updates: int
    seconds: float
    final_loss: float
    notes: tuple[str, ...]
    curve: Curve | None


@dataclass(frozen=True)
class Whisker:
    """A model's difference to the base with its 95 % interval, where there were rows enough for one."""

    name: str
    difference: float
    low: float | None
    high: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Whiskers:
    """Differences of one measure on one axis, which holds zero."""

    rows: tuple[Whisker, ...]
    axis: Axis


@dataclass(frozen=True)
class Training:
    """What train/ did. `fused` names the models of the mean."""

    base: str
    trained: tuple[Trained, ...]
    fused: tuple[str, ...]
    evaluated: tuple[ModelEvaluation, ...]
    notes: tuple[str, ...]
    nll: Whiskers | None
    preference: Whiskers | None

    @property
    def seconds(self) -> float:
        """Wall time of all trainings."""
        return sum(model.seconds for model in self.trained)

    @property
    def better(self) -> int:
        """Models that predict held-out answers better than the base, beyond noise."""
        return sum(row.outcome == "better" for row in self.nll.rows) if self.nll else 0


def read_training(run: Path, training: Mapping[str, Any] | None) -> Training | None:
    """What the manifest and the models' folders say; None when nothing was trained."""
    if training is None:
        return None
    evaluation = training["evaluation"] or {"models": [], "notes": []}
    evaluated = tuple(ModelEvaluation.model_validate(model) for model in evaluation["models"])
    fused = training["fused"]
    # Models are known by folder, which carries a key; people know them by step.
    steps = {Path(record["folder"]).name: name for name, record in training["models"].items()}
    return Training(
        base=training["base"]["model"],
        trained=tuple(_trained(run, name, record, steps) for name, record in training["models"].items()),
        fused=tuple(steps.get(name, name) for name in fused["models"]) if fused else (),
        evaluated=evaluated,
        notes=tuple(evaluation["notes"]),
        nll=_whiskers([(model.name, model.nll_against_base) for model in evaluated]),
        preference=_whiskers([(model.name, model.preference_against_base) for model in evaluated]),
    )


def _trained(run: Path, name: str, record: Mapping[str, Any], steps: Mapping[str, str]) -> Trained:
    log = run / record["folder"] / "training.json"
    losses = [entry["loss"] for entry in json.loads(log.read_bytes())["log"]] if log.exists() else []
    return Trained(
        name=name,
        method=record["method"],
        base=steps.get(record["base"], record["base"]),
        folder=record["folder"],
        rows=record["rows_trained"],
        updates=record["steps"],
        seconds=record["seconds"],
        final_loss=record["final_loss"],
        notes=tuple(record["notes"]),
        curve=curve(losses),
    )


def curve(losses: Sequence[float]) -> Curve | None:
    """A curve that can be drawn, or None with fewer than two updates."""
    if len(losses) < 2:
        return None
    window = -(-len(losses) // POINTS)
    parts = [losses[start : start + window] for start in range(0, len(losses), window)]
    points = tuple((index * window + (len(part) + 1) / 2, fmean(part)) for index, part in enumerate(parts))
    values = [loss for _, loss in points]
    return Curve(points, window, linear_axis(0, len(losses)), linear_axis(min(values), max(values), wanted=3))


def _whiskers(compared: Sequence[tuple[str, Comparison | None]]) -> Whiskers | None:
    rows = tuple(
        Whisker(name, found.difference.mean, found.low, found.high, found.outcome)
        for name, found in compared
        if found is not None
    )
    ends = [end for row in rows for end in (row.difference, row.low, row.high) if end is not None]
    return Whiskers(rows, linear_axis(min(*ends, 0), max(*ends, 0))) if rows else None
