"""The compact stage of a run: train the plan's models, fuse them, evaluate all of them against the base.

    models/
        sft-<key>/          SFT from the base
        kto-<key>/          KTO from the base
        sft_kto-<key>/      KTO from the SFT model, the paper's two stages (P17)
        dpo-<key>/          DPO from the SFT model where the plan trains one, else from the base
        fused-<key>/        mean of the plan's `fuse` (P18)
        evaluation-<key>/   evaluation.json, evaluation.md

A key hashes base, rows, settings and version, so a second call trains only what is missing or changed.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fucina.factory.errors import RecipeError
from fucina.factory.progress import SILENT, Progress
from fucina.factory.rundir import relative
from fucina.schemas.evaluation import Evaluation
from fucina.schemas.recipe import StepName, Training
from fucina.train.held_out import RECORD as EVALUATION
from fucina.train.held_out import evaluation_key, read_held_out
from fucina.train.models import ModelFolder, find_model
from fucina.train.options import KtoOptions, Method, TrainingOptions, options_for
from fucina.train.parts import load_part
from fucina.train.record import FUSION, RECORD, Fusion, TrainedModel, finished, fusion_key, open_job
from fucina.train.rows import read_rows
from fucina.train.windows import in_sound_batches

_METHOD: dict[StepName, Method] = {"sft": "sft", "kto": "kto", "sft_kto": "kto", "dpo": "dpo"}


@dataclass(frozen=True)
class _Trained:
    model: ModelFolder
    record: TrainedModel


def run_training(
    run: Path,
    plan: Training,
    base: Path | str,
    language: str = "it",
    seed: int = 17,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Carry out `plan` on the data sets of the run directory `run`; return what the manifest says about it.

    Raises:
        RecipeError: a setting that does not exist or a fusion of fewer than two models, before anything is trained.
        InputError: the base or a data set is missing or unusable, before anything is trained.
        RunError: a loss stopped being finite.
    """
    root = find_model(base)
    steps = _steps(plan)
    options = {step: options_for(_METHOD[step], getattr(plan, _METHOD[step]), seed) for step in steps}
    _check(run, plan, options)
    for leftover in (run / "models").glob(".*.partial"):
        shutil.rmtree(leftover)
    trained: dict[StepName, _Trained] = {}
    for step in steps:
        parent = trained["sft"].model if step in {"sft_kto", "dpo"} and "sft" in trained else root
        trained[step] = _train(run, step, parent, options[step], progress)
    models: dict[str, ModelFolder] = {"base": root, **{step: part.model for step, part in trained.items()}}
    fused = None
    if plan.fuse:
        fused, models["fused"] = _fuse(run, [trained[step].model for step in plan.fuse])
    evaluation = _evaluate(run, models, language, progress) if plan.evaluate else None
    return {
        "base": {"model": root.name, "digest": root.digest},
        "models": {step: _summary(run, part) for step, part in trained.items()},
        "fused": fused,
        "evaluation": evaluation,
    }


def _steps(plan: Training) -> list[StepName]:
    """The plan's steps, parents first. Two-stage training needs the SFT model, asked for or not."""
    wanted = set(plan.steps) | ({"sft"} if "sft_kto" in plan.steps else set())
    order: tuple[StepName, ...] = ("sft", "kto", "sft_kto", "dpo")
    return [step for step in order if step in wanted]


def _check(run: Path, plan: Training, options: dict[StepName, TrainingOptions]) -> None:
    """Find what would fail later, before time is spent."""
    if plan.fuse and len(set(plan.fuse)) < 2:
        raise RecipeError("train.fuse: a fusion needs two different models or more")
    for method in dict.fromkeys(_METHOD[step] for step in options):
        rows = read_rows(run / "datasets" / method, method)
        settings = next(options[step] for step in options if _METHOD[step] == method)
        if isinstance(settings, KtoOptions):
            in_sound_batches(rows.frame, settings.batch_size)
    if plan.evaluate:
        read_held_out(run)


def _train(run: Path, step: StepName, parent: ModelFolder, options: TrainingOptions, progress: Progress) -> _Trained:
    method, data = _METHOD[step], run / "datasets" / _METHOD[step]
    job = open_job(method, parent, data, run / "models", options)
    out = run / "models" / f"{step}-{job.key}"
    record = finished(out, RECORD, TrainedModel, job.key)
    if record is None:
        record = load_part(method).train(parent, data, out, options, progress)
    return _Trained(find_model(out), record)


def _fuse(run: Path, models: list[ModelFolder]) -> tuple[dict[str, Any], ModelFolder]:
    key = fusion_key(models, [1.0] * len(models))
    out = run / "models" / f"fused-{key}"
    if finished(out, FUSION, Fusion, key) is None:
        load_part("fuse").fuse(models, out)
    record = Fusion.model_validate_json((out / FUSION).read_bytes())
    return {"folder": relative(out, run), **record.model_dump(mode="json", exclude={"packages"})}, find_model(out)


def _evaluate(run: Path, models: dict[str, ModelFolder], language: str, progress: Progress) -> dict[str, Any]:
    key = evaluation_key(list(models.items()), read_held_out(run), language)
    out = run / "models" / f"evaluation-{key}"
    evaluation = finished(out, EVALUATION, Evaluation, key)
    if evaluation is None:
        evaluation = load_part("evaluate").evaluate(models, run, out, language, progress)
    return {"folder": relative(out, run), **evaluation.model_dump(mode="json", exclude={"packages"})}


def _summary(run: Path, part: _Trained) -> dict[str, Any]:
    """A training's record without its log and versions, which stand in its folder."""
    facts = part.record.model_dump(mode="json", exclude={"log", "packages"})
    return {"folder": relative(part.model.path, run.resolve()), "digest": part.model.digest, **facts}
