"""Any stage alone, on a file: fields it does not know pass through untouched, dropped rows go beside the output."""

import gzip
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fucina.factory.asking import AnswerLog, ask
from fucina.factory.engines.base import EngineBook
from fucina.factory.errors import InputError
from fucina.factory.frames import (
    REASON,
    conform,
    frame_of,
    jsonl_bytes,
    stem_of,
    suffix_of,
    write_atomic,
    write_frame,
)
from fucina.factory.hashing import canonical_json, content_id
from fucina.factory.progress import SILENT, Progress
from fucina.factory.recipes import build_step
from fucina.factory.runner import checked
from fucina.factory.shapes import Shaped, ShapeError, shape_of, source_id_of
from fucina.factory.sources import Record, Reject, read_file
from fucina.factory.stage import Context, GenerateStage, Outcome
from fucina.schemas.recipe import Step
from fucina.schemas.rows import PromptRow

_MAX_ROW_BYTES = 100_000_000


@dataclass(frozen=True)
class Summary:
    """What a stage did to a file."""

    rows_in: int
    kept: int
    dropped: dict[str, int]
    seconds: float
    out: Path
    dropped_file: Path | None


@dataclass(frozen=True)
class _Input:
    """One record: as it was, as a row, and the field each of our columns came from."""

    fields: dict[str, Any]
    row: PromptRow
    homes: Mapping[str, str]


def run_alone(
    name: str,
    path: Path,
    out: Path,
    config: Mapping[str, Any],
    engines: Mapping[str, Mapping[str, Any]],
    ctx_settings: Mapping[str, Any],
    progress: Progress = SILENT,
) -> Summary:
    """Run stage `name` over the records of `path` and write those it keeps to `out`.

    A record keeps its fields and their order; the stage's columns are changed where they came from, or added.
    Records that cannot be read, and rows the stage drops, go to `<out stem>.dropped<suffix>` with a `reason`.

    Raises:
        InputError: a file that cannot be read, or whose name does not say its format.
        RecipeError: a setting that the stage does not know.
    """
    started = time.monotonic()
    suffix_of(out)
    settings = {"paths": [str(path)], **config} if name == "collect" else dict(config)
    stage = build_step(Step(name=name, config=settings), f"stage {name}")
    ctx = Context(engines=EngineBook(engines), progress=progress, **ctx_settings)
    try:
        ctx.engines.prepare(stage.engine_roles(), progress)
        if stage.kind == "source":
            kept, dropped = _collect(stage, ctx)
        else:
            kept, dropped = _transform(stage, path, out, ctx)
    finally:
        ctx.engines.close()
    _write(kept, out)
    dropped_file = out.with_name(f"{stem_of(out)}.dropped{suffix_of(out)}")
    dropped_file.unlink(missing_ok=True)
    if dropped:
        _write(dropped, dropped_file)
    reasons = Counter(str(row[REASON]).partition(":")[0] for row in dropped)
    seconds = round(time.monotonic() - started, 3)
    total = len(kept) + len(dropped)
    return Summary(total, len(kept), dict(sorted(reasons.items())), seconds, out, dropped_file if dropped else None)


def _collect(stage: Any, ctx: Context) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for outcome in stage.read(4_096, ctx):
        kept.extend(outcome.kept.iter_rows(named=True))
        dropped.extend(outcome.dropped.iter_rows(named=True))
    return kept, dropped


