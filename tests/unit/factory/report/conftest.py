"""A small run directory, written by the functions that write real ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from fucina.factory.datasets import build_formats, write_dataset
from fucina.factory.frames import frame_of
from fucina.factory.hashing import content_id
from fucina.factory.rundir import RunDirectory, new_manifest
from fucina.factory.stage import Context, Outcome
from fucina.factory.store import Counts, StageFolder
from fucina.schemas.generation import EngineCard
from fucina.schemas.manifest import Manifest, StageRecord
from fucina.schemas.recipe import Recipe
from fucina.schemas.rows import Candidate, PromptRow, Selection, Split, Verdict

ENGINES = {
    "teacher": EngineCard(
        engine="replay", model="recorded-good", notes="answers written for this project, played back"
    ),
    "student": EngineCard(
        engine="replay", model="recorded-weak", notes="answers written for this project, played back"
    ),
    "scorer": EngineCard(engine="nano", model="nano-a", revision="0123456789abcdef", notes="a nano model"),
}


@dataclass(frozen=True)
class Asked:
    """A prompt of the run, what teacher and student answer, and where it is dropped, if it is."""

    prompt: str
    good: str
    weak: str
    category: str = "consigli"
    language: str = "it"
    drop: str | None = None


ASKED = (
    Asked("Come si conserva il basilico?", "In un bicchiere d'acqua, a temperatura ambiente.", "In frigorifero."),
    Asked(
        "Che cos'è un sonetto?", "Quattordici endecasillabi: due quartine e due terzine.", "It is a poem.", "cultura"
    ),
    Asked("Quanto fa 17 per 3?", "Fa 51: 17 per 3 è 10 per 3 più 7 per 3.", "Mi dispiace, non posso.", "matematica"),
    Asked("Traduci «good evening».", "Si dice «buonasera».", "Si dice «buongiorno», e si usa la", "traduzione"),
    Asked("Come saluto un professore?", "Con «buongiorno, professore».", "Ciao.", "cultura"),
    Asked("What is a sonnet?", "…", "…", "cultura", "en", "language: en"),
    Asked("Come conservo il basilico?", "…", "…", "consigli", "it", "duplicate: of another prompt"),
    Asked("Dimmi tutto.", "Tutto che cosa?", "Non so.", "consigli", "it", "no candidate passes"),
)


def rules(text: str) -> list[Verdict]:
    """Verdicts as the judge `rules` gives them; the rules themselves are not under test here."""
    cut = not text.endswith((".", "!", "?"))
    refused = text.startswith("Mi dispiace")
    english = " is " in text or "the " in text
    found = {"truncation": cut, "refusal": refused, "language": english}
    return [
        Verdict(
            judge="rules", version="1", aspect=aspect, score=float(not bad), label="fail" if bad else "pass",
            rationale=f"{aspect} rule broken" if bad else None,
        )
        for aspect, bad in found.items()
    ]  # fmt: skip


def perplexity(text: str) -> list[Verdict]:
    """Scores that differ from text to text and do not change from run to run."""
    nll = 1 + int(content_id(text)[:4], 16) / 0xFFFF * 2
    figures = {"nll": nll, "bits_per_char": nll / 2}
    return [Verdict(judge="perplexity", version="1", aspect=name, score=value) for name, value in figures.items()]


def prompt_row(number: int, asked: Asked) -> PromptRow:
    """A prompt with its judged candidates; the selection takes the teacher's answer over the student's."""
    prompt_id = content_id([number, asked.prompt])
    split: Split = "test" if number % 5 == 4 else "train"
    candidates = [
        Candidate(
            candidate_id=content_id([prompt_id, origin, text]), origin=origin, model=ENGINES[origin].model,
            response=text, finish_reason="stop", completion_tokens=len(text.split()),
            verdicts=[*rules(text), *perplexity(text)],
        )
        for origin, text in (("teacher", asked.good), ("student", asked.weak))
    ]  # fmt: skip
    selection = None
    if asked.drop is None:
        selection = Selection(
            rule="gates_then_score 1", chosen_id=candidates[0].candidate_id, rejected_id=candidates[1].candidate_id,
            chosen_why="passes every rule", rejected_why="less likely",
        )  # fmt: skip
    return PromptRow(
        prompt_id=prompt_id, prompt=asked.prompt, source="semi.jsonl", source_line=number + 1, split=split,
        language=asked.language, category=asked.category, candidates=candidates, selection=selection,
    )  # fmt: skip


class Builder:
    """Writes stages one after the other, as the runner does."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.run = RunDirectory(path)
        self.run.claim(recipe)
        self.manifest = new_manifest(recipe)

    def stage(self, name: str, outcomes: Sequence[Outcome], engines: Sequence[str] = (), tokens: int = 0) -> None:
        """Write a stage's folder and its record."""
        number = len(self.manifest.stages) + 1
        folder = StageFolder(self.run.stages / f"{number:02d}-{name}-{content_id(name)}")
        folder.start(4)
        counts = Counts()
        for index, outcome in enumerate(outcomes):
            folder.write(index, outcome)
            counts.add(Counts.of(outcome))
        record = StageRecord(
            name=name, key=content_id(name), folder=f"stages/{folder.path.name}", rows_in=counts.rows_in,
            rows_kept=counts.rows_kept, dropped=dict(counts.dropped), requests=2 * counts.rows_in if tokens else 0,
            prompt_tokens=tokens, completion_tokens=3 * tokens, seconds=0.5 * number,
            engines={role: ENGINES[role] for role in engines},
        )  # fmt: skip
        folder.finish(record.model_dump(mode="json"))
        self.save({"stages": [*self.manifest.stages, record]})

    def datasets(self, recipe: Recipe, rows: pl.DataFrame) -> None:
        """Write the recipe's data sets from selected rows."""
        ctx = Context(recipe.language, recipe.seed)
        records = [write_dataset(self.run, maker, rows, ctx) for maker in build_formats(recipe)]
        self.save({"datasets": records})

    def save(self, update: dict) -> None:
        """Write the manifest with some fields replaced."""
        self.manifest = self.manifest.model_copy(update=update)
        self.run.write_manifest(self.manifest)


