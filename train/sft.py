"""Supervised fine-tuning: learn the selected answers (P15)."""

from pathlib import Path

from trl import SFTConfig, SFTTrainer

from fucina.factory.progress import SILENT, Progress
from fucina.train.load import dataset_of
from fucina.train.models import ModelFolder
from fucina.train.options import SftOptions
from fucina.train.quiet import quiet
from fucina.train.record import RECORD, TrainedModel, finished, open_job, whole_folder
from fucina.train.running import adapter, run, start, trainer_arguments


def train(
    model: ModelFolder | Path | str,
    data: Path,
    out: Path,
    options: SftOptions | None = None,
    progress: Progress = SILENT,
) -> TrainedModel:
    """Train `model` on `prompt` and `completion`, with the loss on the completions alone; save it in `out`.

    Rows are shuffled by the seed. A finished `out` of the same work is not trained again.

    Raises:
        InputError: the model or the rows are missing or unusable.
        RunError: `out` holds something else, or the loss stopped being finite.
    """
    job = open_job("sft", model, data, out, options or SftOptions())
    done = finished(job.out, RECORD, TrainedModel, job.key)
    if done is not None:
        return done
    with quiet(), whole_folder(out) as folder:
        ready = start(job, job.rows.frame)
        config = SFTConfig(
            **trainer_arguments(ready.job.options, folder),
            train_sampling_strategy="random",
            loss_type="nll",
            completion_only_loss=True,
            assistant_only_loss=False,
            packing=False,
            truncation_mode="keep_start",
        )
        trainer = SFTTrainer(
            model=ready.model,
            args=config,
            train_dataset=dataset_of(ready.rows),
            processing_class=ready.tokenizer,
            peft_config=adapter(ready.job.options),
        )
        return run(trainer, ready, folder, progress)
