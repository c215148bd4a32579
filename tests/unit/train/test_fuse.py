import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fucina.factory.errors import InputError, RecipeError, RunError
from fucina.train.cli import fuse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(base, tmp_path_factory) -> list[Path]:
    """The base and two others of its shape."""
    from tests.tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("three")
    shutil.copytree(base, folder / "a")
    return [folder / "a", make_tiny_model(folder / "b", seed=1), make_tiny_model(folder / "c", seed=2)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_mean_of_a_model_with_itself_is_the_model_to_the_bit(models, tmp_path):
    twin = shutil.copytree(models[0], tmp_path / "twin")
    fused = fuse([str(models[0]), str(twin)], tmp_path / "fused")
    before, after = weights(models[0]), weights(fused)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_all_weight_on_one_model_is_that_model(models, tmp_path):
    fused = fuse([str(model) for model in models], tmp_path / "fused", [1, 0, 0])
    assert all(torch.equal(tensor, weights(fused)[name]) for name, tensor in weights(models[0]).items())


@pytest.mark.parametrize("shares", [None, [0.05, 0.95, 0.0], [2.0, 1.0, 1.0]])
def test_the_fusion_is_the_weighted_mean(models, tmp_path, shares, capsys):
    fused = fuse([str(model) for model in models], tmp_path / "fused", shares)
    given = shares or [1.0, 1.0, 1.0]
    parts = [weights(model) for model in models]
    for name, tensor in weights(fused).items():
        mean = sum(part[name].double() * share for part, share in zip(parts, given, strict=True)) / sum(given)
        assert (tensor.double() - mean).abs().max() < 1e-6
        assert tensor.dtype == torch.float32
    assert capsys.readouterr() == ("", "")


def test_a_fusion_loads_stays_tied_and_tells_what_it_is(models, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fused = fuse([str(model) for model in models], tmp_path / "fused")
    assert "lm_head.weight" not in weights(fused)
    model = AutoModelForCausalLM.from_pretrained(fused)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert AutoTokenizer.from_pretrained(fused).chat_template == AutoTokenizer.from_pretrained(models[0]).chat_template
    record = json.loads((fused / "fusion.json").read_text())
    assert record["models"] == ["a", "b", "c"]
    config = yaml.safe_load((fused / "mergekit.yaml").read_text())
    assert [(fused / part["model"]).resolve() for part in config["models"]] == [model.resolve() for model in models]
    assert (config["merge_method"], config["dtype"]) == ("linear", "float32")
    assert record["digests"][1] in (fused / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["fused"]


def test_a_finished_fusion_is_not_made_again(models, tmp_path):
    names = [str(model) for model in models]
    fused = fuse(names, tmp_path / "fused")
    written = (fused / "model.safetensors").stat().st_mtime_ns
    assert fuse(names, tmp_path / "fused") == fused
    assert (fused / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(RunError, match="another key"):
        fuse(names[:2], tmp_path / "fused")


@pytest.mark.parametrize("shares", [[1.0], [0.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_weights_that_make_no_mean(models, tmp_path, shares):
    with pytest.raises(RecipeError, match="weights"):
        fuse([str(model) for model in models[:2]], tmp_path / "fused", shares)


def test_one_model_is_no_fusion(models, tmp_path):
    for names in ([models[0]], [models[0], models[0]]):
        with pytest.raises(RecipeError, match="two different models"):
            fuse([str(name) for name in names], tmp_path / "fused")


def test_other_tensors_are_refused(models, tmp_path):
    odd = shutil.copytree(models[1], tmp_path / "odd")
    changed = weights(odd)
    changed["model.norm.weight"] = torch.ones(7)
    save_file(changed, odd / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"a and odd differ in model\.norm\.weight: .*\(64,\).*\(7,\)"):
        fuse([str(models[0]), str(odd)], tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


def test_another_type_is_refused(models, tmp_path):
    odd = shutil.copytree(models[1], tmp_path / "odd")
    save_file({n: t.bfloat16() for n, t in weights(odd).items()}, odd / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="F32.*BF16"):
        fuse([str(models[0]), str(odd)], tmp_path / "fused")


def test_another_tokenizer_is_refused(models, tmp_path):
    odd = shutil.copytree(models[1], tmp_path / "odd")
    (odd / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(InputError, match="different tokenizers or chat templates"):
        fuse([str(models[0]), str(odd)], tmp_path / "fused")
