"""What a training leaves behind: a folder written whole or not at all, `training.json`, and a model card.

A folder's `training.json` carries the key of the work that made it: method, base model, rows, settings, version.
Asked for the same work again, the folder is the answer; asked for other work, it is not overwritten.
"""

import json
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from fucina.factory.errors import RunError
from fucina.factory.frames import write_atomic
from fucina.factory.hashing import content_id
from fucina.factory.rundir import installed
from fucina.schemas.base import Record
from fucina.train.models import ModelFolder, find_model
from fucina.train.options import Method, TrainingOptions
from fucina.train.rows import Rows, read_rows

# Part of every key: raise it when the same settings would give another model.
VERSION = "1"
RECORD = "training.json"
FUSION = "fusion.json"
_PACKAGES = ("fucina", "torch", "transformers", "trl", "peft", "accelerate")


T = TypeVar("T", bound=Record)


class TrainedModel(Record):
    """`training.json`: what was trained, from what, how it went. Names, not paths, so that it can be published."""

    method: Method
    key: str = Field(description="hash of method, base, rows, settings and version")
    base: str = Field(description="Hub id or folder name of the model that was trained")
    base_digest: str = Field(description="hash of the base's files, or its Hub commit")
    data: str = Field(description="file of the rows")
    data_digest: str = Field(description="hash of the rows' trained columns, in order")
    rows: int = Field(description="rows in the file")
    rows_trained: int = Field(description="rows the trainer saw; `notes` says what became of the others")
    options: dict[str, Any] = Field(description="settings as they were used")
    device: str = Field(description="`cpu` or the GPU's name, with the arithmetic: fp32, or bf16 autocast over fp32")
    steps: int
    tokens: int | None = Field(None, description="tokens of all forward passes over rows, padding excluded")
    seconds: float = Field(description="wall time of the training loop")
    final_loss: float = Field(description="mean training loss over the last tenth of the updates")
    log: list[dict[str, float]] = Field(description="TRL's log, one entry per update")
    notes: list[str] = Field(default_factory=list[str], description="what a reader must know")
    packages: dict[str, str]


class Fusion(Record):
    """`fusion.json`: what was averaged, and how."""

    key: str = Field(description="hash of the models' digests, the weights and the version")
    method: str
    models: list[str]
    digests: list[str]
    weights: list[float] = Field(description="weight of each model; their sum divides the result")
    tensors: int
    seconds: float
    packages: dict[str, str]


def fusion_key(models: Sequence[ModelFolder], weights: Sequence[float]) -> str:
    """Content address of a fusion."""
    return content_id([VERSION, "linear", [model.digest for model in models], list(weights)])


@dataclass(frozen=True)
class Job:
    """One training, checked: the base and the rows exist, the settings are valid. `key` addresses its result."""

    method: Method
    base: ModelFolder
    rows: Rows
    options: TrainingOptions
    out: Path
    key: str


def open_job(method: Method, model: ModelFolder | Path | str, data: Path, out: Path, options: TrainingOptions) -> Job:
    """Find base and rows.

    Raises:
        InputError: either is missing or cannot be used.
    """
    base, rows = find_model(model), read_rows(data, method)
    key = content_id([VERSION, method, base.digest, rows.digest, options.model_dump(mode="json")])
    return Job(method, base, rows, options, out, key)


def finished(out: Path, name: str, schema: type[T], key: str) -> T | None:
    """The record `name` in `out` if this very work is complete there; None if there is nothing yet.

    Raises:
        RunError: `out` holds something else.
    """
    if not out.exists() or not any(out.iterdir()):
        return None
    try:
        done = json.loads((out / name).read_bytes())
        if done["key"] == key:
            return schema.model_validate(done)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{out} is not empty and holds no {name} of ours", "choose another --out") from error
    raise RunError(f"{out} holds other work: its {name} has another key", "choose another --out")


@contextmanager
def whole_folder(out: Path) -> Generator[Path]:
    """A folder to write in that becomes `out` when the block ends well, and vanishes when it does not."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def versions(names: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of the installed packages among `names`."""
    return {name: found for name in names if (found := installed(name)) is not None}


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, refused when it holds NaN."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_record(folder: Path, record: TrainedModel, hub_id: str | None) -> None:
    """`training.json` and the model card."""
    write_json(folder / RECORD, record.model_dump(mode="json"))
    facts = {
        "Method": f"{record.method.upper()} with TRL {record.packages.get('trl', '')}".rstrip(),
        "Base model": f"{record.base} (`{record.base_digest}`)",
        "Rows": f"{record.rows_trained} of {record.data} (`{record.data_digest}`)",
        "Updates": f"{record.steps} in {record.seconds:.1f} s on {record.device}",
        "Final loss": f"{record.final_loss:.4f}",
        "Key": f"`{record.key}`",
    }
    write_card(folder, record.method, facts, record.options, record.notes, hub_id)


def write_card(
    folder: Path,
    method: str,
    facts: Mapping[str, str],
    options: Mapping[str, Any],
    notes: Sequence[str],
    hub_id: str | None,
) -> None:
    """A Hub model card (`README.md`): where the model comes from, in one table."""
    base = f"base_model: {hub_id}\n" if hub_id else ""
    table = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    settings = "".join(f"| {name} | `{json.dumps(value)}` |\n" for name, value in options.items())
    if settings:
        settings = f"\n| Setting | |\n|---|---|\n{settings}"
    remarks = "".join(f"- {note}\n" for note in notes)
    card = (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [fucina, {method}]\n{base}---\n\n"
        f"# {folder.name.strip('.').removesuffix('.partial')}\n\n"
        f"Made by Fucina. Weights are float32.\n\n| Lineage | |\n|---|---|\n{table}"
        f"{settings}" + (f"\n{remarks}" if remarks else "")
    )
    write_atomic(folder / "README.md", card.encode())
