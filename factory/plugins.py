"""Find a plugin by its file name: `judges/rules.py` is judge `rules`, and writing the file is the registration.

Every plugin module exposes one class under the fixed name of its kind. Modules are imported only when named, so
a heavy library at the top of one costs nothing to the others.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fucina.factory.errors import PluginError, RecipeError, nearest


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: where its files lie and the name each of them exposes."""

    label: str
    package: str
    attribute: str


STAGES = Kind("stage", "fucina.pipelines.stages", "STAGE")
JUDGES = Kind("judge", "fucina.judges", "JUDGE")
ENGINES = Kind("engine", "fucina.factory.engines", "ENGINE")
FORMATS = Kind("format", "fucina.pipelines.formats", "FORMAT")
KINDS = {"stages": STAGES, "judges": JUDGES, "engines": ENGINES, "formats": FORMATS}
_NOT_PLUGINS = frozenset({"base"})


def available(kind: Kind) -> list[str]:
    """Names of the plugins of a kind, sorted. Imports none of them."""
    package = importlib.import_module(kind.package)
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg and module.name not in _NOT_PLUGINS and not module.name.startswith("_")
    )


def load(kind: Kind, name: str) -> Any:
    """The plugin class called `name`.

    Raises:
        PluginError: no such file, or the file does not expose the class.
    """
    names = available(kind)
    if name not in names:
        raise PluginError(f"no {kind.label} is called {name!r}", nearest(name, names))
    module = importlib.import_module(f"{kind.package}.{name}")
    plugin = getattr(module, kind.attribute, None)
    if plugin is None:
        raise PluginError(
            f"{kind.package}.{name} does not expose {kind.attribute}", f"add `{kind.attribute} = YourClass`"
        )
    return plugin


def load_step(name: str) -> tuple[Any, Callable[[Any], Any]]:
    """The plugin class behind a step of a recipe, and what makes a stage of its instance.

    A stage is one already; a judge is wrapped in the stage that runs judges.
    """
    stages, judges = available(STAGES), available(JUDGES)
    if name in stages:
        return load(STAGES, name), lambda stage: stage
    if name in judges:
        return load(JUDGES, name), importlib.import_module(f"{JUDGES.package}.base").JudgeStage
    raise PluginError(f"no stage or judge is called {name!r}", nearest(name, [*stages, *judges]))


def configured(plugin: Any, settings: Mapping[str, Any], where: str, build: Callable[..., Any] | None = None) -> Any:
    """A plugin with its settings checked; `build` makes it where its constructor does not.

    Raises:
        RecipeError: an unknown setting, with the nearest known one, or a wrong value.
    """
    try:
        return (build or plugin)(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        hint = nearest(field, plugin.model_fields) if first["type"] == "extra_forbidden" else None
        raise RecipeError(f"{where}: {field}: {first['msg']}", hint) from error
