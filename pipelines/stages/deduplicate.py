"""Drop prompts that were seen before, exactly or nearly."""

import re
import unicodedata
from typing import ClassVar

import polars as pl
from pydantic import Field
from rensa import RMinHash, RMinHashLSH

from fucina.factory.stage import Context, Outcome, StageConfig, StageKind

_WORD = re.compile(r"\w+")


class Deduplicate(StageConfig):
    """Keep one prompt of each group of duplicates: exact after normalisation, then near by MinHash (rensa, full set).

    Candidates that share an LSH band are verified on their exact n-gram sets, so MinHash error never drops a row.
    Groups are connected components; the survivor is the row with the smallest `prompt_id` (a hash), so the result
    does not depend on row order.
    """

    name: ClassVar[str] = "deduplicate"
    kind: ClassVar[StageKind] = "reduce"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ()

    threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of word n-gram sets from which rows are near-duplicates"
    )
    ngram: int = Field(3, ge=1, description="words per n-gram")
    permutations: int = Field(128, ge=16, description="MinHash permutations")
    bands: int = Field(32, ge=1, description="LSH bands; must divide permutations")
    near: bool = Field(True, description="false: exact duplicates only")
    field: str = Field("prompt", description="column to compare")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Group and drop."""
        del ctx
        ids: list[str] = frame["prompt_id"].to_list()
        texts = [normalise(text or "") for text in frame[self.field].to_list()]
        exact = _first_by(texts, ids)
        reasons: list[str | None] = [
            f"exact duplicate: of {ids[exact[text]]}" if exact[text] != row else None for row, text in enumerate(texts)
        ]
        if self.near:
            survivors = [row for row, reason in enumerate(reasons) if reason is None]
            for row, (keeper, similarity) in self._near(survivors, texts, ids).items():
                reasons[row] = f"near duplicate: of {ids[keeper]} (Jaccard {similarity:.2f} to its nearest)"
        return Outcome.by_reason(frame, reasons)

    def _near(self, rows: list[int], texts: list[str], ids: list[str]) -> dict[int, tuple[int, float]]:
        """Rows to drop, each with the row kept in its place and its highest similarity inside the group."""
        grams = {row: _ngrams(texts[row], self.ngram) for row in rows}
        index = RMinHashLSH(threshold=self.threshold, num_perm=self.permutations, num_bands=self.bands)
        group = {row: row for row in rows}
        nearest: dict[int, float] = {}
        for row in rows:
            sketch = RMinHash(num_perm=self.permutations, seed=42)
            sketch.update(sorted(grams[row]))
            for other in index.query(sketch):
                similarity = _jaccard(grams[row], grams[other])
                if similarity >= self.threshold:
                    _join(group, row, other)
                    nearest[row] = max(similarity, nearest.get(row, 0.0))
                    nearest[other] = max(similarity, nearest.get(other, 0.0))
            index.insert(row, sketch)
        members: dict[int, list[int]] = {}
        for row in rows:
            members.setdefault(_root(group, row), []).append(row)
        keepers = {root: min(found, key=lambda row: ids[row]) for root, found in members.items()}
        return {
            row: (keepers[root], nearest[row])
            for root, found in members.items()
            for row in found
            if row != keepers[root]
        }


def normalise(text: str) -> str:
    """Case, Unicode form, punctuation and white space do not make a text another one."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold())) or text.strip()


def _first_by(texts: list[str], ids: list[str]) -> dict[str, int]:
    """For each text the row with the smallest id."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        if text not in first or ids[row] < ids[first[text]]:
            first[text] = row
    return first


def _ngrams(text: str, size: int) -> frozenset[str]:
    words = text.split()
    return frozenset(" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def _root(group: dict[int, int], row: int) -> int:
    while group[row] != row:
        group[row] = group[group[row]]
        row = group[row]
    return row


def _join(group: dict[int, int], left: int, right: int) -> None:
    group[_root(group, left)] = _root(group, right)


STAGE = Deduplicate
