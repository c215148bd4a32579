"""Weight fusion: the weighted mean of models of one architecture (P18; model soups, arXiv 2203.05482).

mergekit's `linear` adds in float32 and divides once by the sum of the weights: with equal weights that is the
element-wise mean to the bit, and the mean of two equal models is that model.
"""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from fucina.factory.errors import InputError, RecipeError, RunError
from fucina.factory.frames import write_atomic
from fucina.train.load import load_tokenizer
from fucina.train.models import ModelFolder, find_model, tensors
from fucina.train.quiet import quiet
from fucina.train.record import (
    FUSION,
    Fusion,
    finished,
    fusion_key,
    versions,
    whole_folder,
    write_card,
    write_json,
)


def fuse(models: Sequence[ModelFolder | Path | str], out: Path, weights: Sequence[float] | None = None) -> Path:
    """Write the weighted mean of `models` to `out`, with the mergekit configuration beside it. Equal weights if None.

    Raises:
        RecipeError: fewer than two models, or weights that do not fit.
        InputError: the models differ in tensors, shapes, types or tokenizer, or one cannot be read.
        RunError: `out` holds something else, or the fusion does not hold the tensors its models hold.
    """
    found = [find_model(model) for model in models]
    given = _checked(found, weights)
    key = fusion_key(found, given)
    if finished(out, FUSION, Fusion, key) is not None:
        return out
    with quiet(), whole_folder(out) as folder:
        _require_alike(found)
        began = time.perf_counter()
        config = _configuration([str(model.path) for model in found], given)
        # mergekit asks the Hub about relative paths when it writes its own card.
        options = MergeOptions(copy_tokenizer=True, write_model_card=False, quiet=True)
        run_merge(MergeConfiguration.model_validate(config), str(folder), options=options)
        record = Fusion(
            key=key,
            method="linear",
            models=[model.name for model in found],
            digests=[model.digest for model in found],
            weights=given,
            tensors=_require_whole(folder, found[0]),
            seconds=round(time.perf_counter() - began, 3),
            packages=versions(("fucina", "mergekit", "torch")),
        )
        _describe(folder, out, record, found)
    return out


def _checked(models: Sequence[ModelFolder], weights: Sequence[float] | None) -> list[float]:
    """One finite weight for each model, not divided by their sum: mergekit does that."""
    given = [1.0] * len(models) if weights is None else list(weights)
    if len({model.path for model in models}) < max(len(models), 2):
        raise RecipeError("a fusion needs two different models or more", "to count one more, raise its weight")
    if len(given) != len(models):
        raise RecipeError(f"{len(given)} weights for {len(models)} models", "give one weight for each model")
    if not all(math.isfinite(weight) for weight in given) or sum(given) <= 0:
        raise RecipeError(f"weights {given} have no positive sum", "for example 0.5 0.5")
    return given


def _require_alike(models: Sequence[ModelFolder]) -> None:
    """Same tensors and same tokens, else the mean means nothing."""
    first, *others = models
    expected, tokenizer = tensors(first.path), load_tokenizer(first.path)
    for other in others:
        held = tensors(other.path)
        if held != expected:
            name = min(name for name in held.keys() | expected.keys() if held.get(name) != expected.get(name))
            raise InputError(
                f"{first.name} and {other.name} differ in {name}: {expected.get(name)} and {held.get(name)}",
                "only models trained from one base can be averaged",
            )
        theirs = load_tokenizer(other.path)
        if theirs.get_vocab() != tokenizer.get_vocab() or theirs.chat_template != tokenizer.chat_template:
            raise InputError(f"{first.name} and {other.name} have different tokenizers or chat templates")


def _require_whole(folder: Path, model: ModelFolder) -> int:
    """The fusion holds what its models hold: nothing lost, and tied embeddings not written out a second time."""
    expected = {name: ("F32", shape) for name, (_, shape) in tensors(model.path).items()}
    if tensors(folder) != expected:
        raise RunError("mergekit wrote other tensors than its models hold")
    return len(expected)


def _configuration(paths: Sequence[str], weights: Sequence[float]) -> dict[str, object]:
    models = [{"model": path, "parameters": {"weight": weight}} for path, weight in zip(paths, weights, strict=True)]
    return {"merge_method": "linear", "dtype": "float32", "parameters": {"normalize": True}, "models": models}


def _describe(folder: Path, out: Path, record: Fusion, models: Sequence[ModelFolder]) -> None:
    """Record, card, and the configuration with paths from the fused folder, so that a run can be moved."""
    write_json(folder / FUSION, record.model_dump(mode="json"))
    paths = [model.hub_id or os.path.relpath(model.path, out.resolve()) for model in models]
    text = yaml.safe_dump(_configuration(paths, record.weights), sort_keys=False)
    head = "# Run from this folder: mergekit-yaml mergekit.yaml OUT --no-write-model-card\n"
    write_atomic(folder / "mergekit.yaml", (head + text).encode())
    facts = {"Method": f"linear mean with mergekit {record.packages.get('mergekit', '')}", "Key": f"`{record.key}`"}
    for name, digest, weight in zip(record.models, record.digests, record.weights, strict=True):
        facts[f"`{name}`"] = f"weight {weight:g}, digest `{digest}`"
    write_card(folder, "merge", facts, {}, [], None)
