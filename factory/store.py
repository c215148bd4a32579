"""A stage's folder in a run directory: shards written atomically, `DONE` last.

    stages/03-language-1f2e3d4c5b6a7988/
        PLAN.json              how the input was cut; other cuts start the unfinished stage anew
        kept-00000.parquet     prompt rows
        dropped-00000.parquet  prompt rows with a `reason`
        answers.jsonl          generate stages: one line per answer, appended as it comes
        DONE.json              counts; its presence means that the stage is complete

The folder's name carries the stage's content address: a new address is a new folder, nothing is overwritten.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fucina.factory.errors import RunError
from fucina.factory.frames import REASON, write_atomic, write_frame
from fucina.factory.stage import Outcome


@dataclass
class Counts:
    """What happened to the rows of a stage."""

    rows_in: int = 0
    rows_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: "Counts") -> None:
        """Add a shard's counts."""
        self.rows_in += other.rows_in
        self.rows_kept += other.rows_kept
        self.dropped.update(other.dropped)

    @classmethod
    def of(cls, outcome: Outcome) -> "Counts":
        """Counts of one shard's outcome."""
        reasons = Counter(outcome.dropped[REASON].to_list()) if outcome.dropped.height else Counter[str]()
        return cls(outcome.kept.height + outcome.dropped.height, outcome.kept.height, Counter(_group(reasons)))


def _group(reasons: Counter[Any]) -> Counter[str]:
    """Count by the part before `:`, so that `duplicate: of 3f2a` and `duplicate: of 77b1` are one reason."""
    grouped: Counter[str] = Counter()
    for reason, count in reasons.items():
        grouped[str(reason).partition(":")[0]] += count
    return grouped


class StageFolder:
    """Reads and writes one stage's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def answers(self) -> Path:
        """The log of a generate stage."""
        return self.path / "answers.jsonl"

    def done(self) -> dict[str, Any] | None:
        """The completed stage's record, or None while it is not complete."""
        marker = self.path / "DONE.json"
        if not marker.exists():
            return None
        record: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
        return record

    def start(self, shard_rows: int) -> None:
        """Make the folder. Shards of an earlier, unfinished attempt stay if they were cut the same way."""
        plan = self.path / "PLAN.json"
        wanted = json.dumps({"shard_rows": shard_rows})
        if plan.exists() and plan.read_text(encoding="utf-8") != wanted:
            for shard in [*self.path.glob("kept-*.parquet"), *self.path.glob("dropped-*.parquet")]:
                shard.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(plan, wanted.encode())

    def has(self, index: int) -> bool:
        """Whether a shard was written whole: `kept` is renamed into place after `dropped`."""
        return self._kept(index).exists()

    def write(self, index: int, outcome: Outcome) -> None:
        """Write a shard's two files."""
        write_frame(outcome.dropped, self._dropped(index))
        write_frame(outcome.kept, self._kept(index))

    def read(self, index: int) -> Outcome:
        """A shard as written."""
        return Outcome(pl.read_parquet(self._kept(index)), pl.read_parquet(self._dropped(index)))

    def finish(self, record: dict[str, Any]) -> None:
        """Mark the stage complete."""
        write_atomic(self.path / "DONE.json", json.dumps(record, indent=1, ensure_ascii=False).encode())

    def kept(self) -> pl.DataFrame:
        """All kept rows, in shard order."""
        return _read_all(sorted(self.path.glob("kept-*.parquet")))

    def dropped(self) -> pl.DataFrame:
        """All dropped rows, with their reasons."""
        return _read_all(sorted(self.path.glob("dropped-*.parquet")))

    def shards(self, shard_rows: int) -> Iterator[pl.DataFrame]:
        """Kept rows, cut anew into frames of `shard_rows`; at least one frame, empty when nothing was kept."""
        buffer: pl.DataFrame | None = None
        for path in sorted(self.path.glob("kept-*.parquet")):
            part = pl.read_parquet(path)
            buffer = part if buffer is None else pl.concat([buffer, part])
            while buffer.height > shard_rows:
                yield buffer.head(shard_rows)
                buffer = buffer.slice(shard_rows)
        if buffer is None:
            raise RunError(f"{self.path.name} holds no shards", "delete that folder and run again")
        yield buffer

    def _kept(self, index: int) -> Path:
        return self.path / f"kept-{index:05d}.parquet"

    def _dropped(self, index: int) -> Path:
        return self.path / f"dropped-{index:05d}.parquet"


def _read_all(paths: list[Path]) -> pl.DataFrame:
    if not paths:
        raise RunError("a stage folder without shards", "run the recipe again")
    return pl.concat([pl.read_parquet(path) for path in paths], how="diagonal_relaxed")
