"""Choose the answer to learn from, and a worse one to learn against."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from fucina.factory.frames import conform
from fucina.factory.stage import Context, Outcome, StageConfig, StageKind
from fucina.schemas.rows import Candidate, PromptRow, Selection

RULE = "gates-strength/1"
_GATES = ("rules.language", "rules.refusal", "rules.truncation", "rules.repetition", "rules.length")


class Select(StageConfig):
    """Gates, then strength, then a tie-break: explicit, and written to every row with its reasons.

    Chosen: of the candidates that pass every gate, the one of the strongest origin; within an origin the lowest
    `tie_break`. Rejected: of the other candidates with another text, the one that fails most gates; within those
    the weakest origin. A candidate no weaker than the chosen one and failing no gate is never rejected. A gate that
    was not judged, or whose judge failed, is not passed. A prompt where nothing passes is dropped.
    """

    name: ClassVar[str] = "select"
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt_id", "candidates")
    adds: ClassVar[tuple[str, ...]] = ("selection",)

    strength: list[str] = Field(min_length=1, description="origins, strongest first; others are not chosen")
    gates: list[str] = Field(
        default_factory=lambda: list(_GATES), description="`judge.aspect` that must be labelled pass"
    )
    rejected_from: list[str] = Field(default_factory=list[str], description="origins that may be rejected; empty: any")
    tie_break: str | None = Field(None, description="`judge.aspect` whose lower score wins within an origin")

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Select in every row."""
        del ctx
        selections: list[dict[str, Any] | None] = []
        reasons: list[str | None] = []
        for candidates in conform(frame, PromptRow)["candidates"].to_list():
            ranked = [self._ranked(Candidate.model_validate(candidate)) for candidate in candidates]
            selection = self._selection([item for item in ranked if item is not None])
            selections.append(None if selection is None else selection.model_dump())
            reasons.append(_no_choice([item for item in ranked if item is not None]) if selection is None else None)
        dtype = conform(pl.DataFrame({"prompt_id": ["x"]}), PromptRow).schema["selection"]
        return Outcome.by_reason(frame.with_columns(pl.Series("selection", selections, dtype=dtype)), reasons)

    def _ranked(self, candidate: Candidate) -> "_Ranked | None":
        """A candidate with what the rule needs; None when it has no answer."""
        if candidate.response is None:
            return None
        verdicts = {f"{verdict.judge}.{verdict.aspect}": verdict for verdict in candidate.verdicts}
        failed = tuple(gate for gate in self.gates if gate not in verdicts or verdicts[gate].label != "pass")
        tie = verdicts[self.tie_break].score if self.tie_break is not None and self.tie_break in verdicts else None
        order = self.strength.index(candidate.origin) if candidate.origin in self.strength else len(self.strength)
        return _Ranked(candidate, candidate.response.strip(), failed, order, float("inf") if tie is None else tie)

    def _selection(self, ranked: Sequence["_Ranked"]) -> Selection | None:
        eligible = [item for item in ranked if not item.failed and item.order < len(self.strength)]
        if not eligible:
            return None
        chosen = min(eligible, key=lambda item: (item.order, item.tie, item.candidate.candidate_id))
        others = [
            item
            for item in ranked
            if (item.failed or item.order > chosen.order)
            and (not self.rejected_from or item.candidate.origin in self.rejected_from)
            and item.text != chosen.text
        ]
        why = f"passes {len(self.gates)} gates, strongest origin that does: {chosen.candidate.origin}"
        if not others:
            return Selection(rule=RULE, chosen_id=chosen.candidate.candidate_id, chosen_why=why)
        worst = min(others, key=lambda item: (-len(item.failed), -item.order, item.candidate.candidate_id))
        because = f"fails {', '.join(worst.failed)}" if worst.failed else f"weaker origin: {worst.candidate.origin}"
        return Selection(
            rule=RULE,
            chosen_id=chosen.candidate.candidate_id,
            rejected_id=worst.candidate.candidate_id,
            chosen_why=why,
            rejected_why=because,
        )


@dataclass(frozen=True)
class _Ranked:
    """A candidate, its answer without the space around it, the gates it fails, its place in strength, its tie-break."""

    candidate: Candidate
    text: str
    failed: tuple[str, ...]
    order: int
    tie: float


def _no_choice(ranked: Sequence[_Ranked]) -> str:
    failed = Counter(gate for item in ranked for gate in item.failed)
    told = ", ".join(f"{gate} {count}" for gate, count in sorted(failed.items()))
    return f"no candidate passes the gates: {told or 'no answer of an origin in strength'} of {len(ranked)}"


STAGE = Select
