"""Real trainings of a tiny model, a few updates each."""

import json
import math
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from fucina.factory.errors import InputError, RunError
from fucina.factory.progress import Advance
from fucina.train.load import require_finite, require_float32
from fucina.train.options import OPTIONS, KtoOptions, SftOptions
from fucina.train.parts import load_part
from fucina.train.record import TrainedModel

pytestmark = pytest.mark.slow
METHODS = ["sft", "dpo", "kto"]
FAST = {"learning_rate": 1e-3, "max_steps": 3, "warmup_ratio": 0.0, "scheduler": "constant"}


def fit(method: str, base: Path, run: Path, out: Path, **settings: object) -> TrainedModel:
    data = run if run.is_file() else run / "datasets" / method
    options = OPTIONS[method].model_validate({**FAST, **settings})
    record: TrainedModel = load_part(method).train(base, data, out, options)
    return record


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


class Tally:
    """A progress that counts."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    @contextmanager
    def task(self, label: str, total: int | None, unit: str = "rows") -> Generator[Advance]:
        self.total = total

        def advance(steps: int) -> None:
            self.done += steps

        yield advance


@pytest.mark.parametrize("method", METHODS)
def test_training_leaves_a_whole_float32_model(method, base, run, tmp_path, capsys):
    out = tmp_path / "model"
    record = fit(method, base, run, out)
    before, after = weights(base), weights(out)
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert record.steps == len(record.log) == 3
    assert record.tokens is not None
    assert record.tokens > 0
    assert math.isfinite(record.final_loss)
    assert TrainedModel.model_validate_json((out / "training.json").read_bytes()) == record
    assert json.loads((out / "config.json").read_text())["use_cache"] is True
    assert "local_files_only" not in (out / "tokenizer_config.json").read_text()
    assert (out / "chat_template.jinja").read_bytes() == (base / "chat_template.jinja").read_bytes()
    card = (out / "README.md").read_text()
    assert record.base_digest in card
    assert record.data_digest in card
    assert str(tmp_path) not in card + (out / "training.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_same_training_gives_the_same_bits(method, base, run, tmp_path):
    first = fit(method, base, run, tmp_path / "first")
    second = fit(method, base, run, tmp_path / "second")
    assert (tmp_path / "first/model.safetensors").read_bytes() == (tmp_path / "second/model.safetensors").read_bytes()
    assert first.key == second.key
    fit(method, base, run, tmp_path / "other", learning_rate=2e-3)
    assert (tmp_path / "first/model.safetensors").read_bytes() != (tmp_path / "other/model.safetensors").read_bytes()


def test_a_finished_model_is_not_trained_again(base, run, tmp_path):
    out = tmp_path / "model"
    first = fit("sft", base, run, out)
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert fit("sft", base, run, out) == first
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(RunError, match="another key"):
        fit("sft", base, run, out, seed=1)


def test_the_sft_loss_is_the_mean_over_answer_tokens(base, run, tmp_path):
    """One update on all 16 rows: its loss must be the base's NLL over answers and their end, prompts left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = fit("sft", base, run, tmp_path / "model", batch_size=16, max_steps=1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    total, tokens = 0.0, 0
    for row in pl.read_parquet(run / "datasets/sft/train.parquet").iter_rows(named=True):
        head = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        for position in range(len(head), len(whole)):
            total -= float(logprobs[position - 1, whole[position]])
            tokens += 1
    assert record.log[0]["loss"] == pytest.approx(total / tokens, rel=1e-4)


def test_preference_losses_start_where_policy_and_reference_agree(base, run, tmp_path):
    assert fit("dpo", base, run, tmp_path / "dpo").log[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert fit("kto", base, run, tmp_path / "kto").log[0]["loss"] == pytest.approx(0.5, abs=1e-5)


def test_dpo_learns_the_pairs(base, run, tmp_path):
    record = fit("dpo", base, run, tmp_path / "model", max_steps=12)
    assert record.final_loss < 0.3
    assert record.log[-1]["rewards/accuracies"] == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_lora_is_merged_into_whole_weights(method, base, run, tmp_path):
    record = fit(method, base, run, tmp_path / "model", lora={"r": 4, "alpha": 8})
    before, after = weights(base), weights(tmp_path / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed
    assert all("proj" in name for name in changed)
    assert not list((tmp_path / "model").glob("adapter*"))
    assert record.options["lora"]["r"] == 4


def test_the_papers_learning_rate_moves_float32_weights(base, run, tmp_path):
    """At 5e-8, one update moves 0.05 % of bf16 weights; that is why the master weights are float32."""
    fit("sft", base, run, tmp_path / "model", learning_rate=5e-8, max_steps=1)
    before, after = weights(base), weights(tmp_path / "model")
    name = "model.layers.0.mlp.down_proj.weight"
    assert (before[name] != after[name]).float().mean() > 0.9
    assert (before[name].bfloat16() != after[name].bfloat16()).float().mean() < 0.01


def test_a_bf16_base_is_trained_in_float32(base, run, tmp_path):
    half = tmp_path / "half"
    half.mkdir()
    for file in base.iterdir():
        (half / file.name).write_bytes(file.read_bytes())
    save_file({n: t.bfloat16() for n, t in weights(base).items()}, half / "model.safetensors", {"format": "pt"})
    fit("sft", half, run, tmp_path / "model")
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "model").values())


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("sft", {"epochs": 1.5, "batch_size": 3, "gradient_accumulation": 2}),
        ("dpo", {"epochs": 1, "batch_size": 5}),
        ("kto", {"epochs": 2, "batch_size": 4, "gradient_accumulation": 3}),
    ],
)
def test_progress_counts_the_updates_it_announced(method, settings, base, run, tmp_path):
    tally = Tally()
    options = OPTIONS[method].model_validate({**FAST, "max_steps": None, **settings})
    record = load_part(method).train(base, run / "datasets" / method, tmp_path / "model", options, tally)
    assert tally.done == tally.total == record.steps


