"""The judge protocol, and the stage that runs any judge over the candidates of every prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import polars as pl

from fucina.factory.frames import conform
from fucina.factory.hashing import content_id
from fucina.factory.stage import Context, Outcome, StageKind
from fucina.schemas.rows import Candidate, Message, PromptRow, Verdict


@dataclass(frozen=True)
class Answer:
    """One candidate before a judge, with the prompt it answers. `text` is its response, never null."""

    prompt: str
    system: str | None
    history: tuple[Message, ...]
    language: str
    category: str | None
    text: str
    candidate: Candidate

    def messages(self) -> list[Message]:
        """The conversation up to the answer."""
        system = [Message(role="system", content=self.system)] if self.system else []
        return [*system, *self.history, Message(role="user", content=self.prompt)]


@runtime_checkable
class Judge(Protocol):
    """Pointwise judge. A frozen pydantic model, like a stage; its fields are its settings."""

    @property
    def name(self) -> str:
        """Id, the file name in judges/."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever its verdicts may."""
        ...

    @property
    def aspects(self) -> tuple[str, ...]:
        """What it judges; every answer gets one verdict for each."""
        ...

    def engine_roles(self) -> tuple[str, ...]:
        """Roles of the engines it uses."""
        ...

    def judge(self, answers: Sequence[Answer], ctx: Context) -> list[list[Verdict]]:
        """For each answer its verdicts, in order. A verdict that failed has an error, never a low score."""
        ...

    def identity(self) -> dict[str, Any]:
        """The settings that shape its verdicts."""
        ...


@dataclass(frozen=True)
class JudgeStage:
    """Runs a judge as a stage: appends verdicts to every candidate that has a response. Drops nothing."""

    judge: Judge
    kind: ClassVar[StageKind] = "map"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    adds: ClassVar[tuple[str, ...]] = ("candidates",)

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    @property
    def version(self) -> str:
        """The judge's."""
        return self.judge.version

    def engine_roles(self) -> tuple[str, ...]:
        """The judge's."""
        return self.judge.engine_roles()

    def identity(self) -> dict[str, Any]:
        """The judge's."""
        return self.judge.identity()

    def run(self, frame: pl.DataFrame, ctx: Context) -> Outcome:
        """Judge every answer of the shard in one call, so that a judge can batch.

        Rows without candidates but with a `response` are judged on it: so a judge works on any file of answers.
        """
        rows = [_with_candidates(row) for row in conform(frame, PromptRow).iter_rows(named=True)]
        answers = [
            _answer(row, candidate, candidate.response, ctx)
            for row, candidates in rows
            for candidate in candidates
            if candidate.response is not None
        ]
        verdicts = iter(self._verdicts(answers, ctx))
        column = [
            [
                (candidate if candidate.response is None else _judged(candidate, next(verdicts))).model_dump()
                for candidate in candidates
            ]
            for _, candidates in rows
        ]
        dtype = conform(frame.head(0), PromptRow).schema["candidates"]
        return Outcome.all_kept(frame.with_columns(pl.Series("candidates", column, dtype=dtype)))

    def _verdicts(self, answers: list[Answer], ctx: Context) -> list[list[Verdict]]:
        verdicts = self.judge.judge(answers, ctx)
        if len(verdicts) != len(answers):
            raise ValueError(f"judge {self.name} gave verdicts for {len(verdicts)} of {len(answers)} answers")
        return verdicts


def _with_candidates(row: dict[str, Any]) -> tuple[dict[str, Any], list[Candidate]]:
    candidates = [Candidate.model_validate(candidate) for candidate in row["candidates"]]
    if not candidates and row["response"] is not None:
        own = content_id([row["prompt_id"], "original", row["response"]])
        candidates = [Candidate(candidate_id=own, origin="original", model="source", response=row["response"])]
    return row, candidates


def _answer(row: dict[str, Any], candidate: Candidate, text: str, ctx: Context) -> Answer:
    return Answer(
        prompt=row["prompt"],
        system=row["system"],
        history=tuple(Message.model_validate(turn) for turn in row["history"]),
        language=ctx.language,
        category=row["category"],
        text=text,
        candidate=candidate,
    )


def _judged(candidate: Candidate, verdicts: list[Verdict]) -> Candidate:
    """The candidate with new verdicts; an earlier run of the same judge is replaced."""
    new = {(verdict.judge, verdict.aspect) for verdict in verdicts}
    kept = [verdict for verdict in candidate.verdicts if (verdict.judge, verdict.aspect) not in new]
    return candidate.model_copy(update={"verdicts": [*kept, *verdicts]})