def write_stages(builder: Builder, rows: list[PromptRow], drops: list[str | None]) -> pl.DataFrame:
    """collect → language → deduplicate → regenerate → rules → perplexity → select; returns what is left."""
    frame = frame_of(rows, PromptRow)
    bare = frame.with_columns(
        pl.lit([], dtype=frame.schema["candidates"]).alias("candidates"),
        pl.lit(None, dtype=frame.schema["selection"]).alias("selection"),
    )
    half = frame.height // 2
    unread = pl.DataFrame(
        {"source": ["semi.jsonl"], "source_line": [99], "raw": ["{"], "reason": ["not JSON: line 99"]}
    )
    parts = [bare.head(half), bare.slice(half)]
    empty = unread.clear()
    builder.stage("collect", [Outcome(parts[0], unread), Outcome(parts[1], empty)])
    reason = pl.Series("reason", drops, dtype=pl.String)
    for name, prefix in (("language", "language"), ("deduplicate", "duplicate")):
        alive = bare.join(frame.select("prompt_id"), on="prompt_id", how="semi", maintain_order="left")
        gone = [r if r is not None and r.startswith(prefix) else None for r in reason]
        outcome = Outcome.by_reason(alive, gone)
        builder.stage(name, [outcome])
        left = pl.Series([r is None for r in gone])
        frame, reason = frame.filter(left), reason.filter(left)
    unselected = frame.with_columns(pl.lit(None, dtype=frame.schema["selection"]).alias("selection"))
    builder.stage("regenerate", [Outcome.all_kept(unselected)], ("teacher", "student"), tokens=1_200)
    builder.stage("rules", [Outcome.all_kept(unselected)])
    builder.stage("perplexity", [Outcome.all_kept(unselected)], ("scorer",))
    outcome = Outcome.by_reason(frame, reason)
    builder.stage("select", [outcome])
    return outcome.kept


def make_run(path: Path, asked: Sequence[Asked] = ASKED, description: str = "Una prova.") -> RunDirectory:
    """A whole run, but for training."""
    recipe = Recipe.model_validate(
        {
            "name": "prova", "description": description, "license": "cc-by-4.0",
            "engines": {role: {"engine": card.engine} for role, card in ENGINES.items()},
            "stages": ["collect", "language", "deduplicate", "regenerate", "rules", "perplexity", "select"],
            "formats": ["sft", "dpo", "kto", "grpo"],
        }
    )  # fmt: skip
    builder = Builder(path, recipe)
    rows = [prompt_row(number, item) for number, item in enumerate(asked)]
    builder.datasets(recipe, write_stages(builder, rows, [item.drop for item in asked]))
    builder.run.release()
    return builder.run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> RunDirectory:
    """A finished run that tests only read."""
    return make_run(tmp_path_factory.mktemp("runs") / "prova")


@pytest.fixture
def manifest(finished) -> Manifest:
    """Its manifest."""
    return finished.manifest()


@pytest.fixture
def asked() -> type[Asked]:
    """Makes prompts for `make`."""
    return Asked


@pytest.fixture
def make(tmp_path) -> Callable[..., RunDirectory]:
    """Makes a run of other prompts."""
    return partial(make_run, tmp_path / "run")


@pytest.fixture
def builder(tmp_path) -> Builder:
    """A run of one stage, to be gone on with."""
    recipe = Recipe.model_validate({"name": "appena-iniziata", "stages": ["collect"]})
    started = Builder(tmp_path / "run", recipe)
    started.stage("collect", [Outcome.all_kept(frame_of([], PromptRow))])
    started.run.release()
    return started
