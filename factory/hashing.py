"""Content addresses: what a row, a configuration or a file *is*, as a short hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

ID_LENGTH = 16


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN; floats by shortest round-trip."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(value: Any) -> str:
    """First 16 hex digits (64 bits) of the SHA-256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of every file below a folder with its relative name."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        digest.update(b"\0" + (file.relative_to(path).as_posix() if file != path else "").encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:ID_LENGTH]


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash of rows in their order. Equal for equal rows, whatever wrote the file that holds them."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:ID_LENGTH]


def frame_digest(frame: pl.DataFrame) -> str:
    """`rows_digest` of a frame."""
    return rows_digest(frame.iter_rows(named=True))


def order_key(seed: int, *parts: str) -> str:
    """A pseudo-random sort key that depends on content and seed alone, so that any input order sorts alike."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode("utf-8", "surrogatepass")).hexdigest()


def derived_seed(seed: int, *parts: str) -> int:
    """A 31-bit seed for one request, independent of when and in which batch it is sent."""
    return int(order_key(seed, *parts)[:8], 16) & 0x7FFFFFFF
