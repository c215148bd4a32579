"""A local lm-eval task made of held-out preference pairs: does the model find the chosen answer likelier?

    tasks/<digest>/
        fucina_preference_it.yaml    multiple choice between the two answers, metrics acc and acc_norm
        fucina_preference_it.jsonl   rendered prompt, the two answers in an order drawn from the row's hash, the index

The prompt is rendered with the model's own chat template, histories and system turns included, which lm-eval's own
rendering of `doc_to_text` would lose. Models that share a template share the task.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import yaml
from lm_eval import evaluate as run_tasks
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from fucina.factory.errors import RunError
from fucina.factory.frames import jsonl_bytes, write_atomic
from fucina.factory.hashing import content_id, order_key, rows_digest
from fucina.train.load import token_ids

METRICS = ("acc", "acc_norm")
_BATCH = 8


@dataclass(frozen=True)
class Pair:
    """A held-out pair: `choices[gold]` is the chosen answer."""

    pair_id: str
    prompt: list[dict[str, str]]
    choices: tuple[str, str]
    gold: int


def pairs_of(frame: pl.DataFrame) -> list[Pair]:
    """Pairs whose answers are one turn each, in file order; the two answers change places by the row's hash."""
    pairs: list[Pair] = []
    for row in frame.iter_rows(named=True):
        if len(row["chosen"]) != 1 or len(row["rejected"]) != 1:
            continue
        pair_id = content_id(row)
        answers = (row["chosen"][0]["content"], row["rejected"][0]["content"])
        swapped = int(order_key(0, pair_id)[0], 16) % 2 == 1
        choices = (answers[1], answers[0]) if swapped else answers
        pairs.append(Pair(pair_id, row["prompt"], choices, int(swapped)))
    return pairs


def fits(tokenizer: Any, pairs: list[Pair], context: int) -> list[bool]:
    """Which pairs the model can read whole. lm-eval would cut their prompts from the left."""
    lengths = [0] * len(pairs)
    for side in (0, 1):
        whole = [[*pair.prompt, {"role": "assistant", "content": pair.choices[side]}] for pair in pairs]
        for index, ids in enumerate(token_ids(tokenizer, whole, answer_next=False)):
            lengths[index] = max(lengths[index], len(ids))
    return [length <= context for length in lengths]


def write_task(tokenizer: Any, pairs: list[Pair], folder: Path, language: str) -> Path:
    """Write the task for this tokenizer's chat template; return its YAML file."""
    prompts = [tokenizer.apply_chat_template(pair.prompt, tokenize=False, add_generation_prompt=True) for pair in pairs]
    rows = [
        {"pair_id": pair.pair_id, "prompt": prompt, "choices": list(pair.choices), "gold": pair.gold}
        for pair, prompt in zip(pairs, prompts, strict=True)
    ]
    name = f"fucina_preference_{language}"
    home = folder / rows_digest(rows)
    write_atomic(home / f"{name}.jsonl", jsonl_bytes(rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS],
        "metadata": {"version": 1},
    }
    head = f"# In this folder: lm_eval run --include_path . --tasks {name} --model hf --model_args pretrained=MODEL\n"
    write_atomic(home / f"{name}.yaml", (head + yaml.safe_dump(task, sort_keys=False)).encode())
    return home / f"{name}.yaml"


def preferences(model: Any, tokenizer: Any, task: Path) -> dict[str, list[float]]:
    """Run the task: for each metric 0 or 1 by pair, in the task's order.

    Raises:
        RunError: lm-eval gave no result for some pair.
    """
    data = task.with_suffix(".jsonl").resolve()
    config = yaml.safe_load(task.read_bytes())
    language_model = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=_BATCH)
    with TemporaryDirectory() as cache:
        # The task names its data relative to its folder, so that a run can be moved; lm-eval would look in the working
        # directory, and keep a copy in the user's home.
        config["dataset_kwargs"] = {"data_files": {"test": str(data)}, "cache_dir": cache}
        # `simple_evaluate` would also ask git and collect facts about this machine.
        tasks = TaskManager(include_defaults=False).load([config])
        result = run_tasks(lm=language_model, task_dict=tasks, bootstrap_iters=0, log_samples=True)
    samples = sorted((result or {}).get("samples", {}).get(task.stem, []), key=lambda sample: sample["doc_id"])
    wanted = len(data.read_bytes().splitlines())
    if len(samples) != wanted:
        raise RunError(f"lm-eval scored {len(samples)} of {wanted} pairs")
    return {metric: [float(sample[metric]) for sample in samples] for metric in METRICS}
