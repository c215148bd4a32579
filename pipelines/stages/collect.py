"""Collect prompts from files, folders and data sets."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, field_validator

from fucina.factory.frames import REASON, frame_of
from fucina.factory.hashing import canonical_json, content_id, file_digest
from fucina.factory.shapes import ShapeError, shape_of, source_id_of
from fucina.factory.sources import Record, Reject, files_of, read_dataset, read_file
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind
from fucina.schemas.rows import PromptRow, Split

_LATER = frozenset({"candidates", "selection"})  # columns that later stages fill
_SPLITS: dict[str, Split] = {"train": "train", "test": "test", "validation": "test", "valid": "test", "dev": "test"}


class Collect(StageConfig):
    """Read prompts, and the answers that came with them, from JSONL, CSV, Parquet (`.gz` too), a folder or the Hub.

    Alpaca, ShareGPT, messages, prompt/completion and question/answer records are recognised; fields that Fucina
    does not know are kept in `meta`. A record that cannot be used is dropped with its line, its reason and its text.
    """

    name: ClassVar[str] = "collect"
    kind: ClassVar[StageKind] = "source"
    reads: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[str, ...]] = tuple(name for name in PromptRow.model_fields if name not in _LATER)

    paths: list[str] = Field(
        default_factory=list[str], description="files or folders, relative to the working directory"
    )
    dataset: str | None = Field(None, description="Hub data set id, or a folder written by `save_to_disk`")
    split: str = Field("train", description="split of `dataset`")
    category_field: str | None = Field(None, description="source field that already holds a task type")
    limit: int | None = Field(None, ge=1, description="stop after this many records")
    max_row_bytes: int = Field(1_000_000, ge=1, description="larger records are dropped")

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    def identity(self) -> dict[str, Any]:
        """All settings but where the files lie: their contents stand in `fingerprint`."""
        return self.model_dump(mode="json", exclude={"paths", "dataset"})

    def fingerprint(self) -> Mapping[str, str]:
        """Digest of every file, by its place in the list and its name; a Hub data set is known by id and split."""
        digests = {f"{place} {path.name}": file_digest(path) for place, path in enumerate(self._files())}
        if self.dataset is not None:
            local = Path(self.dataset)
            digests[local.name] = file_digest(local) if local.is_dir() else f"hub:{self.dataset}:{self.split}"
        return digests

    def read(self, shard_rows: int, ctx: Context) -> Iterator[Outcome]:
        """Frames of `shard_rows` records."""
        del ctx
        seen: Counter[str] = Counter()
        rows: list[PromptRow] = []
        rejects: list[Reject] = []
        for count, item in enumerate(self._items(), 1):
            row = self._row(item, seen)
            if isinstance(row, Reject):
                rejects.append(row)
            else:
                rows.append(row)
            if len(rows) + len(rejects) == shard_rows:
                yield _outcome(rows, rejects)
                rows, rejects = [], []
            if count == self.limit:
                break
        if rows or rejects:
            yield _outcome(rows, rejects)

    def _files(self) -> list[Path]:
        return [file for path in self.paths for file in files_of(Path(path))]

    def _items(self) -> Iterator[Record | Reject]:
        for path in self._files():
            yield from read_file(path, self.max_row_bytes)
        if self.dataset is not None:
            yield from read_dataset(self.dataset, self.split, self.max_row_bytes)

    def _row(self, item: Record | Reject, seen: Counter[str]) -> PromptRow | Reject:
        """A prompt row, or why there is none.

        The id hashes content alone. Records with the same content are told apart by how many came before, so
        that reading them in another order gives the same set of ids.
        """
        if isinstance(item, Reject):
            return item
        try:
            shaped = shape_of(item.fields)
        except ShapeError as error:
            return Reject(item.source, item.line, str(error), canonical_json(_plain(item.fields))[:2_000])
        content: list[Any] = [
            shaped.system, [[turn.role, turn.content] for turn in shaped.history], shaped.prompt, shaped.response
        ]  # fmt: skip
        key = content_id(content)
        seen[key] += 1
        split = item.fields.get("split")
        category = item.fields.get(self.category_field) if self.category_field else None
        known = (
            shaped.used | ({"split"} if split in _SPLITS else set()) | ({self.category_field} if category else set())
        )
        rest = {name: value for name, value in item.fields.items() if name not in known and value is not None}
        return PromptRow(
            prompt_id=key if seen[key] == 1 else content_id([*content, seen[key]]),
            prompt=shaped.prompt,
            system=shaped.system,
            history=shaped.history,
            response=shaped.response,
            source=item.source,
            source_line=item.line,
            source_id=source_id_of(item.fields),
            split=_SPLITS.get(str(split)),
            category=None if category is None else str(category),
            meta=canonical_json(_plain(rest)) if rest else None,
        )


def _plain(value: Any) -> Any:
    """JSON-able copy: dates and bytes of Parquet files become text, NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN differs from itself
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _outcome(rows: list[PromptRow], rejects: list[Reject]) -> Outcome:
    dropped = pl.DataFrame(
        [(reject.source, reject.line, reject.raw, reject.reason) for reject in rejects],
        schema={"source": pl.String, "source_line": pl.Int64, "raw": pl.String, REASON: pl.String},
        orient="row",
    )
    return Outcome(frame_of(rows, PromptRow), dropped)


STAGE = Collect
