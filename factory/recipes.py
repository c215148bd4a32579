"""Read a recipe: YAML with line numbers in every error, `--set` overrides, relative paths made absolute."""

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fucina.factory.errors import InputError, RecipeError, nearest
from fucina.factory.plugins import configured, load_step
from fucina.schemas.recipe import Recipe, Step, Training

_SHELF = "fucina.pipelines"


def bundled() -> dict[str, Path]:
    """Recipes that come with Fucina, by name."""
    folder = Path(str(files(_SHELF))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """A recipe file by path, or a bundled one by name."""
    path = Path(name)
    if path.is_file():
        return path
    shelf = bundled()
    if name in shelf:
        return shelf[name]
    raise InputError(f"no recipe {name!r}: neither a file nor a bundled recipe", nearest(name, shelf))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path` with `--set` overrides applied.

    Paths in a recipe are relative to the working directory, or to the recipe with a leading `recipe://`.

    Raises:
        RecipeError: bad YAML, an unknown key, a wrong type; the message names file, line and field.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{path.name}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path.name}: a recipe is a mapping with `name:` and `stages:`", "see `fucina list recipes`")
    for override in overrides:
        _override(data, override)
    data = _resolve_paths(data, path.resolve().parent)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(*_explain(path, node, error)) from error


def build_stages(recipe: Recipe, where: str) -> list[Any]:
    """The recipe's stages with their settings checked, before any work is done."""
    return [build_step(step, f"{where}: stage {number} `{step.name}`") for number, step in enumerate(recipe.stages, 1)]


def build_step(step: Step, where: str) -> Any:
    """One stage with its settings.

    Raises:
        RecipeError: a setting it does not know, or a wrong value.
    """
    plugin, as_stage = load_step(step.name)
    return as_stage(configured(plugin, step.config, where))


def _override(data: dict[str, Any], text: str) -> None:
    """Apply one `a.b=c`. A bare engine role (`teacher=vllm:…`) means `engines.teacher`; a stage is found by name."""
    dotted, equals, raw = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: expected key=value", "for example --set seed=7 or --set teacher=vllm:MODEL")
    parts = dotted.split(".")
    value = yaml.safe_load(raw) if raw else None
    if parts[0] in data.get("engines", {}):
        parts = ["engines", *parts]
    if parts[0] == "stages" and len(parts) >= 3:
        _override_stage(data, parts[1], parts[2:], value)
        return
    if parts[0] not in Recipe.model_fields:
        known = [*Recipe.model_fields, *data.get("engines", {})]
        raise RecipeError(f"--set {text}: the recipe has no {parts[0]!r}", nearest(parts[0], known))
    _assign(data, parts, value, text)


def _override_stage(data: dict[str, Any], name: str, keys: list[str], value: Any) -> None:
    steps: list[Any] = data.get("stages", [])
    for index, step in enumerate(steps):
        if (step if isinstance(step, str) else next(iter(step))) == name:
            config: dict[str, Any] = {} if isinstance(step, str) else dict(step[name] or {})
            _assign(config, keys, value, name)
            steps[index] = {name: config}
            return
    names = [step if isinstance(step, str) else next(iter(step)) for step in steps]
    raise RecipeError(f"--set stages.{name}: the recipe has no such stage", nearest(name, names))


def _assign(target: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        inner = target.get(key)
        if inner is None:
            inner = target[key] = {}
        if not isinstance(inner, dict):
            # A short form ("vllm:MODEL") cannot be entered; the user must give the long one.
            raise RecipeError(f"--set {text}: {key!r} is not a mapping", "set the whole of it instead")
        target = inner
    target[keys[-1]] = value


def _resolve_paths(value: Any, folder: Path) -> Any:
    """Replace the prefix `recipe://` by the recipe's folder, anywhere."""
    if isinstance(value, dict):
        return {key: _resolve_paths(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_paths(item, folder) for item in value]
    if isinstance(value, str) and value.startswith("recipe://"):
        return str((folder / value.removeprefix("recipe://")).resolve())
    return value


def _explain(path: Path, node: yaml.Node | None, error: ValidationError) -> tuple[str, str | None]:
    """Message and fix of the first validation error, with the line it stands on."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    line = _line_of(node, location)
    where = f"{path.name}:{line}" if line else path.name
    field = ".".join(location) or "recipe"
    if first["type"] == "extra_forbidden":
        owner: type[BaseModel] = Training if location[0] == "train" and len(location) > 1 else Recipe
        return f"{where}: unknown key {location[-1]!r}", nearest(location[-1], owner.model_fields)
    if first["type"] == "literal_error" and isinstance(first.get("input"), str):
        choices = [str(choice) for choice in get_args(Training.model_fields["steps"].annotation) or ()]
        close = difflib.get_close_matches(str(first["input"]), choices, n=1)
        return f"{where}: {field}: {first['msg']}", f"did you mean {close[0]!r}?" if close else None
    return f"{where}: {field}: {first['msg']}", None


def _line_of(node: yaml.Node | None, location: Sequence[str]) -> int | None:
    """1-based line of a field, or of the deepest part of its path that is in the file."""
    line: int | None = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return line
