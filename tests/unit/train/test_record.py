import json
import logging
import warnings

import pytest
from tqdm import tqdm

from fucina.factory.errors import InputError, RecipeError, RunError
from fucina.train.cli import train
from fucina.train.models import find_model, tensors
from fucina.train.options import SftOptions
from fucina.train.quiet import quiet
from fucina.train.record import FUSION, Fusion, finished, open_job, whole_folder

DONE = {"key": "k", "method": "linear", "models": [], "digests": [], "weights": [], "tensors": 1, "seconds": 1,
        "packages": {}}  # fmt: skip


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "model"
    with pytest.raises(ZeroDivisionError), whole_folder(out) as folder:
        (folder / "half").write_text("x")
        _ = 1 / 0
    assert list((tmp_path / "deep").iterdir()) == []
    with whole_folder(out) as folder:
        (folder / "all").write_text("x")
        assert not out.exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "stale").write_text("x")
    with whole_folder(tmp_path / "model") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_finished_work_is_known_by_its_key(tmp_path):
    assert finished(tmp_path / "none", FUSION, Fusion, "k") is None
    assert finished(tmp_path, FUSION, Fusion, "k") is None
    (tmp_path / FUSION).write_text(json.dumps(DONE))
    found = finished(tmp_path, FUSION, Fusion, "k")
    assert found is not None
    assert found.tensors == 1
    with pytest.raises(RunError, match="another key"):
        finished(tmp_path, FUSION, Fusion, "other")


@pytest.mark.parametrize("content", ["{", "[]", '{"key": "k"}', "{}"])
def test_foreign_folders_are_not_overwritten(tmp_path, content):
    (tmp_path / FUSION).write_text(content)
    with pytest.raises(RunError, match="holds no fusion.json of ours"):
        finished(tmp_path, FUSION, Fusion, "k")


def test_the_key_follows_everything_that_makes_the_model(run, base, tmp_path):
    data = run / "datasets" / "sft"
    key = open_job("sft", base, data, tmp_path, SftOptions()).key
    assert open_job("sft", str(base), data / "train.jsonl", tmp_path / "x", SftOptions()).key == key
    assert open_job("sft", base, data / "test.parquet", tmp_path, SftOptions()).key != key
    assert open_job("sft", base, data, tmp_path, SftOptions(seed=1)).key != key


def test_a_models_digest_is_its_files_and_not_our_records(base, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in base.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "training.json").write_text("{}")
    (copy / "README.md").write_text("x")
    assert find_model(copy).digest == find_model(base).digest
    (copy / "chat_template.jinja").write_text("another")
    assert find_model(copy).digest != find_model(base).digest


def test_folders_that_are_no_models(base, tmp_path):
    with pytest.raises(InputError, match="no model folder at"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no config\.json"):
        find_model(tmp_path)
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    with pytest.raises(InputError, match="no \\*.safetensors"):
        find_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="damaged"):
        tensors(tmp_path)


def test_a_hub_id_without_network_is_an_input_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="neither a folder here nor a model the Hub gives"):
        find_model("fucina-tests/there-is-no-such-model")


def test_no_such_method(tmp_path):
    with pytest.raises(RecipeError, match="'ppo'"):
        train("ppo", tmp_path, "x", tmp_path, {})


def test_quiet_hides_chatter_and_restores_it(capsys):
    log = logging.getLogger("some.library")
    with quiet():
        warnings.warn("noise", UserWarning, stacklevel=1)
        assert not log.isEnabledFor(logging.WARNING)
        assert log.isEnabledFor(logging.ERROR)
        for _ in tqdm([1, 2], disable=False):
            pass
    assert capsys.readouterr().err == ""
    assert log.isEnabledFor(logging.WARNING)
    for _ in tqdm([1, 2]):
        pass
    assert "2/2" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="noise"):
        warnings.warn("noise", UserWarning, stacklevel=1)


def test_quiet_lets_errors_through():
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert logging.root.manager.disable < logging.WARNING
