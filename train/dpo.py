"""Direct Preference Optimization: prefer the chosen answer to the rejected one (arXiv 2305.18290)."""

from pathlib import Path

from trl import DPOConfig, DPOTrainer

from fucina.factory.progress import SILENT, Progress
from fucina.train.load import dataset_of
from fucina.train.models import ModelFolder
from fucina.train.options import DpoOptions
from fucina.train.quiet import quiet
from fucina.train.record import RECORD, TrainedModel, finished, open_job, whole_folder
from fucina.train.running import adapter, reference, run, start, trainer_arguments


def train(
    model: ModelFolder | Path | str,
    data: Path,
    out: Path,
    options: DpoOptions | None = None,
    progress: Progress = SILENT,
) -> TrainedModel:
    """Train `model` on `prompt`, `chosen` and `rejected` against a frozen copy of itself; save it in `out`.

    Rows are shuffled by the seed. A finished `out` of the same work is not trained again.

    Raises:
        InputError: the model or the rows are missing or unusable.
        RunError: `out` holds something else, or the loss stopped being finite.
    """
    settings = options or DpoOptions()
    job = open_job("dpo", model, data, out, settings)
    done = finished(job.out, RECORD, TrainedModel, job.key)
    if done is not None:
        return done
    with quiet(), whole_folder(out) as folder:
        ready = start(job, job.rows.frame)
        config = DPOConfig(
            **trainer_arguments(ready.job.options, folder),
            train_sampling_strategy="random",
            loss_type=["sigmoid"],
            beta=settings.beta,
            disable_dropout=True,
            truncation_mode="keep_start",
        )
        trainer = DPOTrainer(
            model=ready.model,
            ref_model=reference(ready.job),
            args=config,
            train_dataset=dataset_of(ready.rows),
            processing_class=ready.tokenizer,
            peft_config=adapter(ready.job.options),
        )
        return run(trainer, ready, folder, progress)
