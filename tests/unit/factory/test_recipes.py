"""Recipes: overrides, and errors that name line, field and the nearest name."""

from pathlib import Path

import pytest

from fucina.factory.errors import InputError, PluginError, RecipeError
from fucina.factory.recipes import build_stages, bundled, find, load_recipe

TEXT = """\
name: prova
engines:
  teacher: replay:answers.jsonl#big
stages:
  - collect: {paths: recipe://prompts.jsonl}
  - repair
  - deduplicate:
      threshold: 0.8
formats: [sft]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "prova.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_short_forms_and_recipe_paths(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.engines == {"teacher": {"engine": "replay", "address": "answers.jsonl#big"}}
    assert [stage.name for stage in recipe.stages] == ["collect", "repair", "deduplicate"]
    assert recipe.stages[0].config == {"paths": str(path.parent / "prompts.jsonl")}
    assert recipe.formats == {"sft": {}}


def test_overrides(path: Path) -> None:
    recipe = load_recipe(
        path, ["seed=3", "teacher=vllm:some/model", "stages.deduplicate.threshold=0.9", "stages.repair.fields=[prompt]"]
    )
    assert recipe.seed == 3
    assert recipe.engines["teacher"] == {"engine": "vllm", "address": "some/model"}
    assert recipe.stages[2].config == {"threshold": 0.9}
    assert recipe.stages[1].config == {"fields": ["prompt"]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected key=value"),
        ("sede=3", "did you mean 'seed'"),
        ("stages.deduplicte.threshold=1", "did you mean 'deduplicate'"),
    ],
)
def test_bad_overrides(path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [override])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("formats: [sft]", "fromats: [sft]", r"prova\.yaml:9: unknown key 'fromats'\n  fix: did you mean 'formats'"),
        ("name: prova", "name: Prova!", r"prova\.yaml:1: name: String should match"),
        (
            "formats: [sft]",
            "train: {base: x, stpes: []}",
            r"prova\.yaml:9: unknown key 'stpes'\n  fix: did you mean 'steps'",
        ),
        ("formats: [sft]", "train: {base: x, steps: [sftt]}", r"prova\.yaml:9: train\.steps\.0: .*'sft'"),
        ("formats: [sft]", "formats: [sft", r"prova\.yaml:\d+: not valid YAML"),
        ("name: prova\n", "", "name: Field required"),
    ],
)
def test_errors_name_file_line_and_field(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_list_is_no_recipe(path: Path) -> None:
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "kind", "message"),
    [
        (
            "stages.deduplicate.treshold=0.8",
            RecipeError,
            r"stage 3 `deduplicate`: treshold.*\n.*did you mean 'threshold'",
        ),
        ("stages.deduplicate.threshold=2", RecipeError, "threshold: Input should be less than or equal to 1"),
        ("stages=[collekt]", PluginError, "no stage or judge is called 'collekt'.*\n.*did you mean 'collect'"),
    ],
)
def test_stage_settings_are_checked_before_any_work(
    path: Path, override: str, kind: type[Exception], message: str
) -> None:
    recipe = load_recipe(path, [override])
    with pytest.raises(kind, match=message):
        build_stages(recipe, "prova.yaml")


def test_find() -> None:
    assert {"demo", "italiano"} <= set(bundled())
    assert find("demo") == bundled()["demo"]
    with pytest.raises(InputError, match="did you mean 'italiano'"):
        find("italian")
    for file in bundled().values():
        build_stages(load_recipe(file), file.name)
