"""Follow a row of any data set back to its source line, step by step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fucina.factory.errors import InputError
from fucina.factory.frames import REASON
from fucina.factory.rundir import RunDirectory
from fucina.factory.store import StageFolder
from fucina.schemas.manifest import Manifest

_IDS = ("row_id", "prompt_id", "candidate_id", "chosen_id", "rejected_id")


@dataclass(frozen=True)
class TraceStep:
    """What one stage did to the row: `kept` or `dropped`, and the columns it changed with their new values."""

    stage: str
    key: str
    outcome: str
    changed: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Trace:
    """A row's way: its source, the steps, and the data set rows it ended in."""

    prompt_id: str
    source: str
    source_line: int
    source_id: str | None
    steps: list[TraceStep]
    rows: list[dict[str, Any]]


def trace(run: Path, row_id: str) -> Trace:
    """Trace a data set row, candidate or prompt by its id, or by any beginning of it that is unique.

    Raises:
        InputError: no such id in this run, or a beginning that fits several prompts.
    """
    directory = RunDirectory(run)
    manifest = directory.manifest()
    found = {prompt for _, row in _dataset_rows(directory, manifest) for prompt in _fits(row, row_id)}
    found |= _in_stages(directory, manifest, row_id)
    if not found:
        raise InputError(f"{row_id!r} is in no data set and no stage of {run}", "copy an id from a data set row")
    if len(found) > 1:
        raise InputError(f"{row_id!r} fits {len(found)} prompts", "give more characters of the id")
    [prompt_id] = found
    steps, first = _steps(directory, manifest, prompt_id)
    rows = [
        {"dataset": name, **row} for name, row in _dataset_rows(directory, manifest) if row["prompt_id"] == prompt_id
    ]
    return Trace(prompt_id, first["source"], first["source_line"], first["source_id"], steps, rows)


def _dataset_rows(run: RunDirectory, manifest: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in manifest.datasets:
        for file in record.files:
            if file.endswith(".parquet"):
                for row in pl.read_parquet(run.path / file).iter_rows(named=True):
                    yield f"{record.format}/{Path(file).stem}", row


def _fits(row: Mapping[str, Any], wanted: str) -> Iterator[str]:
    if any(str(row.get(name) or "").startswith(wanted) for name in _IDS):
        yield row["prompt_id"]


def _in_stages(run: RunDirectory, manifest: Manifest, wanted: str) -> set[str]:
    """Prompts by their own id or a candidate's, dropped ones included."""
    found: set[str] = set()
    for record in manifest.stages:
        folder = StageFolder(run.path / record.folder)
        for frame in (folder.kept(), folder.dropped()):
            if "prompt_id" not in frame.columns:
                continue
            found |= set(frame.filter(pl.col("prompt_id").str.starts_with(wanted))["prompt_id"].to_list())
            ids = pl.col("candidates").list.eval(pl.element().struct.field("candidate_id").str.starts_with(wanted))
            found |= set(frame.filter(ids.list.any())["prompt_id"].to_list())
    return found


def _steps(run: RunDirectory, manifest: Manifest, prompt_id: str) -> tuple[list[TraceStep], dict[str, Any]]:
    steps: list[TraceStep] = []
    before: dict[str, Any] = {}
    first: dict[str, Any] = {}
    for record in manifest.stages:
        folder = StageFolder(run.path / record.folder)
        for outcome, frame in (("kept", folder.kept()), ("dropped", folder.dropped())):
            if "prompt_id" not in frame.columns:
                continue
            for row in frame.filter(pl.col("prompt_id") == prompt_id).iter_rows(named=True):
                reason = row.pop(REASON, None)
                changed = {
                    name: value for name, value in row.items() if value != before.get(name) and value not in (None, [])
                }
                steps.append(
                    TraceStep(
                        record.name, record.key, f"dropped: {reason}" if outcome == "dropped" else "kept", changed
                    )
                )
                before, first = row, first or row
    return steps, first
