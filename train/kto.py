"""Kahneman-Tversky Optimization: learn from single answers with a thumb up or down (arXiv 2402.01306, P16, P17)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trl import KTOConfig, KTOTrainer

from fucina.factory.progress import SILENT, Progress
from fucina.train.load import dataset_of
from fucina.train.models import ModelFolder
from fucina.train.options import KtoOptions
from fucina.train.quiet import quiet
from fucina.train.record import RECORD, TrainedModel, finished, open_job, whole_folder
from fucina.train.running import adapter, reference, run, start, trainer_arguments
from fucina.train.windows import in_sound_batches


def train(
    model: ModelFolder | Path | str,
    data: Path,
    out: Path,
    options: KtoOptions | None = None,
    progress: Progress = SILENT,
) -> TrainedModel:
    """Train `model` on `prompt`, `completion` and `label` against a frozen copy of itself; save it in `out`.

    Rows are taken in the order of the file, which is part of the set: see windows.py. A finished `out` of the
    same work is not trained again.

    Raises:
        InputError: the model or the rows are missing or unusable, or the rows' order is unsound for `batch_size`.
        RunError: `out` holds something else, or the loss stopped being finite.
    """
    settings = options or KtoOptions()
    job = open_job("kto", model, data, out, settings)
    done = finished(job.out, RECORD, TrainedModel, job.key)
    if done is not None:
        return done
    frame, notes = in_sound_batches(job.rows.frame, settings.batch_size)
    with quiet(), whole_folder(out) as folder:
        ready = start(job, frame, window=settings.batch_size)
        desirable, undesirable = balanced(ready.rows["label"].to_list(), settings)
        weights = {"desirable_weight": desirable, "undesirable_weight": undesirable}
        effective = ready.job.options.model_copy(update=weights)
        ready = replace(ready, job=replace(ready.job, options=effective), notes=notes + ready.notes)
        config = KTOConfig(
            **trainer_arguments(effective, folder),
            **weights,
            train_sampling_strategy="sequential",
            loss_type="kto",
            beta=settings.beta,
            disable_dropout=True,
        )
        trainer = KTOTrainer(
            model=ready.model,
            ref_model=reference(ready.job),
            args=config,
            train_dataset=dataset_of(ready.rows),
            processing_class=ready.tokenizer,
            peft_config=adapter(effective),
        )
        return run(trainer, ready, folder, progress)


def balanced(labels: Sequence[bool], options: KtoOptions) -> tuple[float, float]:
    """Weights of desirable and undesirable rows.

    Those not given make weight × count equal on both sides, the lower end of what Eq. 8 of the paper allows (1 to
    4/3); with neither given, the rarer label's is raised.
    """
    good = sum(labels)
    bad = len(labels) - good
    desirable, undesirable = options.desirable_weight, options.undesirable_weight
    if desirable is None and undesirable is None:
        return max(1.0, bad / good), max(1.0, good / bad)
    if desirable is None:
        desirable = (undesirable or 1.0) * bad / good
    return desirable, undesirable or desirable * good / bad
