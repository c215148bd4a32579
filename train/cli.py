"""What the commands `fucina train`, `fucina fuse` and `fucina evaluate` do, as plain functions of simple arguments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fucina.factory.errors import RecipeError, nearest
from fucina.factory.progress import SILENT, Progress
from fucina.schemas.evaluation import Evaluation
from fucina.train.options import OPTIONS, options_for
from fucina.train.parts import load_part
from fucina.train.record import TrainedModel


def train(
    method: str, data: Path, model: str, out: Path, settings: Mapping[str, Any], progress: Progress = SILENT
) -> TrainedModel:
    """Train `model` (folder or Hub id) by `sft`, `dpo` or `kto` on a data set's file or folder; save it in `out`.

    `settings` are those of `train/options.py`, for example `{"learning_rate": 1e-5, "lora": {"r": 16}}`.

    Raises:
        RecipeError: no such method or setting.
    """
    for known in OPTIONS:
        if known == method:
            options = options_for(known, settings)
            record: TrainedModel = load_part(known).train(model, data, out, options, progress)
            return record
    raise RecipeError(f"no training method is called {method!r}", nearest(method, OPTIONS))


def fuse(models: Sequence[str], out: Path, weights: Sequence[float] | None = None) -> Path:
    """Write the weighted mean of models (folders or Hub ids) to `out`; equal weights if none are given."""
    fused: Path = load_part("fuse").fuse(models, out, weights or None)
    return fused


def evaluate(
    models: Mapping[str, str], data: Path, out: Path, language: str = "it", progress: Progress = SILENT
) -> Evaluation:
    """Evaluate models by name, the first being the base, on the held-out rows of a run; write figures to `out`."""
    evaluation: Evaluation = load_part("evaluate").evaluate(models, data, out, language, progress)
    return evaluation
