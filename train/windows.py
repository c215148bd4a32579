"""KTO's order rule. TRL samples in sequence and pairs each prompt with its neighbour's answer inside the batch.

It estimates the KL term from the mismatched pairs (prompt i, answer i-1) of each per-device batch, and nothing
shuffles (seen in trl 1.16). So the order of the rows is part of the set: a batch in which one prompt stands twice
takes a matched answer for a mismatched one, and a batch of one label has only half of the loss.
"""

from collections.abc import Sequence

import polars as pl

from fucina.factory.errors import InputError
from fucina.factory.hashing import canonical_json


def in_sound_batches(frame: pl.DataFrame, size: int) -> tuple[pl.DataFrame, list[str]]:
    """KTO rows without a last batch that would be unsound, and a note if there is one.

    Raises:
        InputError: another batch of `size` rows is unsound.
    """
    prompts = [canonical_json(prompt) for prompt in frame["prompt"].to_list()]
    usable = usable_rows(frame["label"].to_list(), prompts, size)
    left_out = frame.height - usable
    notes = [f"the last {left_out} of {frame.height} rows left out: they form no sound batch"] if left_out else []
    return frame.head(usable), notes


def usable_rows(labels: Sequence[bool], prompts: Sequence[str], size: int) -> int:
    """How many rows from the start form sound batches of `size`: all, or all but an unsound, shorter last batch.

    Raises:
        InputError: a whole batch has one label only, or a prompt twice; the message names its rows.
    """
    whole = len(labels) // size * size
    for start in range(0, whole, size):
        fault = _fault(labels[start : start + size], prompts[start : start + size])
        if fault is not None:
            raise InputError(
                f"KTO rows {start + 1} to {start + size} are one batch and hold {fault}",
                "set kto.batch_size to the `window` the set was written with (4), or write the set anew",
            )
    tail = _fault(labels[whole:], prompts[whole:]) if whole < len(labels) else None
    if tail is None:
        return len(labels)
    if whole == 0:
        raise InputError(f"{len(labels)} KTO rows are less than one batch of {size} and hold {tail}")
    return whole


def whole_windows(fits: Sequence[bool], size: int) -> list[bool]:
    """Keep a row only if every row of its window of `size` fits, so that the other windows stay as they are."""
    return [all(fits[index // size * size : index // size * size + size]) for index in range(len(fits))]


def _fault(labels: Sequence[bool], prompts: Sequence[str]) -> str | None:
    if len(labels) < 2:
        return "a single row, which has no neighbour"
    if len(set(labels)) < 2:
        return f"only `{str(labels[0]).lower()}` labels"
    if len(set(prompts)) < len(prompts):
        return "one prompt twice"
    return None
