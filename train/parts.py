"""Load a part of train/ when it is needed: training, fusion and evaluation each bring seconds of imports."""

import importlib
from typing import Any, Literal

from fucina.factory.errors import MissingExtraError
from fucina.train.quiet import quiet

_NEEDS = {
    "sft": ("trl", "train", "training"),
    "dpo": ("trl", "train", "training"),
    "kto": ("trl", "train", "training"),
    "fuse": ("mergekit", "merge", "fusion"),
    "evaluate": ("lm_eval", "eval", "evaluation"),
}


def load_part(name: Literal["sft", "dpo", "kto", "fuse", "evaluate"]) -> Any:
    """The module `fucina.train.<name>`.

    Raises:
        MissingExtraError: its library is not installed.
    """
    package, extra, purpose = _NEEDS[name]
    try:
        with quiet():
            return importlib.import_module(f"fucina.train.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fucina"):
            raise
        raise MissingExtraError(error.name or package, extra, purpose) from error
