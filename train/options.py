"""Training settings: one frozen class per method, every default written here and none left to TRL."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from fucina.factory.errors import RecipeError, nearest
from fucina.schemas.base import Record

Method = Literal["sft", "dpo", "kto"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup"]


class LoraOptions(Record):
    """Low-rank adapters (arXiv 2106.09685), merged into the weights before the model is saved."""

    r: int = Field(32, ge=1, description="rank")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1)
    target: str | list[str] = Field("all-linear", description="module names; `all-linear` spares embeddings and head")


class TrainingOptions(Record):
    """What the methods share. The effective batch is `batch_size` × `gradient_accumulation`."""

    learning_rate: float = Field(gt=0, description="peak rate of AdamW; with `lora` about ten times as high")
    epochs: float = Field(1.0, gt=0, description="passes over the rows; unused where `max_steps` is given")
    max_steps: int | None = Field(None, ge=1, description="stop after this many updates, whatever `epochs` says")
    batch_size: int = Field(4, ge=1, description="rows on the device at a time")
    gradient_accumulation: int = Field(1, ge=1, description="batches per update")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of the updates in which the rate rises")
    scheduler: Scheduler = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(1024, ge=8, description="tokens of prompt and answer together; longer rows are cut")
    gradient_checkpointing: bool = Field(default=False, description="less memory, about a fifth slower")
    seed: int = 17
    lora: LoraOptions | None = Field(None, description="null trains all weights; `{}` takes LoRA's defaults")


class SftOptions(TrainingOptions):
    """Supervised fine-tuning on the answers; the loss skips the prompts."""

    learning_rate: float = Field(2e-5, gt=0)
    epochs: float = Field(2.0, gt=0)


class DpoOptions(TrainingOptions):
    """Direct Preference Optimization (arXiv 2305.18290), sigmoid loss."""

    learning_rate: float = Field(1e-6, gt=0, description="usually 5e-7 to 5e-6 without LoRA")
    beta: float = Field(0.1, gt=0, description="how strongly the model is held to its reference")


class KtoOptions(TrainingOptions):
    """Kahneman-Tversky Optimization (arXiv 2402.01306)."""

    learning_rate: float = Field(1e-6, gt=0, description="usually 5e-7 to 5e-6 without LoRA")
    batch_size: int = Field(4, ge=2, description="also the window within which the KL term pairs neighbours")
    beta: float = Field(0.1, gt=0, description="how strongly the model is held to its reference")
    desirable_weight: float | None = Field(None, gt=0, description="null: balances the label counts (Eq. 8)")
    undesirable_weight: float | None = Field(None, gt=0, description="null: balances the label counts (Eq. 8)")


OPTIONS: dict[Method, type[SftOptions | DpoOptions | KtoOptions]] = {
    "sft": SftOptions,
    "dpo": DpoOptions,
    "kto": KtoOptions,
}
_OTHER_NAMES = {
    "max_seq_length": "max_length",
    "max_prompt_length": "max_length",
    "max_completion_length": "max_length",
    "cutoff_len": "max_length",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "warmup_steps": "warmup_ratio",
    "lr_scheduler_type": "scheduler",
    "lr": "learning_rate",
    "peft_config": "lora",
    "use_peft": "lora",
    "lora_r": "lora: {r: …}",
    "lora_alpha": "lora: {alpha: …}",
}


def options_for(method: Method, overrides: Mapping[str, Any], seed: int | None = None) -> TrainingOptions:
    """The method's settings with `overrides` applied; `seed` is the recipe's and yields to one in `overrides`.

    Raises:
        RecipeError: an unknown setting (the message names ours, also for names of TRL), or a wrong value.
    """
    owner = OPTIONS[method]
    for name in overrides:
        if name in _OTHER_NAMES and name not in owner.model_fields:
            raise RecipeError(f"train.{method}: no setting is called {name!r}", f"here it is `{_OTHER_NAMES[name]}`")
    given = dict(overrides) if seed is None else {"seed": seed, **overrides}
    try:
        return owner.model_validate(given)
    except ValidationError as error:
        raise RecipeError(*_explain(method, owner, error)) from error


def _explain(method: Method, owner: type[TrainingOptions], error: ValidationError) -> tuple[str, str | None]:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where = f"train.{method}.{'.'.join(path)}"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}", None
    fields = LoraOptions.model_fields if path[0] == "lora" and len(path) > 1 else owner.model_fields
    return f"{where}: no setting is called {path[-1]!r}", nearest(path[-1], fields)