def _transform(stage: Any, path: Path, out: Path, ctx: Context) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    inputs, rejects = _read(path)
    if not inputs:
        raise InputError(
            f"{path.name}: no usable record: {rejects[0][REASON]}", "see `fucina stage --help` for the shapes"
        )
    frame = frame_of([item.row for item in inputs], PromptRow)
    outcome = _generated(stage, frame, out, ctx) if stage.kind == "generate" else stage.run(frame, ctx)
    outcome = checked(stage, frame, outcome)
    if "candidates" in stage.adds and outcome.kept.height and outcome.kept["candidates"].list.len().sum() == 0:
        raise InputError(
            f"{path.name}: no record has an answer for stage {stage.name} to judge",
            "give the answer as response, completion, answer, output or the last assistant turn",
        )
    by_id = {item.row.prompt_id: item for item in inputs}
    kept = [_back(by_id[row["prompt_id"]], row, stage.adds) for row in outcome.kept.iter_rows(named=True)]
    dropped = [
        {**_back(by_id[row["prompt_id"]], row, stage.adds), REASON: _told(row[REASON], by_id)}
        for row in outcome.dropped.iter_rows(named=True)
    ]
    return kept, [*rejects, *dropped]


def _told(reason: str, by_id: Mapping[str, "_Input"]) -> str:
    """The reason with our row ids replaced by what the reader of this file knows: its own ids, or its lines."""

    def name(found: re.Match[str]) -> str:
        item = by_id.get(found.group())
        return found.group() if item is None else item.row.source_id or f"line {item.row.source_line}"

    return re.sub(r"\b[0-9a-f]{16}\b", name, reason)


def _generated(stage: GenerateStage, frame: pl.DataFrame, out: Path, ctx: Context) -> Outcome:
    """Ask with a log beside the output, so that a killed call goes on where it stopped."""
    log_path = out.with_name(f"{stem_of(out)}.answers.jsonl")
    with AnswerLog(log_path) as log:
        for role, requests in stage.requests(frame, ctx).items():
            with ctx.progress.task(f"{stage.name} {role}", len(requests), "answers") as advance:
                ask(ctx.engine(role), requests, log, advance)
        return stage.absorb(frame, log.results, ctx)


def _read(path: Path) -> tuple[list[_Input], list[dict[str, Any]]]:
    inputs: list[_Input] = []
    rejects: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    for record in read_file(path, _MAX_ROW_BYTES):
        if isinstance(record, Reject):
            rejects.append(
                {"source": record.source, "source_line": record.line, "raw": record.raw, REASON: record.reason}
            )
            continue
        try:
            inputs.append(_input(record, shape_of(record.fields), seen))
        except (ShapeError, ValueError) as error:
            rejects.append({**record.fields, "source_line": record.line, REASON: str(error)})
    return inputs, rejects


def _input(record: Record, shaped: Shaped, seen: Counter[str]) -> _Input:
    """The record as a row. Columns of ours that the record has (language, candidates, …) are taken over."""
    key = content_id([shaped.system, shaped.prompt, shaped.response, canonical_json(_known(record.fields))])
    seen[key] += 1
    row = PromptRow.model_validate(
        {
            **_known(record.fields),
            "prompt_id": content_id([key, seen[key]]),
            "prompt": shaped.prompt,
            "system": shaped.system,
            "history": shaped.history,
            "response": shaped.response,
            "source": record.source,
            "source_line": record.line,
            "source_id": source_id_of(record.fields),
        }
    )
    return _Input(record.fields, row, shaped.homes)


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The record's fields that are columns of ours and not read from its shape."""
    types = {"language": str, "category": str, "candidates": list, "selection": dict}
    return {name: fields[name] for name, kind in types.items() if isinstance(fields.get(name), kind)}


def _back(item: _Input, row: Mapping[str, Any], adds: tuple[str, ...]) -> dict[str, Any]:
    """The record with the stage's columns: in the field they came from, or under their own name."""
    fields = dict(item.fields)
    before = item.row.model_dump()
    for name in adds:
        home = item.homes.get(name, name)
        added = home not in fields and row[name] not in (None, [])
        if added or row[name] != before[name]:
            fields[home] = row[name]
    return fields


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """JSON lines as the records are; a table needs one type a column, so mixed ones become text there."""
    if ".jsonl" in suffix_of(path):
        data = jsonl_bytes(rows)
        write_atomic(path, gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)
        return
    empty = conform(pl.DataFrame(), PromptRow).head(0)
    write_frame(pl.DataFrame(rows, infer_schema_length=None, strict=False) if rows else empty, path)
