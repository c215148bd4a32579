"""Read records from files, folders and `datasets`, one at a time, with the line each came from.

A record that cannot be read comes out as a `Reject` with the reason and its raw text; only a file that as a
whole makes no sense (empty, cut off, not there) raises.
"""

import csv
import gzip
import importlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from fucina.factory.errors import InputError
from fucina.factory.frames import SUFFIXES, suffix_of

RAW_KEPT = 2_000


@dataclass(frozen=True)
class Record:
    """One record as read, and where it stood."""

    source: str
    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Reject:
    """One record that could not be read. `raw` holds its first 2,000 characters."""

    source: str
    line: int
    reason: str
    raw: str


def files_of(path: Path) -> list[Path]:
    """The data files a path names: itself, or those in a folder.

    Raises:
        InputError: nothing there that can be read.
    """
    if path.is_file():
        suffix_of(path)
        return [path]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", "check the path; it is relative to where you run fucina")
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    if not files:
        raise InputError(f"{path}: no data files in this folder", f"expected {', '.join(SUFFIXES)}")
    return files


def read_file(path: Path, max_row_bytes: int) -> Iterator[Record | Reject]:
    """Records of one file, in order.

    Raises:
        InputError: the file is empty, cut off or not of the format its name says.
    """
    suffix = suffix_of(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path.name}: the file is empty", "give a file with at least one record")
    read = {".parquet": _parquet, ".csv": _csv, ".csv.gz": _csv}.get(suffix, _jsonl)
    found = 0
    for item in read(path, max_row_bytes):
        found += 1
        yield item
    if found == 0:
        raise InputError(f"{path.name}: the file holds no records", "give a file with at least one record")


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb"))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines as bytes.

    Raises:
        InputError: a compressed file that ends too early or is not gzip.
    """
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, 1):
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path.name}: the compressed file is damaged or cut off after line {number} ({error})",
            "download or compress it again; nothing of it was used",
        ) from error


def _jsonl(path: Path, max_row_bytes: int) -> Iterator[Record | Reject]:
    for number, raw in _lines(path):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if not line.strip():
            continue
        yield _json_record(path.name, number, line, max_row_bytes)


def _json_record(source: str, number: int, line: bytes, max_row_bytes: int) -> Record | Reject:
    fields: dict[str, Any] = {}
    reason = None
    if len(line) > max_row_bytes:
        reason = f"row too large: {len(line)} bytes, the limit max_row_bytes is {max_row_bytes}"
    elif b"\0" in line or b"\\u0000" in line:
        reason = "NUL byte: in the line"
    else:
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: byte {error.start + 1} of the line"
        except (json.JSONDecodeError, RecursionError) as error:
            reason = f"invalid JSON: {error}"
        else:
            fields = value if isinstance(value, dict) else {}
            reason = None if isinstance(value, dict) else f"not an object: the line holds a {type(value).__name__}"
    if reason is not None:
        return Reject(source, number, reason, line[: 4 * RAW_KEPT].decode("utf-8", "replace")[:RAW_KEPT])
    return Record(source, number, fields)


def _csv(path: Path, max_row_bytes: int) -> Iterator[Record | Reject]:
    """CSV with a header line; fields may hold line breaks, so a record is numbered by its last line."""
    csv.field_size_limit(max(max_row_bytes, 131_072) * 2)
    text = (line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape") for number, line in _lines(path))
    reader = csv.reader(text, strict=True)
    header: list[str] | None = None
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{path.name}, line {reader.line_num}: not valid CSV: {error}", "quote the field"
            ) from error
        if header is None:
            header = row
            if len(set(header)) < len(header):
                raise InputError(f"{path.name}, line 1: a column name stands twice", "give every column its own name")
            continue
        if row:
            yield _csv_record(path.name, reader.line_num, header, row, max_row_bytes)


def _csv_record(source: str, number: int, header: list[str], row: list[str], max_row_bytes: int) -> Record | Reject:
    raw = ",".join(row)
    size = len(raw.encode("utf-8", "surrogateescape"))
    reason = None
    if len(row) != len(header):
        reason = f"wrong number of fields: {len(row)}, the header has {len(header)}"
    elif size > max_row_bytes:
        reason = f"row too large: {size} bytes, the limit max_row_bytes is {max_row_bytes}"
    elif "\0" in raw:
        reason = "NUL byte: in the record"
    elif any("\udc80" <= char <= "\udcff" for char in raw):
        reason = "not UTF-8: in the record"
    if reason is not None:
        return Reject(source, number, reason, raw[:RAW_KEPT].encode("utf-8", "replace").decode())
    return Record(
        source, number, {name: value if value != "" else None for name, value in zip(header, row, strict=True)}
    )


def _parquet(path: Path, max_row_bytes: int) -> Iterator[Record | Reject]:
    try:
        lazy = pl.scan_parquet(path)
        total = lazy.select(pl.len()).collect().item()
    except (pl.exceptions.ComputeError, OSError) as error:
        raise InputError(f"{path.name}: not a readable Parquet file ({error})", "write the file again") from error
    for start in range(0, total, 4_096):
        for offset, row in enumerate(lazy.slice(start, 4_096).collect().iter_rows(named=True)):
            yield _checked(path.name, start + offset + 1, row, max_row_bytes)


def _checked(source: str, number: int, row: dict[str, Any], max_row_bytes: int) -> Record | Reject:
    text = json.dumps(row, ensure_ascii=False, default=str)
    if len(text) > max_row_bytes:
        reason = f"row too large: {len(text)} characters, the limit max_row_bytes is {max_row_bytes}"
        return Reject(source, number, reason, text[:RAW_KEPT])
    if "\\u0000" in text:
        return Reject(source, number, "NUL byte: in the record", text[:RAW_KEPT])
    return Record(source, number, row)


def read_dataset(name: str, split: str, max_row_bytes: int) -> Iterator[Record | Reject]:
    """Records of a `datasets` folder (`save_to_disk`) or a Hub data set, streamed.

    Raises:
        InputError: no such data set or split, or no network.
    """
    datasets = importlib.import_module("datasets")  # takes seconds; only this source needs it
    try:
        if Path(name).is_dir():
            loaded = datasets.load_from_disk(name)
            table = loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            table = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # datasets raises many kinds; all of them mean: this source cannot be read
        raise InputError(
            f"data set {name!r}, split {split!r}: {error}", "check the id, the split and the network"
        ) from error
    for number, row in enumerate(table, 1):
        yield _checked(name, number, dict(row), max_row_bytes)
