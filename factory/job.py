"""The main job: a recipe from its prompts to its data sets, models and report."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fucina.factory.datasets import build_formats, write_dataset
from fucina.factory.engines.base import Engine, EngineBook, LocalModel
from fucina.factory.errors import RecipeError
from fucina.factory.format import Format
from fucina.factory.progress import SILENT, Progress
from fucina.factory.recipes import build_stages
from fucina.factory.report.card import write_card
from fucina.factory.report.page import write_report
from fucina.factory.rundir import RunDirectory
from fucina.factory.runner import Options, Planned, Runner, final_rows, plan
from fucina.factory.stage import Context
from fucina.schemas.manifest import Manifest
from fucina.schemas.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """A recipe whose every part was built and checked, ready to run in a directory."""

    recipe: Recipe
    run: RunDirectory
    engines: EngineBook
    planned: list[Planned]
    formats: list[Format]


def prepare(recipe: Recipe, where: str, out: Path, to: str | None = None) -> Job:
    """Build and check everything a recipe names, and address every stage. Writes nothing.

    Raises:
        RecipeError: an unknown setting, stage, engine or format, or a stage name in `to` that is not in the recipe.
    """
    stages = build_stages(recipe, where)
    if to is not None and to not in {stage.name for stage in stages}:
        raise RecipeError(
            f"--to {to}: the recipe has no such stage", f"it has {', '.join(stage.name for stage in stages)}"
        )
    engines = EngineBook(recipe.engines)
    run = RunDirectory(out)
    return Job(recipe, run, engines, plan(recipe, stages, engines, run), build_formats(recipe))


def execute(job: Job, options: Options, progress: Progress = SILENT) -> Manifest:
    """Run a prepared job; what an earlier run finished is used again.

    With `options.to` it ends after that stage. The manifest is rewritten as parts are done, the report last.
    """
    job.run.claim(job.recipe)
    try:
        manifest = Runner(job.recipe, job.run, job.engines, options, progress).run(job.planned)
        if options.to is None:
            manifest = _write_datasets(job, manifest)
            manifest = _train(job, manifest, progress)
            for record in manifest.datasets:
                write_card(job.run.path, record)
        write_report(job.run.path)
    finally:
        job.engines.close()
        job.run.release()
    return manifest


def _write_datasets(job: Job, manifest: Manifest) -> Manifest:
    rows = final_rows(job.run, manifest)
    ctx = Context(job.recipe.language, job.recipe.seed, job.engines)
    records = [write_dataset(job.run, maker, rows, ctx) for maker in job.formats]
    manifest = manifest.model_copy(update={"datasets": records})
    job.run.write_manifest(manifest)
    return manifest


def _train(job: Job, manifest: Manifest, progress: Progress) -> Manifest:
    """Train, fuse and evaluate, if the recipe says so. `train/` is loaded by name: the factory does not know it."""
    training = job.recipe.train
    if training is None:
        return manifest
    base = base_model(job.engines, training.base)
    job.engines.close()  # their memory is the trainer's now
    chain = importlib.import_module("fucina.train.chain")
    result: Mapping[str, Any] = chain.run_training(
        job.run.path, training, base, job.recipe.language, job.recipe.seed, progress
    )
    manifest = manifest.model_copy(update={"training": dict(result)})
    job.run.write_manifest(manifest)
    return manifest


def base_model(engines: EngineBook, name: str) -> Path:
    """The model folder behind an engine's role, or the folder or Hub id itself.

    Raises:
        RecipeError: the role's engine has no model on this machine.
    """
    return local_model("train.base", engines.open(name)) if name in engines else Path(name)


def local_model(where: str, engine: Engine) -> Path:
    """The model folder of an engine.

    Raises:
        RecipeError: its model is not on this machine.
    """
    if not isinstance(engine, LocalModel):
        raise RecipeError(
            f"{where}: engine {engine.card().engine!r} has no model that can be trained",
            "name an engine of kind nano or transformers, or a model folder",
        )
    return engine.model_path()
