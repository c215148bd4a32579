"""The held-out rows of a run: what an evaluation reads, and its content address. Loads no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fucina.factory.errors import InputError
from fucina.factory.hashing import content_id
from fucina.train.models import ModelFolder
from fucina.train.rows import EmptySplitError, Rows, read_rows

RECORD = "evaluation.json"
# Part of every key: raise it when the same rows would give other figures.
VERSION = "1"


@dataclass(frozen=True)
class HeldOut:
    """Test splits of the SFT and the DPO set; None where there is none, and `notes` says why."""

    sft: Rows | None
    dpo: Rows | None
    notes: list[str]


def read_held_out(data: Path) -> HeldOut:
    """Test splits below a run directory, or below its `datasets` folder.

    Raises:
        InputError: neither set has held-out rows, or one cannot be read.
    """
    folder = data / "datasets" if (data / "datasets").is_dir() else data
    notes: list[str] = []
    sft, dpo = _test_split(folder, "sft", notes), _test_split(folder, "dpo", notes)
    if sft is None and dpo is None:
        raise InputError(f"nothing to evaluate on: {'; '.join(notes)}", "hold rows out: see the recipe's test share")
    return HeldOut(sft, dpo, notes)


def evaluation_key(models: Sequence[tuple[str, ModelFolder]], rows: HeldOut, language: str) -> str:
    """Content address of an evaluation; the first model is the base."""
    digests = [part.digest if part is not None else None for part in (rows.sft, rows.dpo)]
    return content_id([VERSION, language, [[name, model.digest] for name, model in models], digests])


def _test_split(folder: Path, method: Literal["sft", "dpo"], notes: list[str]) -> Rows | None:
    if not (folder / method).is_dir():
        notes.append(f"no {method} set in {folder.name}/")
        return None
    try:
        return read_rows(folder / method, method, "test")
    except EmptySplitError:
        notes.append(f"the {method} set has no held-out rows")
        return None
