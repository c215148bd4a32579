"""The part of training that the methods share: device, arguments, the loop, saving."""

import gc
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from fucina.factory.errors import InputError, RunError
from fucina.factory.progress import Advance, Progress
from fucina.train.load import fit_to_length, load_model, load_tokenizer, require_finite, require_float32
from fucina.train.options import TrainingOptions
from fucina.train.record import Job, TrainedModel, versions, write_record
from fucina.train.rows import COLUMNS
from fucina.train.windows import whole_windows

# Below this, two threads spend more time waiting for each other than computing: 110 KTO updates of a model with
# 650,000 weights took 9 s with one thread and 292 s with two on a busy machine with two cores.
_ONE_THREAD_BELOW = 20_000_000


def device_name() -> str:
    """Where training runs, and in what arithmetic."""
    if not torch.cuda.is_available():
        return "cpu, fp32"
    return f"{torch.cuda.get_device_name()}, {'bf16 autocast over fp32' if torch.cuda.is_bf16_supported() else 'fp32'}"


@contextmanager
def fitting_threads(parameters: int) -> Generator[None]:
    """One CPU thread for a model of few parameters, PyTorch's own choice for others."""
    before = torch.get_num_threads()
    if not torch.cuda.is_available() and parameters < _ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trainer_arguments(options: TrainingOptions, folder: Path) -> dict[str, Any]:
    """Arguments of every TRL config. Nothing is left to a default that TRL or transformers might change.

    Raises:
        RunError: several GPUs are visible to this one process, which TRL does not train on.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() > 1:
        raise RunError(f"{torch.cuda.device_count()} GPUs are visible", "choose one: CUDA_VISIBLE_DEVICES=0")
    return {
        "output_dir": str(folder),
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "per_device_train_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "warmup_steps": options.warmup_ratio,  # transformers 5 takes a ratio here
        "lr_scheduler_type": options.scheduler,
        "optim": "adamw_torch",
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "max_length": options.max_length,
        "gradient_checkpointing": options.gradient_checkpointing,
        "seed": options.seed,
        "data_seed": options.seed,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "fp16": False,
        "dataloader_pin_memory": on_gpu,
        "dataloader_drop_last": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # the filter would hide a loss that is not finite
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def adapter(options: TrainingOptions) -> LoraConfig | None:
    """PEFT's configuration, or None where all weights are trained."""
    if options.lora is None:
        return None
    lora = options.lora
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target,
        bias="none",
        task_type="CAUSAL_LM",
    )


def planned_steps(rows: int, options: TrainingOptions) -> int:
    """Updates a training of `rows` rows makes."""
    if options.max_steps is not None:
        return options.max_steps
    batches = math.ceil(rows / options.batch_size)
    return math.ceil(options.epochs * max(math.ceil(batches / options.gradient_accumulation), 1))


class _Watch(TrainerCallback):  # type: ignore[misc] # transformers is untyped
    """Advances the progress, and stops a training whose loss is no longer a number."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        del args, control, kwargs
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise RunError(f"the loss is {(logs or {})['loss']} at update {state.global_step}", "lower learning_rate")


@dataclass(frozen=True)
class Start:
    """A job ready for its trainer: weights and tokenizer loaded, rows that fit, settings as they will be used."""

    job: Job
    model: Any
    tokenizer: Any
    rows: pl.DataFrame
    notes: list[str]


def start(job: Job, frame: pl.DataFrame, window: int = 1) -> Start:
    """Load the base, hold `max_length` to its context, and leave out rows of `frame` whose prompt alone fills it.

    A row that is left out takes its window with it: `window` rows that must stay together, see windows.py.

    Raises:
        InputError: the base cannot be loaded or has no chat template, or no row fits.
    """
    if torch.cuda.is_available():
        gc.collect()  # cycles in the last trainer still hold its models
        torch.cuda.empty_cache()
    tokenizer = load_tokenizer(job.base.path)
    model = load_model(job.base.path)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or job.options.max_length
    options = job.options.model_copy(update={"max_length": min(context, job.options.max_length)})
    answers = [name for name in COLUMNS[job.method] if name not in {"prompt", "label"}]
    fit = fit_to_length(tokenizer, frame, answers, options.max_length)
    rows = frame.filter(pl.Series(whole_windows(fit.fits, window), dtype=pl.Boolean))
    if rows.is_empty():
        raise InputError(f"{job.rows.file}: every prompt fills max_length={options.max_length}", "raise max_length")
    notes, with_them = fit.notes, frame.height - rows.height - fit.fits.count(False)
    if with_them:
        notes = [*notes, f"{with_them} more rows left out with them: a batch of {window} must stay together"]
    return Start(replace(job, options=options), model, tokenizer, rows, notes)


def reference(job: Job) -> Any:
    """The frozen model that DPO and KTO compare with: the base, loaded once more; None with LoRA.

    With LoRA the trainer switches the adapters off instead. Left to itself, TRL loads the reference from the path
    noted in the model's config, which need not be the weights in memory.
    """
    if job.options.lora is not None:
        return None
    model = load_model(job.base.path)
    model.requires_grad_(requires_grad=False)
    return model.eval()


def run(trainer: Any, ready: Start, folder: Path, progress: Progress) -> TrainedModel:
    """Train, merge adapters, save weights, tokenizer and record in `folder`.

    Raises:
        RunError: the loss or the weights stopped being finite.
    """
    job, rows = ready.job, ready.rows.height
    if len(trainer.train_dataset) != rows:
        raise RunError(f"TRL kept {len(trainer.train_dataset)} of {rows} rows that fit: this is a fault of Fucina's")
    trainer.remove_callback(PrinterCallback)
    with progress.task(f"train {job.out.name}", planned_steps(rows, job.options), unit="updates") as advance:
        trainer.add_callback(_Watch(advance))
        began = time.perf_counter()
        with fitting_threads(ready.model.num_parameters()):
            trainer.train()
        seconds = time.perf_counter() - began
    model = trainer.accelerator.unwrap_model(trainer.model)
    if job.options.lora is not None:
        model = model.merge_and_unload()
    require_float32(model)
    require_finite(model)
    save(model, ready.tokenizer, folder)
    record = _record(ready, trainer.state, seconds)
    write_record(folder, record, job.base.hub_id)
    return record


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights as safetensors and the tokenizer, as others will load them."""
    model.config.use_cache = True  # the trainers switch it off for themselves; saved so, generation would crawl
    model.save_pretrained(folder)
    for loading_only in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(loading_only, None)
    tokenizer.save_pretrained(folder)


def _record(ready: Start, state: Any, seconds: float) -> TrainedModel:
    job = ready.job
    entries = [entry for entry in state.log_history if "loss" in entry]
    # JSON has no NaN, which some metrics are where a batch gives them nothing to count.
    log = [{name: float(value) for name, value in entry.items() if math.isfinite(value)} for entry in entries]
    last = log[-max(len(log) // 10, 1) :]
    return TrainedModel(
        method=job.method,
        key=job.key,
        base=job.base.name,
        base_digest=job.base.digest,
        data=job.rows.name,
        data_digest=job.rows.digest,
        rows=job.rows.frame.height,
        rows_trained=ready.rows.height,
        options=job.options.model_dump(mode="json"),
        device=device_name(),
        steps=state.global_step,
        tokens=int(log[-1]["num_tokens"]) if "num_tokens" in log[-1] else None,
        seconds=round(seconds, 3),
        final_loss=sum(entry["loss"] for entry in last) / len(last),
        log=log,
        notes=ready.notes,
        packages=versions(),
    )
