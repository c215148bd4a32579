import pytest

from fucina.factory.cli.common import settings
from fucina.factory.errors import RecipeError
from fucina.train.options import OPTIONS, KtoOptions, options_for


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_defaults_are_complete(method):
    options = options_for(method, {})
    assert type(options) is OPTIONS[method]
    assert options.learning_rate > 0
    assert options.lora is None


def test_the_recipes_seed_yields_to_the_steps_own():
    assert options_for("sft", {}, seed=3).seed == 3
    assert options_for("sft", {"seed": 5}, seed=3).seed == 5


@pytest.mark.parametrize(
    ("name", "ours"), [("max_seq_length", "max_length"), ("num_train_epochs", "epochs"), ("peft_config", "lora")]
)
def test_names_of_trl_say_ours(name, ours):
    with pytest.raises(RecipeError) as caught:
        options_for("dpo", {name: 1})
    assert name in caught.value.message
    assert f"`{ours}`" in (caught.value.fix or "")


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(RecipeError, match=r"train\.sft\.learnin_rate") as caught:
        options_for("sft", {"learnin_rate": 1})
    assert "did you mean 'learning_rate'?" in (caught.value.fix or "")


def test_a_misspelt_lora_setting_names_the_nearest():
    with pytest.raises(RecipeError, match=r"train\.sft\.lora\.alhpa") as caught:
        options_for("sft", {"lora": {"alhpa": 1}})
    assert "did you mean 'alpha'?" in (caught.value.fix or "")


def test_beta_is_no_setting_of_sft():
    with pytest.raises(RecipeError, match="beta"):
        options_for("sft", {"beta": 0.1})


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"learning_rate": -1}, {"warmup_ratio": 1.0}, {"epochs": "two"}])
def test_wrong_values_are_refused(wrong):
    [name] = wrong
    with pytest.raises(RecipeError, match=name):
        options_for("sft", wrong)


def test_kto_needs_two_rows_on_the_device():
    with pytest.raises(RecipeError, match="batch_size"):
        options_for("kto", {"batch_size": 1})
    assert KtoOptions(batch_size=2).batch_size == 2


def test_settings_of_the_command_line():
    assert settings(["learning_rate=0.001", "lora.r=16", "lora.target=all-linear", "max_steps=3"]) == {
        "learning_rate": 0.001,
        "lora": {"r": 16, "target": "all-linear"},
        "max_steps": 3,
    }
    # YAML 1.1 takes 1e-5 for text; it must arrive as a number all the same.
    assert options_for("sft", settings(["learning_rate=1e-5"])).learning_rate == 1e-5


@pytest.mark.parametrize("pairs", [["learning_rate"], ["=3"], ["lora=1", "lora.r=2"]])
def test_command_line_settings_that_make_no_sense(pairs):
    with pytest.raises(RecipeError, match="--set"):
        settings(pairs)
