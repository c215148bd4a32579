"""Read a trainer's rows from Parquet or JSONL: its columns alone, checked before any model is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from fucina.factory.errors import InputError
from fucina.factory.hashing import frame_digest
from fucina.train.options import Method

MESSAGES = pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))
COLUMNS: dict[Method, tuple[str, ...]] = {
    "sft": ("prompt", "completion"),
    "dpo": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
}


class EmptySplitError(InputError):
    """A split without rows."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} holds no rows", "see dropped.jsonl beside it for the reasons")


@dataclass(frozen=True)
class Rows:
    """Rows of one split, in file order: `frame` holds the trainer's columns and no lineage."""

    file: Path
    frame: pl.DataFrame
    digest: str

    @property
    def name(self) -> str:
        """The file without this machine's folders: `datasets/kto/train.parquet`."""
        return "/".join(self.file.resolve().parts[-3:])


def read_rows(data: Path, method: Method, split: Literal["train", "test"] = "train") -> Rows:
    """Rows from a file, or from `<split>.parquet` or `<split>.jsonl` of a folder.

    Raises:
        EmptySplitError: no rows.
        InputError: no such file, unreadable, missing or mistyped columns, or a null.
    """
    file = _find(data, split)
    frame = _read(file)
    columns = COLUMNS[method]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        fits = [other for other, needed in COLUMNS.items() if set(needed) <= set(frame.columns)]
        hint = f"it has the columns of a {fits[-1]} set" if fits else f"{method} rows are {', '.join(columns)}"
        raise InputError(f"{file}: no column {', '.join(missing)}; it has {', '.join(frame.columns)}", hint)
    if frame.is_empty():
        raise EmptySplitError(file)
    frame = frame.select(_messages(file, frame, name) if name != "label" else pl.col(name) for name in columns)
    if "label" in columns and frame.schema["label"] != pl.Boolean:
        raise InputError(f"{file}: label is {frame.schema['label']}, not true or false")
    for name in columns:
        bad = frame[name].is_null() if name == "label" else frame[name].list.len().fill_null(0) == 0
        if bad.any():
            raise InputError(f"{file}: row {bad.arg_true()[0] + 1} has no {name}")
    return Rows(file, frame, frame_digest(frame))


def _find(data: Path, split: str) -> Path:
    if data.is_file():
        return data
    candidates = [data / f"{split}.{suffix}" for suffix in ("parquet", "jsonl")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not data.is_dir():
        raise InputError(f"no data at {data}", "give a .parquet or .jsonl file, or a folder of a run's datasets/")
    beside = ", ".join(sorted(path.name for path in data.iterdir())) or "nothing"
    raise InputError(f"{data} holds neither {split}.parquet nor {split}.jsonl", f"it holds {beside}")


def _read(file: Path) -> pl.DataFrame:
    if file.stat().st_size == 0:
        raise EmptySplitError(file)
    try:
        return pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_ndjson(file, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file} cannot be read: {error}", "use Parquet, or one JSON object a line") from error


def _messages(file: Path, frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column of conversations with `role` and `content` alone."""
    dtype = frame.schema[name]
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    fields = {field.name for field in inner.fields} if isinstance(inner, pl.Struct) else set[str]()
    if not {"role", "content"} <= fields:
        raise InputError(
            f"{file}: {name} is {dtype}, not a conversation", "a conversation is a list of {role, content}"
        )
    turn = pl.struct(pl.element().struct.field("role"), pl.element().struct.field("content"))
    return pl.col(name).list.eval(turn).cast(MESSAGES)