def test_kto_refuses_an_unsound_order_before_anything_is_loaded(base, run, tmp_path):
    rows = pl.read_parquet(run / "datasets/kto/train.parquet").sort("label", descending=True)
    rows.write_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="hold only `true` labels"):
        fit("kto", base, tmp_path / "train.parquet", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_kto_takes_rows_in_file_order(base, run, tmp_path):
    """Moving the second batch's rows to the end must not change the first update, and must change the second."""
    rows = pl.read_parquet(run / "datasets/kto/train.parquet")
    pl.concat([rows[:4], rows[8:], rows[4:8]]).write_parquet(tmp_path / "train.parquet")
    first = fit("kto", base, run, tmp_path / "a", max_steps=2)
    moved = fit("kto", base, tmp_path / "train.parquet", tmp_path / "b", max_steps=2)
    assert first.log[0]["logps/chosen"] == moved.log[0]["logps/chosen"]
    assert first.log[1]["logps/chosen"] != moved.log[1]["logps/chosen"]


def test_kto_balances_labels_unless_told(base, run, tmp_path):
    rows = pl.read_parquet(run / "datasets/kto/train.parquet")
    # Three windows of one false and three true rows.
    picked = pl.concat(
        [pl.concat([rows[start : start + 7 : 2], rows[start + 1 : start + 2]])[1:] for start in (0, 8, 16)]
    )
    picked.write_parquet(tmp_path / "train.parquet")
    assert picked["label"].sum() == 9
    record = fit("kto", base, tmp_path / "train.parquet", tmp_path / "a")
    assert (record.options["desirable_weight"], record.options["undesirable_weight"]) == (1.0, 3.0)
    record = fit("kto", base, tmp_path / "train.parquet", tmp_path / "b", desirable_weight=0.5)
    assert (record.options["desirable_weight"], record.options["undesirable_weight"]) == (0.5, 1.5)
    assert KtoOptions().desirable_weight is None


@pytest.mark.parametrize(("method", "left"), [("sft", 15), ("kto", 28)])
def test_a_prompt_that_fills_the_context_is_left_out_and_told(method, left, base, run, tmp_path):
    """TRL drops such rows in silence, and in KTO every later window would shift: here its window goes along."""
    rows = pl.read_parquet(run / f"datasets/{method}/train.parquet").to_dicts()
    rows[5]["prompt"] = [{"role": "user", "content": "Una domanda lunga. " * 200}]
    pl.DataFrame(rows).write_parquet(tmp_path / "train.parquet")
    record = fit(method, base, tmp_path / "train.parquet", tmp_path / "model", max_steps=None, epochs=1)
    assert record.options["max_length"] == 512  # the tiny model's context
    assert (record.rows, record.rows_trained) == (len(rows), left)
    told = [f"1 of {len(rows)} rows left out: the prompt fills max_length=512"]
    if method == "kto":
        told.append("3 more rows left out with them: a batch of 4 must stay together")
    assert record.notes == told


def test_cut_rows_are_told(base, run, tmp_path):
    record = fit("sft", base, run, tmp_path / "model", max_length=48)
    left, cut = record.notes
    assert "rows left out: the prompt fills max_length=48" in left
    assert "rows cut at max_length=48; the longest has" in cut
    assert record.rows_trained < record.rows == 16
    with pytest.raises(InputError, match="every prompt fills max_length=8"):
        fit("sft", base, run, tmp_path / "none", max_length=8)


def test_a_template_without_end_of_turn_is_told(base, run, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for file in base.iterdir():
        (odd / file.name).write_bytes(file.read_bytes())
    (odd / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert any("lack the end-of-turn token '<|im_end|>'" in note for note in fit("sft", odd, run, tmp_path / "m").notes)


def test_a_model_without_chat_template_is_refused(base, run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in base.iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="no chat template") as caught:
        fit("sft", bare, run, tmp_path / "model")
    assert str(bare) in caught.value.message
    assert "chat_template.jinja" in (caught.value.fix or "")


def test_a_diverging_training_stops_and_leaves_nothing(base, run, tmp_path):
    with pytest.raises(RunError, match="the loss is nan at update"):
        fit("sft", base, run, tmp_path / "model", learning_rate=1e30, max_steps=20)
    assert list(tmp_path.iterdir()) == []


def test_broken_weights_are_not_saved():
    layer = torch.nn.Linear(2, 2)
    require_finite(layer)
    layer.weight.data[1, 0] = math.inf
    with pytest.raises(RunError, match="weight is no longer finite"):
        require_finite(layer)
    with pytest.raises(RunError, match="not float32, weight is torch.bfloat16"):
        require_float32(layer.bfloat16())


def test_threads_are_given_back(base, run, tmp_path):
    before = torch.get_num_threads()
    fit("sft", base, run, tmp_path / "model")
    assert torch.get_num_threads() == before
    assert SftOptions().max_steps is None
