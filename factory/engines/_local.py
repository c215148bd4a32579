"""Where the model of an in-process engine lies."""

from pathlib import Path

from fucina.factory.errors import EngineError


def model_path(model: str) -> Path:
    """The folder, or the Hub id as a path.

    Raises:
        EngineError: it can only be a folder, and there is none.
    """
    path = Path(model).expanduser()
    only_a_path = model.startswith((".", "~", "/")) or model.count("/") > 1
    if only_a_path and not path.is_dir():
        raise EngineError(f"no model folder {model}", "check the path, or give a Hub id like Qwen/Qwen2.5-0.5B")
    return path
