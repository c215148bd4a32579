import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from fucina.factory.errors import InputError, RunError
from fucina.factory.frames import write_frame
from fucina.schemas.evaluation import Evaluation
from fucina.train.cli import evaluate
from fucina.train.options import DpoOptions, SftOptions
from fucina.train.parts import load_part
from fucina.train.rows import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(base, run, tmp_path_factory) -> dict[str, str]:
    """The base, a model that learnt the answers' style, and one that learnt the pairs."""
    folder = tmp_path_factory.mktemp("trained")
    sft = SftOptions(learning_rate=1e-3, epochs=4)
    dpo = DpoOptions(learning_rate=1e-3, epochs=3)
    load_part("sft").train(base, run / "datasets" / "sft", folder / "sft", sft)
    load_part("dpo").train(base, run / "datasets" / "dpo", folder / "dpo", dpo)
    return {"base": str(base), "sft": str(folder / "sft"), "dpo": str(folder / "dpo")}


@pytest.fixture(scope="module")
def evaluation(trained, run, tmp_path_factory) -> tuple[Evaluation, Path]:
    out = tmp_path_factory.mktemp("evaluations") / "first"
    return evaluate(trained, run, out), out


def by_hand(model: str, row: dict) -> tuple[float, float]:
    """Mean and total NLL of the answer's tokens, its end-of-turn token left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    head = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logprobs = network(torch.tensor([head + answer])).logits[0].log_softmax(-1)
    losses = [-float(logprobs[len(head) + index - 1, token]) for index, token in enumerate(answer)]
    return sum(losses) / len(losses), sum(losses)


def test_nll_is_that_of_the_answers_tokens(evaluation, trained, run):
    found, _ = evaluation
    rows = pl.read_parquet(run / "datasets/sft/test.parquet").to_dicts()
    hand = [by_hand(trained["sft"], {**row, "answer": row["completion"][0]["content"]})[0] for row in rows]
    [model] = [model for model in found.models if model.name == "sft"]
    assert model.nll.mean == pytest.approx(sum(hand) / len(hand), rel=1e-4)
    assert model.nll.n == 8


def test_preference_is_that_of_lm_evals_rule(evaluation, trained, run):
    """acc compares totals, acc_norm totals per character."""
    found, _ = evaluation
    raw = norm = 0
    rows = pl.read_parquet(run / "datasets/dpo/test.parquet").to_dicts()
    for row in rows:
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        good = -by_hand(trained["dpo"], {**row, "answer": chosen})[1]
        bad = -by_hand(trained["dpo"], {**row, "answer": rejected})[1]
        raw += good > bad
        norm += good / len(chosen) > bad / len(rejected)
    [model] = [model for model in found.models if model.name == "dpo"]
    assert model.preference_raw.mean == pytest.approx(raw / len(rows))
    assert model.preference.mean == pytest.approx(norm / len(rows))


def test_training_shows_and_is_claimed_only_against_the_base(evaluation):
    found, _ = evaluation
    base, sft, dpo = found.models
    assert (found.base, base.nll_against_base, base.preference_against_base) == ("base", None, None)
    assert sft.nll_against_base.outcome == "better"
    assert sft.nll_against_base.high < 0
    assert dpo.preference.mean >= base.preference.mean
    assert dpo.preference_against_base.outcome in {"better", "within noise"}


def test_what_is_written(evaluation):
    found, out = evaluation
    assert Evaluation.model_validate_json((out / "evaluation.json").read_bytes()) == found
    lines = (out / "evaluation.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["base", "sft", "dpo"]
    assert "8 / 8" in lines[3]
    assert "better" in lines[3]


def test_the_task_runs_by_lm_evals_own_command(evaluation, trained):
    """As its first line says: anybody can run it again, and gets our figure."""
    found, out = evaluation
    [task] = (out / "tasks").glob("*/*.yaml")
    script = (
        "import sys; from lm_eval import simple_evaluate; from lm_eval.tasks import TaskManager\n"
        "found = simple_evaluate(model='hf', model_args={'pretrained': sys.argv[1], 'device': 'cpu'}, "
        "tasks=[sys.argv[2]], task_manager=TaskManager(include_path='.', include_defaults=False), bootstrap_iters=0)\n"
        "print('FOUND', found['results'][sys.argv[2]]['acc_norm,none'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, trained["dpo"], task.stem],
        cwd=task.parent, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert float(line.split()[1]) == pytest.approx(found.models[2].preference.mean)


def test_the_order_of_the_choices_is_mixed_and_fixed(run):
    preference = load_part("evaluate").pairs_of
    frame = read_rows(run / "datasets" / "dpo", "dpo").frame
    pairs = preference(frame)
    assert {pair.gold for pair in pairs} == {0, 1}
    for pair, row in zip(pairs, frame.to_dicts(), strict=True):
        assert pair.choices[pair.gold] == row["chosen"][0]["content"]
        assert pair.choices[1 - pair.gold] == row["rejected"][0]["content"]
    assert preference(frame.reverse()) == pairs[::-1]


def test_a_finished_evaluation_is_not_made_again(evaluation, trained, run):
    found, out = evaluation
    written = (out / "evaluation.json").stat().st_mtime_ns
    assert evaluate(trained, run, out) == found
    assert (out / "evaluation.json").stat().st_mtime_ns == written
    with pytest.raises(RunError, match="another key"):
        evaluate({"base": trained["base"]}, run, out)


def test_without_pairs_there_is_no_preference(base, run, tmp_path):
    rows = pl.read_parquet(run / "datasets/sft/test.parquet")
    long = {**rows.row(0, named=True), "prompt": [{"role": "user", "content": "Perché? " * 400}]}
    write_frame(pl.DataFrame([*rows.to_dicts(), long], schema=rows.schema), tmp_path / "datasets/sft/test.parquet")
    write_frame(pl.read_parquet(run / "datasets/dpo/test.parquet").clear(), tmp_path / "datasets/dpo/test.parquet")
    found = evaluate({"base": str(base)}, tmp_path, tmp_path / "out")
    [model] = found.models
    assert model.preference is None
    assert model.nll.n == 8
    assert found.notes == [
        "the dpo set has no held-out rows",
        "1 of 9 sft rows left out: longer than the context, or more than one turn",
    ]
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["models"][0]["preference"] is None


def test_nothing_to_evaluate_on(base, run, tmp_path):
    (tmp_path / "datasets").mkdir()
    with pytest.raises(InputError, match="no sft set in datasets/; no dpo set"):
        evaluate({"base": str(base)}, tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no models"):
        evaluate({}, run, tmp_path / "out")


def test_another_tokenizer_is_refused(base, run, tmp_path):
    from transformers import Qwen2Tokenizer

    odd = tmp_path / "odd"
    odd.mkdir()
    for file in base.iterdir():
        (odd / file.name).write_bytes(file.read_bytes())
    other = Qwen2Tokenizer().train_new_from_iterator(["tutto diverso"], vocab_size=300, show_progress=False)
    other.chat_template = "{{ messages }}"
    other.save_pretrained(odd)
    with pytest.raises(InputError, match="base and odd have different tokenizers"):
        evaluate({"base": str(base), "odd": str(odd)}, run, tmp_path / "out")
