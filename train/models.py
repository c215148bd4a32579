"""Model folders: where a model lies, what it is, and which tensors it holds. Loads no weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from fucina.factory.errors import InputError
from fucina.factory.hashing import content_id, file_digest

_WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
# Written beside a model by this package; they hold times, so they are not part of what the model is.
RECORDS = frozenset({"training.json", "fusion.json", "evaluation.json"})


@dataclass(frozen=True)
class ModelFolder:
    """A model on this disk. `name` is its Hub id or its folder's name, `digest` hashes its files."""

    path: Path
    name: str
    digest: str
    hub_id: str | None = None


def find_model(model: ModelFolder | Path | str) -> ModelFolder:
    """The model in a folder, or from the Hub (or its cache, with HF_HUB_OFFLINE=1); one already found, as it is.

    Raises:
        InputError: neither a model folder nor a Hub id that can be had.
    """
    if isinstance(model, ModelFolder):
        return model
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is not a model folder: it has no config.json")
        if not any(path.glob("*.safetensors")):
            raise InputError(f"{path} holds no *.safetensors", "save the model with `save_pretrained` first")
        return ModelFolder(path.resolve(), path.resolve().name, _digest(path))
    if isinstance(model, Path) or path.is_absolute():
        raise InputError(f"no model folder at {path}")
    try:
        cached = Path(snapshot_download(model, allow_patterns=list(_WANTED)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{model!r} is neither a folder here nor a model the Hub gives: {error}",
            "check the name; without a network, download the model first or give a folder",
        ) from error
    # A snapshot folder is called by its commit.
    return ModelFolder(cached, model, cached.name, hub_id=model)


def tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype (safetensors' names, `F32`) and shape of every stored tensor, from the files' headers.

    A safetensors file starts with the header's length (8 bytes, little endian) and the header, a JSON object.

    Raises:
        InputError: a damaged file.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            for name, part in header.items():
                if name != "__metadata__":
                    found[name] = (part["dtype"], tuple(part["shape"]))
        except (ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
            raise InputError(f"{file} is damaged: {error}", "train or download that model again") from error
    return found


def parameters(folder: Path) -> int:
    """How many weights a model stores; tied ones count once."""
    return sum(math.prod(shape) for _, shape in tensors(folder).values())


def _digest(folder: Path) -> str:
    files = sorted(
        path
        for pattern in _WANTED
        for path in folder.glob(pattern)
        if path.name not in RECORDS and not path.name.startswith(".")
    )
    return content_id([[path.name, file_digest(path)] for path in files])
