"""Between schemas and polars: one source of truth for columns, and files in and out."""

import gzip
import io
import json
import os
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import polars as pl
from pydantic import BaseModel

from fucina.factory.errors import InputError

REASON = "reason"
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


def dtype_of(annotation: Any) -> pl.DataType:
    """The polars type of a schema field; optional fields are nullable columns."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        [inner] = [a for a in get_args(annotation) if a is not type(None)]
        return dtype_of(inner)
    if origin is Literal:
        return pl.String()
    if origin is list:
        return pl.List(dtype_of(get_args(annotation)[0]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pl.Struct(dict(schema_of(annotation)))
    simple: dict[Any, pl.DataType] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}
    return simple[annotation]


def schema_of(model: type[BaseModel]) -> pl.Schema:
    """The polars schema of a pydantic model, in field order."""
    return pl.Schema({name: dtype_of(field.annotation) for name, field in model.model_fields.items()})


def frame_of(rows: Iterable[BaseModel], model: type[BaseModel]) -> pl.DataFrame:
    """Records to a frame in the model's schema."""
    return pl.DataFrame([row.model_dump() for row in rows], schema=schema_of(model))


def conform(frame: pl.DataFrame, model: type[BaseModel]) -> pl.DataFrame:
    """Add the model's missing columns as nulls (lists: empty) and cast the rest; other columns stay as they are."""
    columns: list[pl.Expr] = []
    for name, dtype in schema_of(model).items():
        present = pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype=dtype)
        columns.append(
            (present.fill_null(pl.lit([], dtype=dtype)) if isinstance(dtype, pl.List) else present).alias(name)
        )
    return frame.with_columns(columns)


def suffix_of(path: Path) -> str:
    """The format suffix of a file name, `.gz` included."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if path.name.endswith(suffix):
            return suffix
    raise InputError(f"{path}: cannot tell the format from the name", f"use one of {', '.join(SUFFIXES)}")


def stem_of(path: Path) -> str:
    """File name without its format suffix."""
    return path.name.removesuffix(suffix_of(path))


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as UTF-8 JSON lines, one key order."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """CSV has no nesting: lists and structs become JSON text."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    return frame.with_columns(
        pl.Series(
            name, [None if v is None else json.dumps(v, ensure_ascii=False) for v in frame[name].to_list()], pl.String
        )
        for name in nested
    )


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame in the format its name asks for, atomically."""
    suffix = suffix_of(path)
    buffer = io.BytesIO()
    if suffix == ".parquet":
        frame.write_parquet(buffer, compression="zstd")
        data = buffer.getvalue()
    elif suffix.startswith(".csv"):
        _flat(frame).write_csv(buffer)
        data = buffer.getvalue()
    else:
        data = jsonl_bytes(frame.iter_rows(named=True))
    # mtime=0: the same rows give the same bytes.
    write_atomic(path, gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data)
