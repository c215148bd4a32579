"""Load what is trained: weights in float32, a tokenizer with a chat template, rows that fit the context."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from fucina.factory.errors import InputError, RunError

Conversation = list[dict[str, str]]


def load_model(folder: Path) -> Any:
    """A causal language model with float32 weights, the master weights of training.

    In bf16 one Adam step at the rates of preference tuning rounds to nothing: at 5e-8 it moves 0.05 % of the
    weights. On a GPU the arithmetic may be bf16 (autocast), the weights never.

    Raises:
        InputError: not a model transformers can load.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} cannot be loaded as a causal language model: {error}") from error
    require_float32(model)
    return model


def require_float32(model: Any) -> None:
    """Refuse weights of any other type.

    Raises:
        RunError: some parameter is not float32.
    """
    other = {name: weight.dtype for name, weight in model.named_parameters() if weight.dtype != torch.float32}
    if other:
        name, dtype = next(iter(other.items()))
        raise RunError(f"{len(other)} tensors are not float32, {name} is {dtype}", "train from unquantized weights")


def require_finite(model: Any) -> None:
    """Refuse weights that an update has broken: the loss of the last update was taken before it.

    Raises:
        RunError: some weight is NaN or infinite.
    """
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise RunError(f"{name} is no longer finite after the last update", "lower learning_rate")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a model.

    Raises:
        InputError: none there, or it has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no tokenizer: {error}", "copy the tokenizer's files beside the model"
        ) from error
    if not tokenizer.chat_template:
        raise InputError(
            f"{folder}: the tokenizer has no chat template, so conversations cannot be rendered",
            "use the model's -Instruct version, or put a chat_template.jinja (for example ChatML) into that folder",
        )
    return tokenizer


def token_ids(tokenizer: Any, conversations: Sequence[Conversation], *, answer_next: bool) -> list[list[int]]:
    """Conversations as the trainers tokenize them; `answer_next` adds the head of the assistant's turn."""
    texts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=answer_next)
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


@dataclass(frozen=True)
class Fit:
    """How rows lie in `max_length` tokens. Index by row."""

    fits: list[bool]
    notes: list[str]


def fit_to_length(tokenizer: Any, frame: pl.DataFrame, answers: Sequence[str], max_length: int) -> Fit:
    """Find the rows whose prompt alone fills `max_length`, which TRL drops in silence, and say what is cut.

    The notes also tell of a template that renders prompts another way before an answer, and of answers that do
    not end with the end-of-turn token, after which the model would never learn to stop.
    """
    prompts = frame["prompt"].to_list()
    heads = token_ids(tokenizer, prompts, answer_next=True)
    fits = [len(head) < max_length for head in heads]
    lengths = [0] * len(prompts)
    broken = endless = 0
    for name in answers:
        whole = [prompt + answer for prompt, answer in zip(prompts, frame[name].to_list(), strict=True)]
        for index, ids in enumerate(token_ids(tokenizer, whole, answer_next=False)):
            lengths[index] = max(lengths[index], len(ids))
            broken += ids[: len(heads[index])] != heads[index]
            endless += tokenizer.eos_token_id not in ids[len(heads[index]) :]
    notes: list[str] = []
    if not all(fits):
        notes.append(f"{fits.count(False)} of {len(fits)} rows left out: the prompt fills max_length={max_length}")
    cut = sum(length > max_length for length, fitting in zip(lengths, fits, strict=True) if fitting)
    if cut:
        notes.append(f"{cut} of {len(fits)} rows cut at max_length={max_length}; the longest has {max(lengths)} tokens")
    if broken:
        notes.append(f"the chat template renders {broken} prompts another way when an answer follows")
    if endless:
        notes.append(f"{endless} answers lack the end-of-turn token {tokenizer.eos_token!r}: see the chat template")
    return Fit(fits, notes)


def dataset_of(frame: pl.DataFrame) -> Dataset:
    """The frame as a data set in memory, without a cache on disk."""
    return Dataset.from_polars(frame)
